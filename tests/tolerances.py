"""How far two ways of computing the same may differ, by dtype; loosening one needs its reason in writing here."""

import torch

RELATIVE = {
    torch.float64: 1e-10,
    torch.float32: 1e-5,
    # 8 bits of mantissa, one rounding a product; a window's worth of them.
    torch.bfloat16: 3e-2,
}
"""Of the largest entry."""

HIGH = 5e-5
"""Of float32 at precision high, of the largest entry. A factor is the sum of two bfloat16 of 8 bits each: what is left
out of it is at most 2^-16, and lo times lo at most 2^-16 of a product: 3 · 2^-16 = 4.6e-5 where all have one sign."""

PROJECTED = 2
"""Times the tolerance of bfloat16: each step of a projected LSTM rounds the factors of two products."""

FINITE_DIFFERENCES = 1e-6
"""Central differences in float64 with a step of 1e-6: truncation and cancellation are each below 1e-8 here."""


def differ(a: torch.Tensor, b: torch.Tensor, least: float = 1e-30) -> float:
    """Return the largest difference, relative to the largest entry of ``b``; NaN counts as infinite.

    Args:
        a: what was found.
        b: what was expected.
        least: the size of what ``b`` was added up from: where its parts cancel, their rounding remains.
    """
    gap = (a.detach().double() - b.detach().double()).abs().max() / b.detach().double().abs().max().clamp(min=least)
    return float(gap) if torch.isfinite(gap) else float("inf")
