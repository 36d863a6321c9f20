"""Dropout, ``csrc/dropout.hpp``."""

import torch
from torch import Tensor

from gatewise.engines.boundary import addresses, new, readable
from gatewise.engines.contexts import is_plain
from gatewise.engines.native.module import name_of, native


def why_not(like: Tensor) -> str | None:
    """Return the reason why a mask is not supported, or None: only plain float32 CPU tensors outside graphs are."""
    if torch.compiler.is_compiling() or not is_plain((like,)):
        return "a graph is being compiled, or the tensor is not plain memory"
    if like.device.type != "cpu":
        return f"the tensor is on {like.device}"
    return None if like.dtype == torch.float32 else f"the tensor is {name_of(like.dtype)}"


def draw(like: Tensor, seed: int, kept: int, scale: float, threads: int, product: bool = False) -> Tensor:
    """Return the mask of a seed, or its product with ``like``.

    Raises:
        ValueError: ``seed`` or ``kept`` is out of range.
    """
    for name, value, bits in (("seed", seed, 63), ("kept", kept, 31)):
        if not -(1 << bits) <= value < 1 << bits:
            raise ValueError(f"{name} is {value}; expected −2^{bits} to 2^{bits} − 1")
    out = new(torch.float32, *like.shape)
    x = readable("x", like, torch.float32, *like.shape) if product else None
    native.dropout(threads, out.numel(), seed, kept, scale, *addresses(x, out))
    return out
