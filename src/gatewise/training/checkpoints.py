"""Checkpoints: all that exact resume needs, in one safetensors file each, the newest two kept."""

import errno
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.run_folder import RunFolder
from gatewise.artifact.sealed import (
    FORMAT,
    DamagedError,
    Header,
    check_version,
    metadata_of,
    read_header,
    read_sealed,
    seal,
)
from gatewise.errors import Interrupted, RunError, TrainingStopped
from gatewise.files import check_regular
from gatewise.reading import parse_json

KEPT = 2

Outline = Mapping[str, tuple[str, tuple[int, ...]]]
"""Of each tensor, by name, its dtype as safetensors calls it, and its shape."""
Check = Callable[[Mapping[str, Any], Outline], None]
"""Raises ``ValueError`` where a run cannot stand where a checkpoint says: its progress, and its tensors' outline."""


@dataclass
class Checkpoint:
    """A moment of training.

    Attributes:
        progress: JSON values: where training stands, what was measured, what it was trained on.
        tensors: by name: weights (``model.``), optimiser (``optimizer.``), carried state, generators' states.
        passed_over: newer ones that are damaged.
    """

    progress: dict[str, Any]
    tensors: dict[str, Tensor]
    passed_over: Sequence[Path] = ()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint in one piece, sealed, then drop all but it and the one before it.

    Raises:
        OSError: it could not be written; those before it are untouched.
    """
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{checkpoint.progress['step']:010d}.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    write_atomically(path, seal(save(tensors, metadata_of({"progress": checkpoint.progress}))))
    before = [old for old in _newest_first(folder) if old.name <= path.name]
    for old in before[KEPT:]:
        if not old.is_dir():  # which is none of ours
            old.unlink(missing_ok=True)
    return path


def load_newest(folder: Path, check: Check | None = None) -> tuple[Checkpoint | None, list[str]]:
    """Read the newest checkpoint that is whole.

    Args:
        folder: where they are kept.
        check: what else makes one that cannot be gone on with.

    Returns:
        The checkpoint, None where there is none; and a line for each damaged one that was passed over.

    Raises:
        RunError: the folder cannot be read, or a newer Gatewise has written the checkpoint.
    """
    passed_over, lines = list[Path](), list[str]()
    for path in _newest_first(folder):
        try:
            return _read(path, check, passed_over), lines
        except (DamagedError, SafetensorError, ValueError, MemoryError) as problem:
            passed_over.append(path)
            lines.append(f"{path}: damaged or cut short ({problem}); passed over for the one before it")
    return None, lines


def set_aside(damaged: Sequence[Path]) -> None:
    """Rename damaged checkpoints, so that they are neither read nor counted any more, and not lost either."""
    for path in damaged:
        names = (path.with_name(f"{path.name}.damaged{number or ''}") for number in count())
        aside = next(name for name in names if not os.path.lexists(name))
        if os.path.lexists(path):
            os.replace(path, aside)


def check_best_kept(run: RunFolder, shapes: Mapping[str, Sequence[int]], unit: str, best: int, *, write: bool) -> None:
    """Check, before hours are spent on going on, that the best weights so far are there: no checkpoint holds them.

    Args:
        run: the folder; its other files have just been written anew, and the weights are sealed with them.
        shapes: of each weight by its name.
        unit: ``epoch`` or ``step``: what says which weights they are.
        best: which ones are looked for; later ones are as good, for training comes to them again.
        write: whether this process writes.

    Raises:
        RunError: they are missing, damaged, or of an earlier moment.
    """
    advice = f"the best weights so far, of {unit} {best}, are lost; restore the file, or train again in another --out"
    try:
        found = run.reseal_weights(shapes, write=write).get(unit, best)
    except RunError as problem:
        raise RunError(f"{problem}: {advice}") from None
    if type(found) is not int or found < best:
        raise RunError(f"{run.weights_file}: weights of {unit} {found!r:.50}; {advice}")


def _read(path: Path, check: Check | None, passed_over: Sequence[Path]) -> Checkpoint:
    """Read a checkpoint; of one without a seal nothing large before its outline is known to be right."""
    try:
        check_regular(path, "a checkpoint", RunError)
    except RunError as problem:
        raise DamagedError(str(problem)) from None
    header = read_header(path)
    if header.facts.get("format", FORMAT) > FORMAT:
        read_sealed(path, header)  # a damaged number would look the same
        check_version(path, header)
    progress = _progress(header)
    if path.stem != f"step-{progress['step']:010d}":
        raise DamagedError(f"it is of step {progress['step']}")
    outline = {name: (header.dtypes[name], shape) for name, shape in header.shapes.items()}
    # What is sealed is known to be what was written before it is compared with the run.
    raw = read_sealed(path, header) if header.sealed else None
    if check:
        check(progress, outline)
    tensors = load(read_sealed(path, header) if raw is None else raw)
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != header.shapes:
        raise DamagedError("it was replaced while it was read")
    _check_numbers(tensors, progress["step"])
    return Checkpoint(progress, tensors, tuple(passed_over))


def _progress(header: Header) -> dict[str, Any]:
    """Return the progress that a checkpoint holds; earlier versions kept it as a string of its own."""
    found = header.facts.get("progress")
    if not header.facts and "progress" in header.metadata:
        found = parse_json(header.metadata["progress"], infinite=True)
    if not isinstance(found, dict) or type(found.get("step")) is not int:
        raise DamagedError("no progress inside")
    return found


def _check_numbers(tensors: Mapping[str, Tensor], steps: int) -> None:
    """Check what can be said of the numbers themselves.

    Raises:
        ValueError: they cannot be those of a run.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} holds numbers that are not finite")
        kind = name.rpartition(".")[2] if name.startswith("optimizer.") else ""
        if kind == "exp_avg_sq" and bool((tensor < 0).any()):
            raise ValueError(f"{name} holds squares below 0")
        if kind == "step" and not bool(((tensor >= 1) & (tensor <= steps)).all()):
            raise ValueError(f"{name} is {tensor.tolist()}, of {steps} steps")
        if name.startswith("generator.cpu."):
            try:
                torch.Generator().set_state(tensor)
            except (RuntimeError, TypeError) as problem:
                raise ValueError(f"{name} is no generator's state ({str(problem).splitlines()[0]})") from None


