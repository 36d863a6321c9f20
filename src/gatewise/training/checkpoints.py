"""Checkpoints: everything that exact resume needs, in one safetensors file each; the newest two are kept."""

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from gatewise.artifact.run_folder import RunFolder
from gatewise.artifact.sealed import write_sealed
from gatewise.errors import Interrupted, RunError, TrainingStopped
from gatewise.files import check_regular
from gatewise.reading import parse_json
from gatewise.runtime.sealed import FORMAT, DamagedError, Header, check_version, read_header, read_sealed
from gatewise.wording import option, train_again

KEPT = 2

Outline = Mapping[str, tuple[str, tuple[int, ...]]]
"""Maps the name of each tensor to its dtype, as safetensors calls it, and its shape."""
Check = Callable[[Mapping[str, Any], Outline], None]
"""Raises ``ValueError`` if a run cannot resume from a checkpoint, given its progress and the outline of its tensors."""


@dataclass
class Checkpoint:
    """The complete state of training at one step.

    Attributes:
        progress: JSON values: the position, the metrics so far, and the identity of the run.
        tensors: tensors by name: weights (``model.``), optimizer (``optimizer.``), carried state, random generators.
        passed_over: newer checkpoints that were skipped because they are damaged.
    """

    progress: dict[str, Any]
    tensors: dict[str, Tensor]
    passed_over: Sequence[Path] = ()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a sealed checkpoint atomically, then delete all older ones but the previous.

    Raises:
        OSError: the checkpoint could not be written; the older ones are unchanged.
    """
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{checkpoint.progress['step']:010d}.safetensors"
    arrays = {name: tensor.numpy(force=True) for name, tensor in checkpoint.tensors.items()}
    write_sealed(path, arrays, {"progress": checkpoint.progress})
    before = [old for old in _newest_first(folder) if old.name <= path.name]
    for old in before[KEPT:]:
        if not old.is_dir():  # a folder is not one of ours
            old.unlink(missing_ok=True)
    return path


def load_newest(folder: Path, check: Check | None = None) -> tuple[Checkpoint | None, list[str]]:
    """Read the newest intact checkpoint.

    Args:
        folder: the folder of checkpoints.
        check: an additional check that a run can resume from a checkpoint.

    Returns:
        The checkpoint, or None if there is none, and one line for each damaged checkpoint that was skipped.

    Raises:
        RunError: the folder cannot be read, or the checkpoint was written by a newer Gatewise.
    """
    passed_over, lines = list[Path](), list[str]()
    for path in _newest_first(folder):
        try:
            return _read(path, check, passed_over), lines
        except (DamagedError, SafetensorError, ValueError, MemoryError) as problem:
            passed_over.append(path)
            lines.append(f"{path}: damaged or truncated ({problem}); skipped, using the previous one")
    return None, lines


def set_aside(damaged: Sequence[Path]) -> None:
    """Rename damaged checkpoints, so that they are no longer read or counted, but not lost either."""
    for path in damaged:
        names = (path.with_name(f"{path.name}.damaged{number or ''}") for number in count())
        aside = next(name for name in names if not os.path.lexists(name))
        if os.path.lexists(path):
            os.replace(path, aside)


def check_best_kept(run: RunFolder, shapes: Mapping[str, Sequence[int]], unit: str, best: int, *, write: bool) -> None:
    """Check, before resuming, that the best weights so far still exist, since checkpoints do not contain them.

    Args:
        run: the folder; its other files have just been rewritten, and the weights are sealed with them again.
        shapes: shape of each weight by name.
        unit: ``epoch`` or ``step``, the unit of ``best``.
        best: the epoch or step of the best weights; later weights are accepted, since training will reach them again.
        write: whether this process writes.

    Raises:
        RunError: the weights are missing, damaged, or older.
    """
    lost = f"the best weights so far, of {unit} {best}, are lost"
    advice = f"{lost}; restore the file, or train again in another {option('out')}"
    try:
        found = run.reseal_weights(shapes, write=write).get(unit, best)
    except RunError as problem:
        raise RunError(f"{problem}: {advice}") from None
    if type(found) is not int or found < best:
        raise RunError(f"{run.weights_file}: weights of {unit} {found!r:.50}; {advice}")


def _read(path: Path, check: Check | None, passed_over: Sequence[Path]) -> Checkpoint:
    """Read a checkpoint; without a seal, its outline is checked before any tensor data is read."""
    try:
        check_regular(path, "a checkpoint", RunError)
    except RunError as problem:
        raise DamagedError(str(problem)) from None
    header = read_header(path)
    if header.facts.get("format", FORMAT) > FORMAT:
        read_sealed(path, header)  # a damaged version number would look the same
        check_version(path, header)
    progress = _progress(header)
    if path.stem != f"step-{progress['step']:010d}":
        raise DamagedError(f"its content is of step {progress['step']}")
    outline = {name: (header.dtypes[name], shape) for name, shape in header.shapes.items()}
    # Verify the seal first, so that a mismatch with the run cannot be caused by damage.
    raw = read_sealed(path, header) if header.sealed else None
    if check:
        check(progress, outline)
    tensors = load(read_sealed(path, header) if raw is None else raw)
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != header.shapes:
        raise DamagedError("it was replaced while being read")
    _check_numbers(tensors, progress["step"])
    return Checkpoint(progress, tensors, tuple(passed_over))


def _progress(header: Header) -> dict[str, Any]:
    """Return the progress stored in a checkpoint; earlier versions stored it as a separate metadata string."""
    found = header.facts.get("progress")
    if not header.facts and "progress" in header.metadata:
        found = parse_json(header.metadata["progress"], infinite=True)
    if not isinstance(found, dict) or type(found.get("step")) is not int:
        raise DamagedError("no progress in its metadata")
    return found


def _check_numbers(tensors: Mapping[str, Tensor], steps: int) -> None:
    """Check that the values of a checkpoint's tensors are possible.

    Raises:
        ValueError: a value cannot result from training.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} contains numbers that are not finite")
        kind = name.rpartition(".")[2] if name.startswith("optimizer.") else ""
        if kind == "exp_avg_sq" and bool((tensor < 0).any()):
            raise ValueError(f"{name} contains negative squares")
        if kind == "step" and not bool(((tensor >= 1) & (tensor <= steps)).all()):
            raise ValueError(f"{name} is {tensor.tolist()}, but training is at step {steps}")
        if name.startswith("generator.cpu."):
            try:
                torch.Generator().set_state(tensor)
            except (RuntimeError, TypeError) as problem:
                raise ValueError(f"{name} is not a valid generator state ({str(problem).splitlines()[0]})") from None


