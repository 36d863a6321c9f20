"""Dropout: in training, elements are set to zero at random and the others scaled to keep the mean (Hinton et al. 2012).

On the CPU, torch's generator draws a seed per mask, and SplitMix64 (Steele, Lea and Flood 2014) computes each random
integer of the mask independently, so that all threads can draw in parallel; PyTorch draws them sequentially.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gatewise.engines import Engine, engine_for
from gatewise.engines.contexts import is_plain
from gatewise.engines.switches import switches

_LEVELS = 1 << 32  # of a random integer; each 64-bit word holds two


def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """Return ``x · mask`` with a new mask, or x itself if p is 0 or ``training`` is false.

    Args:
        x: a tensor of any shape.
        p: the probability of dropping an element, 0 to 1.
        training: whether to apply dropout.
    """
    if x.device.type != "cpu":
        return F.dropout(x, p, training)
    if not p or not training:
        return x
    return x * dropout_mask(x, p) if p == 1 else _masked(x, _draw(p))


def dropout_mask(like: Tensor, p: float) -> Tensor:
    """Draw a mask from torch's generator: 0 with probability p, else 1/(1−p).

    Equal seeds give equal masks on every engine and for any number of threads.

    Args:
        like: a tensor with the shape, dtype and device of the mask.
        p: the probability of dropping an element, 0 to 1.
    """
    if p == 1:
        return torch.zeros_like(like)
    if like.device.type != "cpu":
        return torch.empty_like(like).bernoulli_(1 - p).div_(1 - p)
    return _engine(like).mask(like, *_draw(p), switches().threads)


class _Drawn(NamedTuple):
    """A mask, as the engines describe it."""

    seed: Tensor
    kept: int
    scale: float


def _draw(p: float) -> _Drawn:
    seed = torch.randint(-(1 << 63), (1 << 63) - 1, (1,), dtype=torch.int64, device="cpu")
    return _Drawn(seed, min(round((1 - p) * _LEVELS), _LEVELS - 1) - _LEVELS // 2, 1 / (1 - p))


def _engine(like: Tensor) -> Engine:
    return engine_for("auto", like.device, lambda each: each.why_not_mask(like))


def _masked(x: Tensor, drawn: _Drawn) -> Tensor:
    if torch.compiler.is_compiling() or not is_plain((x,)):
        return x * _engine(x).mask(x, *drawn, switches().threads)
    y: Tensor = _Masked.apply(x, drawn)  # type: ignore[no-untyped-call]
    return y


class _Masked(torch.autograd.Function):
    """``y = x · mask`` and ``dx = dy · mask``; the mask is computed again rather than kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, drawn: _Drawn) -> Tensor:
        ctx.drawn = drawn
        return _engine(x).masked(x, *drawn, switches().threads)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return _masked(upstream[0], ctx.drawn), None
