"""The native engine's masks of dropout, ``csrc/module_training.cpp``."""

import torch
from torch import Tensor

from gatewise.kernels.boundary import addresses, new
from gatewise.kernels.contexts import is_plain
from gatewise.kernels.native_engine import _native, why_not_built


def can_draw(like: Tensor) -> bool:
    """Whether ``draw`` makes masks like this tensor on the CPU: of float32, plain, and not within a compiled graph."""
    if torch.compiler.is_compiling():
        return False
    return like.dtype == torch.float32 and why_not_built() is None and is_plain((like,))


def draw(like: Tensor, seed: int, kept: int, scale: float) -> Tensor:
    """Return the mask of ``gatewise.nn.dropout``, the same as torch makes of the seed.

    Args:
        like: has the mask's shape.
        seed: from −2⁶³ to 2⁶³ − 1.
        kept: the scale stands where a number is below this, one from −2³¹ to 2³¹ − 1.
        scale: the value of the numbers that are kept.

    Raises:
        ValueError: ``seed`` or ``kept`` is outside of its range.
    """
    for name, value, bits in (("seed", seed, 63), ("kept", kept, 31)):
        if not -(1 << bits) <= value < 1 << bits:
            raise ValueError(f"{name} is {value}; expected −2^{bits} to 2^{bits} − 1")
    mask = new(torch.float32, *like.shape)
    _native.dropout_mask(torch.get_num_threads(), mask.numel(), seed, kept, scale, *addresses(mask))
    return mask