def kept(run: RunFolder) -> str:
    """Return a phrase that says whether there is a checkpoint, and where."""
    if _newest_first(run.checkpoints):
        return f"the last good checkpoint is kept in {run.checkpoints}"
    return "no checkpoint has been saved yet"


def way_on(run: RunFolder) -> str:
    """Return a phrase that says how to continue a stopped run."""
    if run.config_file.is_file():
        return f"resume with: {train_again(str(run.path))}"
    return "start again in the same way"


def interrupted(run: RunFolder, where: str) -> Interrupted:
    """Return the error for a run that was saved because of a signal."""
    return Interrupted(f"interrupted {where}; saved; {way_on(run)}")


@contextmanager
def write_errors_stop(run: RunFolder) -> Iterator[None]:
    """Turn write errors within the block into a one-line error that says how to continue.

    Raises:
        TrainingStopped: the disk is full; the earlier checkpoints are unchanged.
        RunError: a file of the run cannot be written because there is a folder of the same name.
    """
    try:
        yield
    except IsADirectoryError as problem:
        # For a rename, filename is the written file and filename2 the folder in its way.
        path = problem.filename2 or problem.filename
        raise RunError(
            f"{path}: is a folder; expected a file of the run: move it elsewhere, then {way_on(run)}"
        ) from None
    except (OSError, SafetensorError) as problem:
        if getattr(problem, "errno", None) not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise TrainingStopped(
            f"{run.path}: cannot write ({problem}); {kept(run)}; free disk space, then {way_on(run)}"
        ) from None


def _newest_first(folder: Path) -> list[Path]:
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise RunError(
            f"{folder}: cannot read it ({problem.strerror}); expected a folder of checkpoints, fix or remove it"
        ) from None
    return [folder / name for name in sorted(names, reverse=True) if re.fullmatch(r"step-\d{10}\.safetensors", name)]
