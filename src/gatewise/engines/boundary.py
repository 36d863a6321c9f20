"""The boundary to C++: the only place where the address of a tensor is taken, always after the tensor is checked.

Tensors from outside go through ``readable`` (C++ reads them; a non-contiguous tensor or one of another dtype is copied)
or ``changeable`` (C++ writes them in place); tensors that C++ fills come from ``new``. ``addresses`` accepts only
``Ready`` tensors, which mypy enforces. Every failure is a one-line ``ValueError``.
"""

from collections.abc import Sequence
from typing import Any, NewType

import torch
from torch import Tensor

Ready = NewType("Ready", Tensor)
"""A contiguous CPU tensor of the requested shape and dtype, with memory for all of its elements."""

_PLAIN = {Tensor, torch.nn.Parameter}


def readable(name: str, tensor: Tensor, dtype: torch.dtype, *shape: int) -> Ready:
    """Return a tensor that C++ can read in a dtype: the tensor itself if it qualifies, else a copy.

    Raises:
        ValueError: the tensor has another shape, or no CPU memory that holds all of it.
    """
    _check(name, tensor, shape)
    if tensor.dtype is dtype and tensor.is_contiguous() and not tensor.is_neg():
        return Ready(tensor)
    return Ready(tensor.detach().to(dtype).contiguous().resolve_conj().resolve_neg())


def changeable(name: str, tensor: Tensor, dtype: torch.dtype, *shape: int) -> Ready:
    """Return a tensor that C++ writes in place.

    Raises:
        ValueError: the tensor has another shape, dtype or memory layout, or no CPU memory that holds all of it.
    """
    _check(name, tensor, shape)
    if tensor.dtype is not dtype:
        raise ValueError(f"{name} is {tensor.dtype}; expected {dtype}")
    if not tensor.is_contiguous() or tensor.is_neg():
        raise ValueError(
            f"{name} has strides {tensor.stride()}{' and is negated' if tensor.is_neg() else ''}; expected a "
            f"contiguous tensor of shape {shape}: store {name}.contiguous()"
        )
    return Ready(tensor)


def new(dtype: torch.dtype, *shape: int) -> Ready:
    """Return an uninitialized tensor; see ``addresses`` for contexts in which none can be made."""
    return Ready(torch.empty(shape, dtype=dtype, device="cpu"))  # regardless of the default device


def addresses(*tensors: Ready | None) -> list[int]:
    """Return the addresses of tensors, 0 for None. The tensors must outlive the use of their addresses.

    Raises:
        ValueError: a tensor has no memory, such as one created under a fake tensor mode.
    """
    found = [0 if t is None else _address(t) for t in tensors]
    if not all(found):
        for tensor, address in zip(tensors, found, strict=True):
            if not address and tensor is not None and tensor.numel():
                raise ValueError(f"a {_kind(tensor)} of shape {tuple(tensor.shape)} has no memory; {_CURE}")
    return found


def check_shape(name: str, tensor: Any, shape: Sequence[int]) -> None:
    """Check that a value is a tensor of the given shape.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} is {_kind(tensor)}; expected a tensor of shape {tuple(shape)}")
    if tensor.shape != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {tuple(shape)}")


def check_devices(*tensors: Tensor | None) -> None:
    """Check, where only shapes are computed, that no tensor holds data: PyTorch treats all as meta if one is.

    Raises:
        ValueError: meta tensors are mixed with others.
    """
    devices = {str(t.device) for t in tensors if isinstance(t, Tensor)}
    if len(devices) > 1 and "meta" in devices:
        raise ValueError(f"tensors are on {', '.join(sorted(devices))}; expected one device: move them with .to(...)")


_CURE = "the native engine needs tensors with memory: use engine='torch'"


def _check(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Check that a tensor has the given shape and owns its memory, before anything else inspects it."""
    kind = type(tensor)
    if kind not in _PLAIN and not _has_memory(tensor):
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} is {_kind(tensor)}; expected a tensor of shape {shape}")
        raise ValueError(f"{name} is a {_kind(tensor)}, which has no memory; {_CURE}")
    if tensor.shape != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {shape}")
    if tensor.layout is not torch.strided:
        raise ValueError(f"{name} is {tensor.layout}; expected a dense tensor: call .to_dense()")
    if not tensor.is_cpu:
        raise ValueError(f"{name} is on {tensor.device}; expected the CPU: move it, or use engine='torch'")
    try:
        held = tensor.untyped_storage().nbytes()
    except NotImplementedError:  # within torch.func: a wrapper around the tensor, of the same class
        raise ValueError(f"{name} is a tensor within a torch.func transform; {_CURE}") from None
    needed = int(tensor.nbytes) if tensor.is_contiguous() else _extent(tensor)
    if needed and (offset := tensor.storage_offset()):
        needed += int(offset) * tensor.itemsize
    if held < needed:
        raise ValueError(
            f"{name} needs {needed} bytes for its shape {shape}, but its storage has {held}; expected a storage that "
            "was not resized or freed"
        )


def _extent(tensor: Tensor) -> int:
    """Return the number of bytes from the first element of a strided tensor to the end of its last."""
    if not tensor.numel():
        return 0
    return int(tensor.itemsize * (1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))))


def _has_memory(tensor: Tensor) -> bool:
    """Return whether this is a tensor whose subclass leaves storage and dispatch to PyTorch."""
    return isinstance(tensor, Tensor) and type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__


def _address(tensor: Tensor) -> int:
    if type(tensor) not in _PLAIN and not _has_memory(tensor):
        return 0
    try:
        return tensor.data_ptr()
    except RuntimeError:  # a wrapper
        return 0


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__
