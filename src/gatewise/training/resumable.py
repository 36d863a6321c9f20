"""Decides whether a run can be resumed from a checkpoint, before anything is changed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gatewise.artifact.history import check_evaluation, check_line
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import TrainingConfig
from gatewise.errors import RunError
from gatewise.training.checkpoints import Checkpoint, Outline, check_best_kept, set_aside
from gatewise.training.distributed import Group
from gatewise.training.position import Position

if TYPE_CHECKING:
    from gatewise.training.loop import Workload

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.uint8: "U8",
}
"""Safetensors' names of the dtypes that a checkpoint can contain."""
_ADAM = {"step": (), "exp_avg": None, "exp_avg_sq": None}
"""Shapes of Adam's state tensors per parameter; None means the parameter's shape."""


def prepare_resume(
    checkpoint: Checkpoint, run: RunFolder, workload: "Workload", settings: TrainingConfig, group: Group
) -> None:
    """Check that a run can resume from a checkpoint, and set the skipped damaged ones aside; change nothing else.

    Raises:
        RunError: the checkpoint is not from this run, or the best weights so far are lost.
    """
    at = checkpoint.progress
    try:
        outline = {name: _outline_of(tensor) for name, tensor in checkpoint.tensors.items()}
        check_resumable(at, outline, workload, settings, group)
    except ValueError as problem:
        raise RunError(f"{run.checkpoints}: cannot resume this run ({problem})") from None
    if at["best_epoch"] and (at["since_evaluation"] or at["best_step"] != at["step"]):  # else they are written again
        shapes = {name: tensor.shape for name, tensor in workload.model.state_dict().items()}
        check_best_kept(run, shapes, "step", at["best_step"], write=group.is_writer)
    if group.is_writer:
        set_aside(checkpoint.passed_over)


def check_resumable(
    progress: Mapping[str, Any], outline: Outline, workload: "Workload", settings: TrainingConfig, group: Group
) -> None:
    """Check that a trainer of this workload can resume from a checkpoint; every process must call this.

    Args:
        progress: the checkpoint's progress.
        outline: dtype and shape of each of its tensors.
        workload: the task.
        settings: the ``[training]`` section.
        group: the processes that train together.

    Raises:
        ValueError: it cannot, with a one-line reason.
    """
    check_position(progress, workload.steps_per_epoch, {"scaler", "world_size"})
    if settings.schedule == "plateau":
        for line in progress["history"]:
            if not _is_number(line.get("learning_rate")):
                raise ValueError(f"its history has no learning rate in epoch {line['epoch']}")
    world_size, scaler = progress["world_size"], progress["scaler"]
    if type(world_size) is not int or not 1 <= world_size <= len(outline):
        raise ValueError(f"world_size is {world_size!r:.50}")
    fp16 = torch.amp.GradScaler(group.device.type, enabled=settings.precision == "fp16").state_dict()
    if not isinstance(scaler, dict) or set(scaler) != set(fp16):
        raise ValueError("its loss scaler state is of another precision")
    if not all(_is_number(value) and value >= 0 for value in scaler.values()) or scaler.get("scale", 1) <= 0:
        raise ValueError("its loss scaler state contains values that are not positive numbers")

    parameters = dict(workload.model.named_parameters())
    wanted = {f"model.{name}": _outline_of(parameter) for name, parameter in parameters.items()}
    wanted |= {f"carried.{name}": _outline_of(tensor) for name, tensor in workload.carried().items()}
    if settings.average_decay:
        wanted |= {f"average.{index}": _outline_of(p) for index, p in enumerate(parameters.values())}
    for rank in range(world_size):
        wanted[f"sums.{rank}"] = ("F64", (2,))
        wanted[f"generator.cpu.{rank}"] = _outline_of(torch.get_rng_state())
    on_gpu = {f"generator.cuda.{rank}" for rank in range(world_size)}
    if group.device.type == "cuda" and world_size == group.world_size:
        state = _outline_of(torch.cuda.get_rng_state(group.device))
        wanted |= dict.fromkeys(on_gpu, state)
    moments = _moments(list(parameters.values()), settings)
    kept = {key.split(".")[1] for key in outline if key in moments}
    wanted |= {key: value for key, value in moments.items() if key.split(".")[1] in kept}
    check_outline(outline, wanted, may_be=on_gpu)


