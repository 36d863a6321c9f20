"""Reading a finished run: the names of the files that inference needs, and a checked reader of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gatewise.errors import RunError
from gatewise.files import file_hash
from gatewise.runtime.intervals import Intervals
from gatewise.runtime.lexicon import Lexicon
from gatewise.runtime.parts import Labels, Scaling, is_size, read_scaling
from gatewise.runtime.sealed import Header
from gatewise.runtime.settings import place_of_key, read_settings
from gatewise.runtime.vocabulary import Vocabulary
from gatewise.runtime.weights_file import Arrays, check_parts, read_arrays, read_weights_header

R = TypeVar("R", bound="RunReader")


class RunReader:
    """Paths and readers of the files of one run.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.config_file = self.path / "config.toml"
        self.weights_file = self.path / "model.safetensors"
        self.tokenizer_file = self.path / "tokenizer.json"
        self.characters_file = self.path / "characters.json"
        self.labels_file = self.path / "labels.json"
        self.scaling_file = self.path / "scaling.json"
        self.intervals_file = self.path / "intervals.json"
        self.parts = (self.tokenizer_file, self.characters_file, self.labels_file, self.scaling_file)

    @classmethod
    def existing(cls: type[R], path: str | Path) -> R:
        """Return the folder of an existing run.

        Raises:
            RunError: the folder does not exist, or does not contain a run.
        """
        run = cls(path)
        try:
            if not run.path.is_dir():
                what = "a file" if run.path.exists() else "no such folder"
                raise RunError(f"{run.path}: {what}; expected a run folder created by gatewise train")
            if not run.config_file.is_file():
                raise RunError(
                    f"{run.path}: no config.toml in this folder; expected a run folder created by gatewise train"
                )
        except OSError as problem:
            raise RunError(
                f"{run.path}: cannot read it ({problem.strerror}); expected a run folder created by gatewise train"
            ) from None
        return run

    def read_settings(self) -> dict[str, Any]:
        """Return all settings of ``config.toml`` by dotted key, such as ``model.hidden_size``.

        Training has validated them, and ``open_weights`` compares those that define the model with the weights.

        Raises:
            RunError: the file is missing or invalid (with line).
        """
        return read_settings(self.config_file)

    def open_weights(self, settings: Mapping[str, Any] | None = None) -> Header:
        """Read the header of ``model.safetensors``, and check that the files next to it belong to it.

        Args:
            settings: the settings, by dotted key, that must match the weights; None skips this check.

        Raises:
            RunError: the file is missing, damaged, of a newer format, or does not match the other files or settings.
        """
        header = read_weights_header(self.weights_file)
        check_parts(self.weights_file, header, self.parts)
        trained_with = header.facts.get("config")
        if settings is not None and isinstance(trained_with, dict):
            for key, value in settings.items():
                if trained_with.get(key, value) != value:
                    raise RunError(
                        f"{place_of_key(self.config_file, key)}: {key} is {value!r}, but the weights were trained with "
                        f"{trained_with[key]!r:.100}; restore that value, or train again"
                    )
        layers = (settings or {}).get("model.num_layers")
        if isinstance(layers, int) and layers > len(header.shapes):
            raise RunError(
                f"{self.config_file}: model.num_layers is {layers}, but {self.weights_file.name} holds "
                f"{len(header.shapes)} arrays in all; the files are from different runs"
            )
        return header

    def read_weights(
        self, expected: Mapping[str, Sequence[int]], header: Header | None = None
    ) -> tuple[Arrays, Mapping[str, Any]]:
        """Read ``model.safetensors``, checking every name and shape first, then the hash.

        Args:
            expected: the shape of each array by name.
            header: the result of ``open_weights``, if it was called already.

        Returns:
            The arrays by name, and the metadata saved with them.

        Raises:
            RunError: the file is missing or damaged, has other names, shapes or types, or holds non-finite numbers.
        """
        header = header or self.open_weights()
        return read_arrays(self.weights_file, header, expected), header.facts

    def read_vocabulary(self, level: str) -> Vocabulary:
        """Read a language model's ``tokenizer.json``; ``level`` is the value of ``data.level``.

        Raises:
            RunError: the file is missing or invalid, or has another level.
        """
        return Vocabulary.load(self.tokenizer_file, level)

    def read_words(self) -> tuple[Lexicon, Lexicon]:
        """Read ``tokenizer.json`` and ``characters.json``: the words of a tagger or text classifier, their characters.

        Raises:
            RunError: a file is missing or invalid.
        """
        return Lexicon.load(self.tokenizer_file), Lexicon.load(self.characters_file)

    def read_labels(self, *needed: str) -> Labels:
        """Read ``labels.json``; ``needed`` lists the keys that it must contain in addition to ``labels``.

        Raises:
            RunError: the file is missing or invalid.
        """
        return Labels.read(self.labels_file, *needed)

    def read_names(self, *needed: str) -> list[str]:
        """Return the labels of ``labels.json``, which must be names; ``needed`` is that of ``read_labels``.

        Raises:
            RunError: the file is missing or invalid, or its labels are numbers.
        """
        labels = self.read_labels(*needed).labels
        names = [label for label in labels if isinstance(label, str)]
        if len(names) < len(labels):
            raise RunError(
                f"{self.labels_file}: 'labels' are numbers; expected names: the file is from another task's run"
            )
        return names

    def read_scaling(self) -> tuple[int, Scaling]:
        """Read ``scaling.json``; return I, the number of inputs per step, and the standardization.

        Raises:
            RunError: the file is missing or invalid.
        """
        return read_scaling(self.scaling_file)

    def read_forecaster(self, window: object, horizon: object) -> tuple[int, Scaling, int]:
        """Read ``scaling.json``; return I, the standardization, and W, the steps that a forecaster reads, else 0.

        Args:
            window: the setting ``data.window``.
            horizon: the setting ``data.horizon``, that of the model.

        Raises:
            RunError: the file is missing or invalid, or does not belong to these settings.
        """
        size, scaling = self.read_scaling()
        if not scaling.columns:
            return size, scaling, 0
        if scaling.horizon != horizon or not is_size(window):
            raise RunError(
                f"{self.config_file}: data.window is {window!r} and data.horizon {horizon!r}, but the model predicts "
                f"{scaling.horizon} values from each window; restore the file, or train a run of an earlier version "
                "again"
            )
        assert isinstance(window, int)
        return size, scaling, window

    def check_tied(self, same: bool) -> None:
        """Check that the matrices of a model with tied weights, as far as ``config.toml`` says, are the same.

        Raises:
            RunError: they are not.
        """
        if not same:
            raise RunError(
                f"{place_of_key(self.config_file, 'model.tie_weights')}: model.tie_weights is true, but "
                f"{self.weights_file.name} holds two different matrices; set it to false"
            )

    def read_intervals(self, horizon: int) -> Intervals | None:
        """Read ``intervals.json``, which is written when training ends and holds the hash of the weights.

        Args:
            horizon: H, the number of values that the model predicts.

        Returns:
            The intervals, or None if there are none: the run is not finished, or comes from an earlier version, or
            another program wrote the weights.

        Raises:
            RunError: the file is invalid, or of other weights.
        """
        there = self.intervals_file.exists() or self.intervals_file.is_symlink()
        if not there or not read_weights_header(self.weights_file).sealed:
            return None
        found = Intervals.read(self.intervals_file, horizon)
        weights = file_hash(self.weights_file, "the run's weights: restore the file, or train again", RunError)
        if found.weights != weights:
            raise RunError(
                f"{self.intervals_file}: of other weights than {self.weights_file.name}; restore it, or train again"
            )
        return found
