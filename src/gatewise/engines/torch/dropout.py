"""Dropout masks from SplitMix64 (Steele, Lea and Flood 2014), which computes each random integer independently."""

import torch
from torch import Tensor

# The constants of SplitMix64 as signed integers:
_STEP, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def draw(like: Tensor, seed: Tensor, kept: int, scale: float) -> Tensor:
    """Return the mask of a seed."""
    words = _words(seed, (like.numel() + 1) // 2, like.device)
    numbers = words.view(torch.int32)[: like.numel()].view(like.shape)  # each −2³¹ to 2³¹ − 1, equally likely
    return (numbers < kept).to(like.dtype).mul_(scale)


def _words(seed: Tensor, count: int, device: torch.device) -> Tensor:
    """Return the first ``count`` words of SplitMix64 for a seed, 64 random bits each."""
    z = torch.arange(1, count + 1, dtype=torch.int64, device=device) * _STEP + seed
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, by: int) -> Tensor:
    """Return z shifted right, filled with zeros (a logical shift)."""
    return (z >> by) & ((1 << (64 - by)) - 1)
