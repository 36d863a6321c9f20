"""Dropout: in training numbers are set to zero at random, the others scaled so the mean stays (Hinton et al. 2012).

On the CPU torch's generator gives a seed for each mask, and the seed its numbers, each by itself (SplitMix64; Steele,
Lea and Flood 2014): so that all threads can draw at a time, where PyTorch draws one number after the other.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gatewise.kernels import native_dropout

_LEVELS = 1 << 32  # of a drawn number: of the two in each 64 bits
# SplitMix64's, as signed numbers:
_STEP, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """Return ``x · mask`` with a fresh mask, or x itself where p is 0 or this is not training.

    Args:
        x: of any shape.
        p: the probability of dropping a number, 0 to 1.
        training: whether numbers are dropped at all.
    """
    if x.device.type != "cpu":
        return F.dropout(x, p, training)
    return x * dropout_mask(x, p) if p and training else x


def dropout_mask(like: Tensor, p: float) -> Tensor:
    """Draw a mask of 0, with probability p, and 1/(1−p), from torch's generator.

    Equal seeds give equal masks on every engine and for any number of threads.

    Args:
        like: has the mask's shape, dtype and device.
        p: the probability of dropping a number, 0 to 1.
    """
    if p == 1:
        return torch.zeros_like(like)
    if like.device.type != "cpu":
        return torch.empty_like(like).bernoulli_(1 - p).div_(1 - p)
    seed = torch.randint(-(1 << 63), (1 << 63) - 1, (1,), dtype=torch.int64, device="cpu")
    kept, scale = min(round((1 - p) * _LEVELS), _LEVELS - 1) - _LEVELS // 2, 1 / (1 - p)
    if native_dropout.can_draw(like):
        return native_dropout.draw(like, int(seed), kept, scale)
    words = _words(seed, (like.numel() + 1) // 2)
    numbers = words.view(torch.int32)[: like.numel()].view(like.shape)  # each −2³¹ to 2³¹ − 1, equally likely
    return (numbers < kept).to(like.dtype).mul_(scale)


def _words(seed: Tensor, count: int) -> Tensor:
    """SplitMix64's first words of a seed, each 64 random bits."""
    z = torch.arange(1, count + 1, dtype=torch.int64, device=seed.device) * _STEP + seed
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, by: int) -> Tensor:
    """The bits of z moved right; zeros follow, whatever the sign."""
    return (z >> by) & ((1 << (64 - by)) - 1)
