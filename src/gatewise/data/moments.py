"""Numerically robust moments of float64 numbers: no overflow, no underflow, no cancellation by a large offset."""

from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


def moments(values: npt.NDArray[Any]) -> tuple[Numbers, Numbers]:
    """Return the mean and the standard deviation, each (K,), of the columns of ``values``, (N, K).

    The standard deviation is 0 only for a constant column, whose mean is then exactly its value.
    """
    near, exponent = _near_one(values, axis=0)
    mean = near.mean(0)
    rest = near - mean
    missed = rest.mean(0)  # the rounding error of the first mean
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
    """Return the values divided, without rounding, by a power of two so that none exceeds 1, and the exponent."""
    values = np.asarray(values, np.float64)
    exponent = np.frexp(np.abs(values).max(axis))[1]
    return np.ldexp(values, -exponent), exponent
