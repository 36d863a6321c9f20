"""Dropout: in training numbers are set to zero at random, the others scaled so the mean stays (Hinton et al. 2012).

On the CPU torch's generator gives a seed for each mask, and the seed its numbers, each by itself (SplitMix64; Steele,
Lea and Flood 2014): so that all threads can draw at a time, where PyTorch draws one number after the other.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gatewise.engines import engine_for
from gatewise.engines.switches import switches

_LEVELS = 1 << 32  # of a drawn number: of the two in each 64 bits


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
    engine = engine_for("auto", like.device, lambda each: each.why_not_mask(like))
    return engine.mask(like, seed, kept, scale, switches().threads)
