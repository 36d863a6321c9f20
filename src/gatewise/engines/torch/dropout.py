"""Masks of dropout out of SplitMix64's numbers (Steele, Lea and Flood 2014), each by itself."""

import torch
from torch import Tensor

# SplitMix64's, as signed numbers:
_STEP, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def draw(like: Tensor, seed: Tensor, kept: int, scale: float) -> Tensor:
    """Return the mask of a seed."""
    words = _words(seed, (like.numel() + 1) // 2, like.device)
    numbers = words.view(torch.int32)[: like.numel()].view(like.shape)  # each −2³¹ to 2³¹ − 1, equally likely
    return (numbers < kept).to(like.dtype).mul_(scale)


def _words(seed: Tensor, count: int, device: torch.device) -> Tensor:
    """SplitMix64's first words of a seed, each 64 random bits."""
    z = torch.arange(1, count + 1, dtype=torch.int64, device=device) * _STEP + seed
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, by: int) -> Tensor:
    """The bits of z moved right; zeros follow, whatever the sign."""
    return (z >> by) & ((1 << (64 - by)) - 1)
