"""The run folder: the names of its files, and how each of them is written and read."""

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
from gatewise.config.tasks import TaskName
from gatewise.errors import DataError, RunError, UsageError

_WRITTEN = (
    r"config\.toml|model\.safetensors|(tokenizer|characters|labels|scaling)\.json|metrics\.jsonl|README\.md|"
    r"traceback\.txt|\.holder|step-\d{10}\.safetensors|confusion\.(csv|png)"
)
"""Files that are written atomically to a run folder, including ``checkpoints`` and ``figures``."""
_PROBE = ".gatewise-probe"
"""A file with which earlier versions tested whether a folder is writable."""


class RunFolder:
    """Paths, readers and writers of the files of one run.

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

    def check_free(self, *, resume: bool) -> None:
        """Check, without writing anything, that a new run can be created here, or that there is a run to resume.

        Files left by a process that was killed before it wrote ``config.toml`` are ignored.

        Raises:
            UsageError: the folder is in use, contains another run or other files, or is not a folder.
        """
        check_unlocked(self.path)
        self._check_contents(resume)

    def _check_contents(self, resume: bool) -> None:
        try:
            inside = {entry.name for entry in self.path.iterdir()} if self.path.exists() else set()
        except OSError as problem:
            raise UsageError(
                f"{self.path}: cannot be used as a run folder ({problem.strerror}); choose another --out"
            ) from None
        if self.config_file.name in inside:
            if resume:
                return
            raise UsageError(f"{self.path} contains another run; add --resume to continue it, or choose another --out")
        if any(not self._is_left_over(name) for name in inside - {LOCK, HOLDER, self.traceback_file.name}):
            raise UsageError(f"{self.path} is not empty and contains no run; choose a new or empty folder for --out")

    @contextmanager
    def claim(self, *, resume: bool) -> Iterator[bool]:
        """Create the folder, delete what killed processes left in it, and hold its lock within the block.

        Yields:
            Whether the file system supports locks; if not, other processes are not kept out.

        Raises:
            UsageError: the folder is not writable, or not free (see ``check_free``).
        """
        with ExitStack() as held:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                has_locks = held.enter_context(locked(self.path))
                self._check_contents(resume)  # again, as another run may have started and ended since
                self._sweep()
            except OSError as problem:
                raise UsageError(f"{self.path}: not writable ({problem.strerror}); choose another --out") from None
            yield has_locks

    def _sweep(self) -> None:
        """Delete our hidden temporary files, which no process is writing any more."""
        for folder in (self.path, self.checkpoints, self.figures):
            for path in folder.iterdir() if folder.is_dir() else ():
                if self._is_left_over(path.name) and not path.is_dir():
                    path.unlink(missing_ok=True)

    @staticmethod
    def _is_left_over(name: str) -> bool:
        """Return whether a hidden file is one that this program leaves in a run folder when killed."""
        return name == _PROBE or re.fullmatch(_WRITTEN, part_of(name) or "") is not None

    def read_config(self) -> Config:
        """Read ``config.toml``.

        Raises:
            RunError: the file is missing or invalid (with file and line).
        """
        return load_config(self.config_file, error=RunError)

    def write_config(self, config: Config) -> None:
        """Write ``config.toml`` with the value of every key."""
        write_atomically(self.config_file, to_toml(config))

    def open_weights(self, config: Config | None = None) -> Header:
        """Read the header of ``model.safetensors``, and check that the files next to it belong to it.

        Args:
            config: the configuration that must match the weights; None skips this check.

        Raises:
            RunError: the file is missing, damaged, of a newer format, or does not match the other files or ``config``.
        """
        header = read_weights_header(self.weights_file)
        check_parts(self.weights_file, header, self.parts)
        trained_with = header.facts.get("config")
        if config and isinstance(trained_with, dict):
            for key, value in config.meaning().items():
                if trained_with.get(key, value) != value:
                    raise RunError(
                        f"{place_of_key(self.config_file, key)}: {key} is {value!r}, but the weights were trained with "
                        f"{trained_with[key]!r:.100}; restore that value, or train again"
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

    def write_weights(self, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Write ``model.safetensors``, sealed with the metadata ``facts`` and the current hashes of the other files."""
        write_arrays(self.weights_file, arrays, facts, self.parts)

    def reseal_weights(self, expected: Mapping[str, Sequence[int]], *, write: bool) -> Mapping[str, Any]:
        """Read ``model.safetensors`` without checking the other files, and seal it again with their current hashes.

        Args:
            expected: the shape of each array by name.
            write: whether this process writes; others only read.

        Returns:
            The metadata saved with the weights.

        Raises:
            RunError: the file is missing or damaged, has other names, shapes or types, or holds non-finite numbers.
        """
        header = read_weights_header(self.weights_file)
        arrays = read_arrays(self.weights_file, header, expected)
        facts = {key: value for key, value in header.facts.items() if key not in ("format", "files")}
        if write and header.sealed and header.facts.get("files") != digests(self.parts):
            self.write_weights(arrays, facts)
        return facts

    def read_labels(self, *needed: str) -> Labels:
        """Read ``labels.json``; ``needed`` lists the keys that it must contain in addition to ``labels``.

        Raises:
            RunError: the file is missing or invalid.
        """
        return Labels.read(self.labels_file, *needed)

    def read_scaling(self) -> tuple[int, Scaling]:
        """Read ``scaling.json``; return I, the number of inputs per step, and the standardization.

        Raises:
            RunError: the file is missing or invalid.
        """
        return read_scaling(self.scaling_file)

    def write_metrics(self, lines: Sequence[Metrics]) -> None:
        """Write ``metrics.jsonl``, one JSON object per line."""
        write_atomically(self.metrics_file, "".join(to_json(line) + "\n" for line in lines))

    def read_history(self, task: TaskName | None = None) -> History:
        """Read ``metrics.jsonl``; the history is empty if no epoch has finished and there is no file yet.

        Args:
            task: the task whose metrics the file must contain; None accepts any.

        Raises:
            RunError: a line is damaged, out of order, or of another task (with line).
        """
        return History.read(self.metrics_file, task)

    def read_metrics(self) -> list[Metrics]:
        """Return all lines of ``metrics.jsonl``, read with ``read_history``."""
        return self.read_history().lines


@contextmanager
def reading_for(run: RunFolder, data: str | Path | None, option: str = "--data") -> Iterator[None]:
    """Adapt the errors of reading data for an evaluation: the run's own data may have moved since training.

    Args:
        run: the run to evaluate.
        data: the data given by the user; None for the run's own data.
        option: the option that selects other data, for the error message.

    Raises:
        RunError: the data settings in the run's configuration are invalid.
        DataError: the data is missing or invalid; for the run's own data, the message suggests ``option``.
    """
    try:
        yield
    except UsageError as problem:
        if data is not None:
            raise
        raise RunError(f"{run.config_file}: {problem}") from None
    except DataError as problem:
        hint = f" (the path used in training; set the current path with {option})" if data is None else ""
        raise DataError(f"{problem}{hint}") from None
