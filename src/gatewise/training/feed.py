"""Batches on their way to the device: from pinned memory, while the step before is computed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree


def moved(batch: Any, device: torch.device) -> Any:
    """Return a batch on a device: its tensors, and whatever else has a method ``to``; arrays are tensors on the CPU."""

    def move(part: Any) -> Any:
        if isinstance(part, np.ndarray):
            return torch.from_numpy(part)
        if device.type == "cpu" or not hasattr(part, "to"):
            return part
        return (part.pin_memory() if device.type == "cuda" else part).to(device, non_blocking=True)

    return pytree.tree_map(move, batch, is_leaf=lambda part: hasattr(part, "to"))


def shape_of(batch: Any, device: torch.device) -> Any:
    """Return what a step depends on, shapes and dtypes; None if it also depends on numbers, such as lengths."""
    leaves, layout = pytree.tree_flatten(batch, is_leaf=lambda part: hasattr(part, "to"))
    if not all(leaf is None or (isinstance(leaf, Tensor) and leaf.device.type == device.type) for leaf in leaves):
        return None
    return layout, [None if leaf is None else (leaf.shape, leaf.dtype) for leaf in leaves]


class Feed:
    """Brings the batches of an epoch to a device one step ahead.

    Args:
        inputs: returns the batch of a step on the CPU.
        device: the device.
    """

    def __init__(self, inputs: Callable[[int], Any], device: torch.device) -> None:
        self._inputs, self._device = inputs, device
        self._ready: tuple[tuple[int, int], Any] | None = None
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def take(self, epoch: int, step: int) -> Any:
        """Return the batch of a step; work queued from now on waits for it."""
        ready, self._ready = self._ready, None
        if ready is None or ready[0] != (epoch, step):
            return moved(self._inputs(step), self._device)
        if self._copies is not None:
            now = torch.cuda.current_stream(self._device)
            now.wait_stream(self._copies)
            for tensor in pytree.tree_leaves(ready[1]):
                if isinstance(tensor, Tensor) and tensor.is_cuda:
                    tensor.record_stream(now)  # its memory is not reused before that stream has read it
        return ready[1]

    def prepare(self, epoch: int, step: int) -> None:
        """Begin to copy the batch of the next step, which must be of the epoch that is in progress."""
        batch = self._inputs(step)
        if self._copies is None:
            self._ready = (epoch, step), moved(batch, self._device)
        else:
            with torch.cuda.stream(self._copies):
                self._ready = (epoch, step), moved(batch, self._device)
