"""Dropout: in training, elements are set to zero at random and the others scaled to keep the mean (Hinton et al. 2012).

On the CPU, torch's generator draws a seed per mask, and SplitMix64 (Steele, Lea and Flood 2014) computes each random
integer of the mask independently, so that all threads can draw in parallel; PyTorch draws them sequentially.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gatewise.engines import engine_for
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
    return x * dropout_mask(x, p) if p and training else x


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
    seed = torch.randint(-(1 << 63), (1 << 63) - 1, (1,), dtype=torch.int64, device="cpu")
    kept, scale = min(round((1 - p) * _LEVELS), _LEVELS - 1) - _LEVELS // 2, 1 / (1 - p)
    engine = engine_for("auto", like.device, lambda each: each.why_not_mask(like))
    return engine.mask(like, seed, kept, scale, switches().threads)
