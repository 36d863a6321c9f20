"""Means and deviations of float64 numbers of any size: no square overflows or vanishes, no offset hides the rest."""

from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


def moments(values: npt.NDArray[Any]) -> tuple[Numbers, Numbers]:
    """Return mean and standard deviation of each of K columns, (N, K).

    The deviation is 0 of a column that never changes, whose mean is then its value, and of no other.
    """
    near, exponent = _near_one(values, axis=0)
    mean = near.mean(0)
    rest = near - mean
    missed = rest.mean(0)  # what rounding took from the first mean
    std = np.sqrt(np.mean((rest - missed) ** 2, 0))
    constant = near.min(0) == near.max(0)
    mean = np.ldexp(np.where(constant, near[0], mean + missed), exponent)
    return mean, np.where(constant, 0.0, np.maximum(np.ldexp(std, exponent), np.nextafter(0.0, 1.0)))


def root_mean_square(errors: npt.NDArray[Any]) -> float:
    """Return ``√(mean e²)``."""
    near, exponent = _near_one(errors)
    return float(np.ldexp(np.sqrt(np.mean(near**2)), exponent))


def mean_absolute(errors: npt.NDArray[Any]) -> float:
    """Return ``mean |e|``."""
    near, exponent = _near_one(errors)
    return float(np.ldexp(np.mean(np.abs(near)), exponent))


def _near_one(values: npt.NDArray[Any], axis: int | None = None) -> tuple[Numbers, Any]:
    """Return the values over a power of two that leaves none above 1, which rounds nothing, and its exponent."""
    values = np.asarray(values, np.float64)
    exponent = np.frexp(np.abs(values).max(axis))[1]
    return np.ldexp(values, -exponent), exponent
