"""A run folder: the names of its files, and how each is written and read."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gatewise.artifact.atomic import part_of, write_atomically
from gatewise.artifact.history import History
from gatewise.artifact.history import Metrics as Metrics
from gatewise.artifact.history import to_json as to_json
from gatewise.artifact.lock import HOLDER, LOCK, check_unlocked, locked
from gatewise.artifact.parts import Labels, Scaling, read_scaling
from gatewise.artifact.sealed import Header
from gatewise.artifact.weights_file import Arrays, check_parts, digests, read_arrays, read_weights_header, write_arrays
from gatewise.config import Config, load_config, place_of_key, to_toml
from gatewise.errors import DataError, RunError, UsageError

_WRITTEN = (
    r"config\.toml|model\.safetensors|(tokenizer|characters|labels|scaling)\.json|metrics\.jsonl|README\.md|"
    r"traceback\.txt|\.holder|step-\d{10}\.safetensors|confusion\.(csv|png)"
)
"""What is written atomically into a run folder, ``checkpoints`` and ``figures`` included."""
_PROBE = ".gatewise-probe"
"""A file by which earlier versions tried whether a folder can be written."""


class RunFolder:
    """The paths inside one run, and how they are read and written.

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
        self.parts = (self.tokenizer_file, self.characters_file, self.labels_file, self.scaling_file)
        self.metrics_file = self.path / "metrics.jsonl"
        self.card_file = self.path / "README.md"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.figures = self.path / "figures"
        self.traceback_file = self.path / "traceback.txt"

    @classmethod
    def existing(cls, path: str | Path) -> "RunFolder":
        """Return the folder of a run that is there.

        Raises:
            RunError: there is no such folder, or it holds no run.
        """
        run = cls(path)
        try:
            if not run.path.is_dir():
                what = "a file" if run.path.exists() else "no such folder"
                raise RunError(f"{run.path}: {what}; expected a run folder, as gatewise train writes it")
            if not run.config_file.is_file():
                raise RunError(f"{run.path}: no config.toml inside; expected a run folder, as gatewise train writes it")
        except OSError as problem:
            raise RunError(
                f"{run.path}: cannot be read ({problem.strerror}); expected a run folder, as gatewise train writes it"
            ) from None
        return run

    def check_free(self, *, resume: bool) -> None:
        """Check, writing nothing, that a new run may go here, or that a run is here to be resumed.

        What a process leaves that is killed before it has written ``config.toml`` does not count.

        Raises:
            UsageError: the folder is in use, holds another run or other files, or is no folder.
        """
        check_unlocked(self.path)
        self._check_contents(resume)

    def _check_contents(self, resume: bool) -> None:
        try:
            inside = {entry.name for entry in self.path.iterdir()} if self.path.exists() else set()
        except OSError as problem:
            raise UsageError(
                f"{self.path}: cannot be a run folder ({problem.strerror}); choose another --out"
            ) from None
        if self.config_file.name in inside:
            if resume:
                return
            raise UsageError(f"{self.path} holds another run; add --resume to go on with it, or choose another --out")
        if any(not self._is_left_over(name) for name in inside - {LOCK, HOLDER, self.traceback_file.name}):
            raise UsageError(f"{self.path} is not empty and holds no run; choose a new or empty folder for --out")

    @contextmanager
    def claim(self, *, resume: bool) -> Iterator[bool]:
        """Make the folder, and hold its lock within the block; first sweep away what killed processes left there.

        Yields:
            Whether the file system has locks; where it has none, another process is not kept out.

        Raises:
            UsageError: the folder cannot be written, or is not free (see ``check_free``).
        """
        with ExitStack() as held:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                has_locks = held.enter_context(locked(self.path))
                self._check_contents(resume)  # once more, as another run may have come here, and ended, since
                self._sweep()
            except OSError as problem:
                raise UsageError(
                    f"{self.path}: cannot write there ({problem.strerror}); choose another --out"
                ) from None
            yield has_locks

    def _sweep(self) -> None:
        """Remove the hidden files that are ours and that nobody writes to any more."""
        for folder in (self.path, self.checkpoints, self.figures):
            for path in folder.iterdir() if folder.is_dir() else ():
                if self._is_left_over(path.name) and not path.is_dir():
                    path.unlink(missing_ok=True)

    @staticmethod
    def _is_left_over(name: str) -> bool:
        """Whether a hidden file is one that this program, killed in the middle, leaves in a run folder."""
        return name == _PROBE or re.fullmatch(_WRITTEN, part_of(name) or "") is not None

    def read_config(self) -> Config:
        """Read ``config.toml``.

        Raises:
            RunError: with file and line.
        """
        return load_config(self.config_file, error=RunError)

    def write_config(self, config: Config) -> None:
        """Write ``config.toml``, every key stated."""
        write_atomically(self.config_file, to_toml(config))

    def open_weights(self, config: Config | None = None) -> Header:
        """Read what ``model.safetensors`` says before its numbers, and check that the files beside it belong to it.

        Args:
            config: what must not contradict the weights; not compared where not given.

        Raises:
            RunError: it is missing, damaged, of a newer format, or written for other files or another configuration.
        """
        header = read_weights_header(self.weights_file)
        check_parts(self.weights_file, header, self.parts)
        trained_with = header.facts.get("config")
        if config and isinstance(trained_with, dict):
            for key, value in config.meaning().items():
                if trained_with.get(key, value) != value:
                    raise RunError(
                        f"{place_of_key(self.config_file, key)}: {key} is {value!r}, but the weights were trained with "
                        f"{trained_with[key]!r:.100}; put that back, or train again"
                    )
        return header

    def read_weights(
        self, expected: Mapping[str, Sequence[int]], header: Header | None = None
    ) -> tuple[Arrays, Mapping[str, Any]]:
        """Read ``model.safetensors`` and check its hash, and every name and shape before that.

        Args:
            expected: the shape of each array by its name.
            header: what ``open_weights`` returned, where it was called.

        Returns:
            The arrays by name, and the facts that were saved with them.

        Raises:
            RunError: the file is missing, damaged, or holds other names, shapes or types, or no finite numbers.
        """
        header = header or self.open_weights()
        return read_arrays(self.weights_file, header, expected), header.facts

    def write_weights(self, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Write ``model.safetensors``, sealed with the facts and with the hashes of the files beside it as they lie."""
        write_arrays(self.weights_file, arrays, facts, self.parts)

    def reseal_weights(self, expected: Mapping[str, Sequence[int]], *, write: bool) -> Mapping[str, Any]:
        """Read ``model.safetensors`` whatever lies beside it, and seal it with the files that training wrote anew.

        Args:
            expected: the shape of each array by its name.
            write: whether this process writes; others only read.

        Returns:
            The facts that were saved with the weights.

        Raises:
            RunError: the file is missing, damaged, or holds other names, shapes or types, or no finite numbers.
        """
        header = read_weights_header(self.weights_file)
        arrays = read_arrays(self.weights_file, header, expected)
        facts = {key: value for key, value in header.facts.items() if key not in ("format", "files")}
        if write and header.sealed and header.facts.get("files") != digests(self.parts):
            self.write_weights(arrays, facts)
        return facts

    def read_labels(self, *needed: str) -> Labels:
        """Read ``labels.json``; ``needed`` names what must be in it beside the labels.

        Raises:
            RunError: it is missing or not as it should be.
        """
        return Labels.read(self.labels_file, *needed)

    def read_scaling(self) -> tuple[int, Scaling]:
        """Read ``scaling.json``; return I, the numbers in each step, and the standardisation.

        Raises:
            RunError: it is missing or not as it should be.
        """
        return read_scaling(self.scaling_file)

    def write_metrics(self, lines: Sequence[Metrics]) -> None:
        """Write ``metrics.jsonl``, one JSON object a line."""
        write_atomically(self.metrics_file, "".join(to_json(line) + "\n" for line in lines))

    def read_history(self, task: str | None = None) -> History:
        """Read ``metrics.jsonl``, of a run of a task where one is named; a run that has not finished an epoch has none.

        Raises:
            RunError: a line is damaged, out of its place, or of another task (with line).
        """
        return History.read(self.metrics_file, task)

    def read_metrics(self) -> list[Metrics]:
        """Read the lines of ``metrics.jsonl``, as ``read_history`` does."""
        return self.read_history().lines


@contextmanager
def reading_for(run: RunFolder, data: str | Path | None, option: str = "--data") -> Iterator[None]:
    """Within the block data is read to evaluate a run: its own, where ``data`` is None, may have been moved since.

    ``option`` is what names another place.

    Raises:
        RunError: the run's configuration names its data wrongly.
        DataError: the data is not there; of the run's own with the advice to name another place.
    """
    try:
        yield
    except UsageError as problem:
        if data is not None:
            raise
        raise RunError(f"{run.config_file}: {problem}") from None
    except DataError as problem:
        hint = f" (where this run was trained; name the data's place now with {option})" if data is None else ""
        raise DataError(f"{problem}{hint}") from None
