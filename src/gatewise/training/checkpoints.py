"""Checkpoints: all that exact resume needs, in one safetensors file each, the newest two kept."""

import errno
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.run_folder import RunFolder
from gatewise.errors import Interrupted, TrainingStopped

KEPT = 2


@dataclass
class Checkpoint:
    """A moment of training.

    Attributes:
        progress: JSON values: where training stands, what was measured, what it was trained on.
        tensors: by name: weights (``model.``), optimiser (``optimizer.``), carried state, generators' states.
    """

    progress: dict[str, Any]
    tensors: dict[str, Tensor]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint in one piece, then drop all but the newest two.

    Raises:
        OSError: it could not be written; those before it are untouched.
    """
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{checkpoint.progress['step']:010d}.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    write_atomically(path, save(tensors, {"progress": json.dumps(checkpoint.progress)}))
    for old in _newest_first(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def load_newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Read the newest checkpoint that is whole.

    Returns:
        The checkpoint, None where there is none; and a line for each damaged one that was passed over.
    """
    passed_over: list[str] = []
    for path in _newest_first(folder):
        try:
            with safe_open(path, framework="pt") as file:
                progress = json.loads(file.metadata()["progress"])
                return Checkpoint(progress, {name: file.get_tensor(name) for name in file.keys()}), passed_over
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as problem:
            passed_over.append(f"{path}: damaged or cut short ({problem}); passed over for the one before it")
    return None, passed_over


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
def full_disk_stops(run: RunFolder) -> Iterator[None]:
    """Within the block a full disk stops training with one line that says how to go on.

    Raises:
        TrainingStopped: the disk is full; the checkpoints before are untouched.
    """
    try:
        yield
    except (OSError, SafetensorError) as problem:
        if getattr(problem, "errno", None) not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise TrainingStopped(
            f"{run.path}: cannot write ({problem}); {kept(run)}; free space, then {way_on(run)}"
        ) from None


def _newest_first(folder: Path) -> list[Path]:
    names = [path for path in folder.glob("step-*.safetensors") if re.fullmatch(r"step-\d{10}", path.stem)]
    return sorted(names, reverse=True)
