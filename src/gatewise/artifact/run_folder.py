"""A run folder: the names of its files, and reading them with one clear line for whatever is wrong."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gatewise.artifact.atomic import part_of, write_atomically
from gatewise.artifact.lock import HOLDER, LOCK, check_unlocked, locked
from gatewise.config import Config, load_config, to_toml
from gatewise.errors import RunError, UsageError

Metrics = dict[str, Any]

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

    def read_weights(
        self, expected: Mapping[str, Sequence[int]]
    ) -> tuple[dict[str, npt.NDArray[np.generic]], dict[str, str]]:
        """Read ``model.safetensors`` and check every name and shape.

        Returns:
            The arrays by name, and the file's metadata.

        Raises:
            RunError: the file is missing, cut short, or holds other names, shapes or types, or no finite numbers.
        """
        path = self.weights_file
        if not path.is_file():
            raise RunError(f"{path}: no such file; the run has no trained weights yet, train it (further) first")
        try:
            with safe_open(path, framework="numpy") as file:
                found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
                for name, shape in expected.items():
                    if name not in found:
                        raise RunError(f"{path}: no {name} inside; expected shape {_shape(shape)}; train again")
                    if found[name] != tuple(shape):
                        raise RunError(
                            f"{path}: {name} has shape {_shape(found[name])}; expected {_shape(shape)} by config.toml "
                            "and tokenizer.json; the files are of different runs"
                        )
                    if (kind := file.get_slice(name).get_dtype()) != "F32":
                        raise RunError(f"{path}: {name} is of type {kind}; expected F32; convert it or train again")
                if extra := sorted(set(found) - set(expected)):
                    raise RunError(f"{path}: unexpected {extra[0]} inside; config.toml describes no such weight")
                arrays = {name: file.get_tensor(name) for name in expected}
                for name, array in arrays.items():
                    if not np.isfinite(array).all():
                        raise RunError(f"{path}: {name} holds numbers that are not finite; train again")
                return arrays, file.metadata() or {}
        except (SafetensorError, OSError) as problem:
            raise RunError(f"{path}: damaged or cut short ({problem}); train again or --resume the run") from None

    def write_weights(self, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Write ``model.safetensors`` in one piece, the facts as one JSON string in its metadata."""
        # One string, as the library writes several in an order that changes: equal runs shall give equal files. And it
        # writes an array's memory as it lies.
        in_order = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        write_atomically(self.weights_file, save(in_order, {"gatewise": json.dumps(dict(facts))}))

    def read_json(self, path: Path, keys: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
        """Read a JSON object of the run, such as ``labels.json``, and check that its keys are there.

        Raises:
            RunError: the file is missing or is not as it should be.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{path}: no such file; expected what training wrote there, train again") from None
        except (OSError, ValueError) as problem:
            raise RunError(f"{path}: cannot be read as JSON ({problem}); train again") from None
        for key, kind in keys.items():
            if not isinstance(found, dict) or not isinstance(found.get(key), kind):
                raise RunError(f"{path}: no valid {key!r} inside; expected what training wrote there, train again")
        return dict(found)

    def write_metrics(self, lines: Sequence[Metrics]) -> None:
        """Write ``metrics.jsonl``, one JSON object a line."""
        write_atomically(self.metrics_file, "".join(to_json(line) + "\n" for line in lines))

    def read_metrics(self) -> list[Metrics]:
        """Read ``metrics.jsonl``; a run that has not finished an epoch has none.

        Raises:
            RunError: a line is no JSON object.
        """
        if not self.metrics_file.is_file():
            return []
        lines = []
        for number, raw in enumerate(self.metrics_file.read_bytes().splitlines(), 1):
            try:
                line = json.loads(raw)
            except ValueError:
                line = None
            if not isinstance(line, dict):
                raise RunError(f"{self.metrics_file}:{number}: expected a JSON object; restore the file")
            lines.append(line)
        return lines


def to_json(figures: Mapping[str, Any]) -> str:
    """Write one flat JSON object; a figure that is not finite is null, since JSON has no such number."""
    known = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}
    return json.dumps(known, allow_nan=False)


def _shape(shape: Sequence[int]) -> str:
    return "(" + ", ".join(str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