def resume_command(run: RunFolder) -> str:
    """Return the command that goes on with a run."""
    return f"gatewise train --out {shlex.quote(str(run.path))} --resume"


def kept(run: RunFolder) -> str:
    """Say whether there is a checkpoint, and where."""
    if _newest_first(run.checkpoints):
        return f"the last good checkpoint is kept in {run.checkpoints}"
    return "no checkpoint was saved yet"


def way_on(run: RunFolder) -> str:
    """Say how to go on with a run that was stopped, wherever it stood."""
    if run.config_file.is_file():
        return f"go on with: {resume_command(run)}"
    return "start again with the same command"


def interrupted(run: RunFolder, where: str) -> Interrupted:
    """Return the error of a run that was saved because a signal came."""
    return Interrupted(f"interrupted {where}; saved; {way_on(run)}")


@contextmanager
def write_errors_stop(run: RunFolder) -> Iterator[None]:
    """Within the block a file that cannot be written stops training with one line that says how to go on.

    Raises:
        TrainingStopped: the disk is full; the checkpoints before are untouched.
        RunError: a folder stands where a file of the run belongs.
    """
    try:
        yield
    except IsADirectoryError as problem:
        # Of a rename, the file that was written has the first name and the folder in its way the second.
        path = problem.filename2 or problem.filename
        raise RunError(f"{path}: is a folder; expected a file of the run: move it away, then {way_on(run)}") from None
    except (OSError, SafetensorError) as problem:
        if getattr(problem, "errno", None) not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise TrainingStopped(
            f"{run.path}: cannot write ({problem}); {kept(run)}; free space, then {way_on(run)}"
        ) from None


def _newest_first(folder: Path) -> list[Path]:
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise RunError(
            f"{folder}: cannot be read ({problem.strerror}); expected a folder of checkpoints, mend or remove it"
        ) from None
    return [folder / name for name in sorted(names, reverse=True) if re.fullmatch(r"step-\d{10}\.safetensors", name)]
