"""A stand-in for CUDA graphs on the CPU: the operations of a step are recorded, undone, and run again by ``replay``.

As on a GPU, a replay runs no Python of the step: it reads and writes the tensors of the recording.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gatewise.training import device_step
from gatewise.training.distributed import Group

Patch = Any


class Recorder(TorchDispatchMode):
    """Records operations and what they overwrite."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[bool, Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        self.made = set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [t for t in pytree.tree_leaves([args, kwargs]) if isinstance(t, Tensor)]
        if func._schema.is_mutable:
            for tensor in given:
                if _place(tensor) not in self.made and tensor.data_ptr() not in self.before:
                    self.before[tensor.data_ptr()] = tensor, tensor.clone()
        result = func(*args, **kwargs)
        if func is torch.ops.aten._local_scalar_dense.default:
            if in_the_gradient_of_the_loss():
                return result
            raise RuntimeError("operation not permitted when stream is capturing")
        outputs = {_place(t) for t in pytree.tree_leaves(result) if isinstance(t, Tensor)}
        self.made |= outputs - {_place(t) for t in given}
        self.operations.append((torch.is_grad_enabled(), func, args, kwargs, result))
        return result


def in_the_gradient_of_the_loss() -> bool:
    """Return whether the gradient of the loss asks if there is anything to multiply by, as it does on the CPU only."""
    return any(
        frame.name == "backward" and frame.filename.endswith("nn/loss.py") for frame in traceback.extract_stack()
    )


def _place(tensor: Tensor) -> int:
    """Return the address of a tensor's storage, which its views share."""
    return tensor.untyped_storage().data_ptr()


def captured(make: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Record a step, undo it, and return what makes it."""
    random, recorder = torch.get_rng_state(), Recorder()
    with recorder:
        make()
    torch.set_rng_state(random)
    for tensor, before in recorder.before.values():
        tensor.detach().copy_(before)

    def replay() -> None:
        for recording, func, args, kwargs, result in recorder.operations:
            with torch.set_grad_enabled(recording), torch._C._AutoDispatchBelowAutograd():
                again = func(*args, **kwargs)
            if not func._schema.is_mutable:
                for old, new in zip(pytree.tree_leaves(result), pytree.tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.detach().copy_(new)

    return replay


@contextmanager
def as_on_a_device(patch: Patch) -> Iterator[list[int]]:
    """Make steps as on a GPU: nothing is waited for, PyTorch draws dropout, steps are captured; return the captures."""
    captures = list[int]()

    def counted(make: Callable[[], None], device: torch.device) -> Callable[[], None]:
        replay = captured(make, device)
        captures.append(0)

        def run() -> None:
            captures[-1] += 1
            replay()

        return run

    with patch.context() as here:
        here.setattr(Group, "runs_ahead", True)
        here.setattr(device_step, "captured", counted)
        for module in ("nn.recurrent", "nn.loss", "engines.layer_operator"):
            here.setattr(f"gatewise.{module}.is_plain", lambda tensors: True)  # the recorder is not there on a GPU
        for module in ("gatewise.models.language_model", "gatewise.nn.recurrent"):
            here.setattr(f"{module}.dropout", lambda x, p, training=True: torch.nn.functional.dropout(x, p, training))
        yield captures
