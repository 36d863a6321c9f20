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
from gatewise.artifact.sealed import write_arrays
from gatewise.config import Config, load_config, to_toml
from gatewise.config.tasks import TaskName
from gatewise.errors import DataError, RunError, UsageError
from gatewise.files import file_hash
from gatewise.runtime.intervals import Intervals
from gatewise.runtime.run_reader import RunReader
from gatewise.runtime.weights_file import digests, read_arrays, read_weights_header
from gatewise.wording import for_finished_run, option

_WRITTEN = (
    r"config\.toml|model\.safetensors|(tokenizer|characters|labels|scaling|intervals)\.json|metrics\.jsonl|README\.md|"
    r"traceback\.txt|\.holder|step-\d{10}\.safetensors|confusion\.(csv|png)"
)
"""Files that are written atomically to a run folder, including ``checkpoints`` and ``figures``."""
_DATA = r"(data|train|valid|test)\.(jsonl|npz|txt|conllu)|data-ud-(train|dev|test)\.conllu"
"""Files of data that was given in memory, which the folder ``data`` keeps."""
_OURS = ".from-memory"
"""The first file in that folder: without it, a folder called ``data`` is the user's own, and nothing is deleted."""
_PROBE = ".gatewise-probe"
"""A file with which earlier versions tested whether a folder is writable."""


class RunFolder(RunReader):
    """Paths, readers and writers of all files of one run.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.metrics_file = self.path / "metrics.jsonl"
        self.card_file = self.path / "README.md"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.data = self.path / "data"
        self.figures = self.path / "figures"
        self.traceback_file = self.path / "traceback.txt"

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
            if self._has_left_over_data():
                inside.discard(self.data.name)
        except OSError as problem:
            raise UsageError(
                f"{self.path}: cannot be used as a run folder ({problem.strerror}); choose another {option('out')}"
            ) from None
        if self.config_file.name in inside:
            if resume:
                return
            raise UsageError(
                f"{self.path} contains another run; add {option('resume', True)} to continue it, or choose another "
                f"{option('out')}"
            )
        if any(not self._is_left_over(name) for name in inside - {LOCK, HOLDER, self.traceback_file.name}):
            raise UsageError(
                f"{self.path} is not empty and contains no run; choose a new or empty folder for {option('out')}"
            )

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
                raise UsageError(
                    f"{self.path}: not writable ({problem.strerror}); choose another {option('out')}"
                ) from None
            yield has_locks

    def _sweep(self) -> None:
        """Delete our hidden temporary files, which no process is writing any more."""
        for folder in (self.path, self.checkpoints, self.figures, self.data):
            for path in folder.iterdir() if folder.is_dir() else ():
                if self._is_left_over(path.name) and not path.is_dir():
                    path.unlink(missing_ok=True)

    @staticmethod
    def _is_left_over(name: str) -> bool:
        """Return whether a hidden file is one that this program leaves in a run folder when killed."""
        return name == _PROBE or re.fullmatch(f"{_WRITTEN}|{_DATA}|{re.escape(_OURS)}", part_of(name) or "") is not None

    def _has_left_over_data(self) -> bool:
        """Return whether the folder ``data`` is from a run that never started: ours, with nothing else in it."""
        if self.config_file.exists() or self.data.is_symlink() or not self.data.is_dir():
            return False
        names = {entry.name for entry in self.data.iterdir()}
        rest = {name for name in names if not self._is_left_over(name)}
        return all(name == _OURS or re.fullmatch(_DATA, name) for name in rest) and (_OURS in rest or not rest)

    def keep_data(self, files: Mapping[str, bytes]) -> None:
        """Write data that was given in memory, or check that a run that is resumed has kept the same.

        Args:
            files: the content of each file by its name.

        Raises:
            DataError: the run was started with other data.
            OSError: a file could not be written; those before it remain.
        """
        if self.config_file.exists():
            if not (self.data / _OURS).is_file():
                raise DataError(f"{self.path}: this run was started with data from files; give their path")
            for name, content in files.items():
                path = self.data / name
                if not path.is_file():
                    raise DataError(f"{path}: no such file; it held the data of this run, restore it")
                if path.stat().st_size != len(content) or path.read_bytes() != content:
                    raise DataError(
                        f"{path}: this run was started with other data; give the same data, or choose another "
                        f"{option('out')}"
                    )
            return
        self.discard_data()
        self.data.mkdir()
        for name, content in {_OURS: b"", **files}.items():
            write_atomically(self.data / name, content)

    def discard_data(self) -> None:
        """Delete the data of a run that has not started; a run that has a configuration keeps it."""
        if self._has_left_over_data():
            # The mark goes last: without it, what is left would be the user's.
            for path in sorted(self.data.iterdir(), key=lambda path: path.name == _OURS):
                path.unlink()
            self.data.rmdir()

    def read_config(self) -> Config:
        """Read ``config.toml``.

        Raises:
            RunError: the file is missing or invalid (with file and line).
        """
        return load_config(self.config_file, error=RunError)

    def write_config(self, config: Config) -> None:
        """Write ``config.toml`` with the value of every key."""
        write_atomically(self.config_file, to_toml(config))

    def write_weights(self, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Write ``model.safetensors``, sealed with the metadata ``facts`` and the current hashes of the other files.

        The intervals of the weights before are removed.
        """
        self.intervals_file.unlink(missing_ok=True)
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

    def write_intervals(self, errors: npt.NDArray[Any]) -> None:
        """Write ``intervals.json`` for the current weights.

        Args:
            errors: (n, H), the errors of the validation split, NaN where the true value is not known.

        Raises:
            NotFinite: an error is infinite.
        """
        write_atomically(self.intervals_file, Intervals.of(errors, file_hash(self.weights_file)).to_json())

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
def reading_for(run: RunFolder, data: str | Path | None, given_with: str = "") -> Iterator[None]:
    """Adapt the errors of reading data for an evaluation: the run's own data may have moved since training.

    Args:
        run: the run to evaluate.
        data: the data given by the user; None for the run's own data.
        given_with: what selects other data, for the error message; the option ``data`` by default.

    Raises:
        RunError: the data settings in the run's configuration are invalid.
        DataError: the data is missing or invalid; for the run's own data, the message suggests ``given_with``.
    """
    try:
        with for_finished_run():
            yield
    except UsageError as problem:
        if data is not None:
            raise
        raise RunError(f"{run.config_file}: {problem}") from None
    except DataError as problem:
        hint = (
            f" (the path used in training; set the current path with {given_with or option('data', 'PATH')})"
            if data is None
            else ""
        )
        raise DataError(f"{problem}{hint}") from None
