"""The gate to C++: nothing's address is taken but here, and of nothing that was not checked here.

What comes from outside passes ``readable`` (it is read; what has gaps or another dtype is copied) or ``changeable`` (it
is written in place); what C++ fills is ``new``. Only a ``Ready`` tensor has ``addresses``, which mypy sees to. Every
failure is a ``ValueError`` of one line.
"""

from collections.abc import Sequence
from typing import Any, NewType

import torch
from torch import Tensor

Ready = NewType("Ready", Tensor)
"""On the CPU, with memory for all its numbers, without gaps, of the shape and dtype that were asked for."""

_PLAIN = {Tensor, torch.nn.Parameter}


def readable(name: str, tensor: Tensor, dtype: torch.dtype, *shape: int) -> Ready:
    """Return a tensor's numbers to be read in a dtype; the tensor itself where they lie so already.

    Raises:
        ValueError: it has another shape, or no memory on the CPU that holds all of it.
    """
    _check(name, tensor, shape)
    if tensor.dtype is dtype and tensor.is_contiguous() and not tensor.is_neg():
        return Ready(tensor)
    return Ready(tensor.detach().to(dtype).contiguous().resolve_conj().resolve_neg())


def changeable(name: str, tensor: Tensor, dtype: torch.dtype, *shape: int) -> Ready:
    """Return a tensor that is written where it lies.

    Raises:
        ValueError: it has another shape, dtype or order in memory, or no memory on the CPU that holds all of it.
    """
    _check(name, tensor, shape)
    if tensor.dtype is not dtype:
        raise ValueError(f"{name} is {tensor.dtype}; expected {dtype}")
    if not tensor.is_contiguous() or tensor.is_neg():
        raise ValueError(
            f"{name} has strides {tensor.stride()}{' and is negated' if tensor.is_neg() else ''}; expected its "
            f"{shape} without gaps, rows first: store {name}.contiguous()"
        )
    return Ready(tensor)


def new(dtype: torch.dtype, *shape: int) -> Ready:
    """Make a tensor that is not filled yet; see ``addresses`` for where none can be made."""
    return Ready(torch.empty(shape, dtype=dtype, device="cpu"))  # whatever the default device


def addresses(*tensors: Ready | None) -> list[int]:
    """Return where tensors lie, who must live as long as the addresses are used; 0 for None.

    Raises:
        ValueError: one has no memory, as what is made below a mode that makes fake tensors.
    """
    found = [0 if t is None else _address(t) for t in tensors]
    if not all(found):
        for tensor, address in zip(tensors, found, strict=True):
            if not address and tensor is not None and tensor.numel():
                raise ValueError(f"a {_kind(tensor)} of shape {tuple(tensor.shape)} has no memory; {_CURE}")
    return found


def check_shape(name: str, tensor: Any, shape: Sequence[int]) -> None:
    """Check that something is a tensor of a shape.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} is {_kind(tensor)}; expected a tensor of shape {tuple(shape)}")
    if tensor.shape != shape:
        raise ValueError(f"{name} is of shape {tuple(tensor.shape)}; expected {tuple(shape)}")


def check_devices(*tensors: Tensor | None) -> None:
    """Check, where shapes alone are computed, that no tensor has numbers: PyTorch takes one on meta for all.

    Raises:
        ValueError: tensors on meta and others are mixed.
    """
    devices = {str(t.device) for t in tensors if isinstance(t, Tensor)}
    if len(devices) > 1 and "meta" in devices:
        raise ValueError(f"tensors are on {', '.join(sorted(devices))}; expected one device: move them with .to(...)")


_CURE = "the native engine needs tensors with memory: use engine='torch'"


def _check(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """See that a tensor is of a shape and has its numbers in memory, which is looked into nowhere else before."""
    kind = type(tensor)
    if kind not in _PLAIN and not _has_memory(tensor):
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} is {_kind(tensor)}; expected a tensor of shape {shape}")
        raise ValueError(f"{name} is a {_kind(tensor)}, which has no memory; {_CURE}")
    if tensor.shape != shape:
        raise ValueError(f"{name} is of shape {tuple(tensor.shape)}; expected {shape}")
    if tensor.layout is not torch.strided:
        raise ValueError(f"{name} is {tensor.layout}; expected a dense tensor: call .to_dense()")
    if not tensor.is_cpu:
        raise ValueError(f"{name} is on {tensor.device}; expected the CPU: move it, or use engine='torch'")
    try:
        held = tensor.untyped_storage().nbytes()
    except NotImplementedError:  # within torch.func: a wrapper around the tensor, of the same class
        raise ValueError(f"{name} is a tensor within a transform of torch.func; {_CURE}") from None
    needed = int(tensor.nbytes) if tensor.is_contiguous() else _extent(tensor)
    if needed and (offset := tensor.storage_offset()):
        needed += int(offset) * tensor.itemsize
    if held < needed:
        raise ValueError(
            f"{name} needs {needed} bytes for its shape {shape}, but its storage has {held}; expected a storage that "
            "was not resized or freed"
        )


def _extent(tensor: Tensor) -> int:
    """Bytes from a strided tensor's first number to behind its last."""
    if not tensor.numel():
        return 0
    return int(tensor.itemsize * (1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))))


def _has_memory(tensor: Tensor) -> bool:
    """Whether this is a tensor of a subclass that leaves the numbers to PyTorch."""
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