def check_outline(outline: Outline, wanted: Outline, may_be: set[str] | None = None) -> None:
    """Check that a checkpoint contains the wanted tensors, and no others except those in ``may_be``.

    Raises:
        ValueError: a tensor is missing, unexpected, or of another dtype or shape.
    """
    for name, (dtype, shape) in wanted.items():
        if name not in outline:
            raise ValueError(f"missing {name}")
        if outline[name] != (dtype, shape):
            raise ValueError(f"{name} is {outline[name][0]} {outline[name][1]}, expected {dtype} {shape}")
    if extra := sorted(set(outline) - set(wanted) - (may_be or set())):
        raise ValueError(f"unexpected {extra[0]!r:.100}")


def check_position(progress: Mapping[str, Any], steps_per_epoch: int, beside: set[str], evaluated: bool = True) -> None:
    """Check that training can reach a checkpoint's progress.

    Args:
        progress: the fields of ``Position``, and ``identity``.
        steps_per_epoch: the run's number of steps per epoch.
        beside: additional keys of ``progress``.
        evaluated: whether the run records the steps since the last evaluation and the step of the best one.

    Raises:
        ValueError: a field is missing, of another type, out of range, or contradicts the others.
    """
    kinds = {one.name: one.type for one in fields(Position)}
    if set(progress) != {*kinds, "identity", *beside}:
        different = sorted(set(progress) ^ {*kinds, "identity", *beside})
        raise ValueError(f"{different[0]!r:.100} is missing from its progress, or is an unknown key")
    for name, kind in kinds.items():
        value = progress[name]
        if kind is int and (type(value) is not int or not 0 <= value < 2**62):
            raise ValueError(f"{name} is {value!r:.50}, not a count")
        if kind is float and not (_is_number(value) or (name == "best" and value is None)):
            raise ValueError(f"{name} is {value!r:.50}, not a finite number")
    epoch, step, history = progress["epoch"], progress["step"], progress["history"]
    inside = progress["step_in_epoch"]
    if epoch < 1 or inside > steps_per_epoch or step != (epoch - 1) * steps_per_epoch + inside:
        raise ValueError(f"step {step} is not step {inside} of {steps_per_epoch} in epoch {epoch}")
    if min(progress["units"], progress["seconds"]) < 0 or progress["skipped_in_a_row"] > step:
        raise ValueError("its units, seconds or skipped steps are out of range")
    at = _evaluated_at(history, steps_per_epoch)
    if any(one > step for one in at):
        raise ValueError(f"evaluation at step {max(at)}, but training is at step {step}")
    if evaluated and progress["since_evaluation"] != step - (at[-1] if at else 0):
        raise ValueError(f"{progress['since_evaluation']} steps since the last evaluation contradict step {step}")
    made = [(line["epoch"], one if evaluated else 0) for line, one in zip(history, at, strict=True)]
    if (best := (progress["best_epoch"], progress["best_step"])) not in (made or [(0, 0)]):
        raise ValueError(f"the best evaluation, in epoch {best[0]} at step {best[1]}, is not in its history")
    check_identity(progress["identity"])


def _evaluated_at(history: object, steps_per_epoch: int) -> list[int]:
    """Check the lines of a history; return the step of each line."""
    if not isinstance(history, list):
        raise ValueError("its history is not a list")
    for number, line in enumerate(history):
        check_line(line)
        check_evaluation(line, history[:number])
    steps = [line.get("step", line["epoch"] * steps_per_epoch) for line in history]
    if sorted(set(steps)) != steps:
        raise ValueError("its evaluations are not in order")
    return steps


def check_identity(identity: object) -> None:
    """Check the format of a run's identity, its configuration and data hashes.

    Raises:
        ValueError: the format is invalid.
    """
    if identity == {}:
        return
    config, data = (identity.get(key) for key in ("config", "data")) if isinstance(identity, dict) else (None, None)
    if not isinstance(config, dict) or not all(isinstance(section, dict) for section in config.values()):
        raise ValueError("it does not record its configuration")
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise ValueError("it does not record its data")


def _moments(parameters: Sequence[Tensor], settings: TrainingConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the outline of the optimizer's state; for each parameter, a checkpoint has all of it or none."""
    if settings.optimizer == "sgd":
        return {}
    return {
        f"optimizer.{index}.{name}": ("F32", tuple(parameter.shape) if shape is None else shape)
        for index, parameter in enumerate(parameters)
        for name, shape in _ADAM.items()
    }


def _outline_of(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    return DTYPES[tensor.dtype], tuple(tensor.shape)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
