"""Means and deviations against Python's exact fractions: large and small numbers, and little on top of much."""

from fractions import Fraction
from math import isqrt

import numpy as np
import pytest

from gatewise.data.moments import mean_absolute, moments, root_mean_square

WAVE = np.sin(np.arange(50) / 3)


def exact(values: np.ndarray) -> tuple[Fraction, float]:
    """Return mean, and deviation as a root of whole numbers, whose size no float limits."""
    numbers = [Fraction(float(value)) for value in values]
    mean = sum(numbers, Fraction()) / len(numbers)
    variance = sum(((n - mean) ** 2 for n in numbers), Fraction()) / len(numbers)
    return mean, float(Fraction(isqrt(int(variance * 4**1200)), 2**1200))


@pytest.mark.parametrize(
    "values",
    [WAVE, 1e8 + WAVE, 1e15 + WAVE, 1e20 * WAVE, 1e-23 * WAVE, 1e200 * WAVE, 1e307 * (9 + WAVE), 1e-200 * WAVE],
)
def test_moments_of_any_size(values: np.ndarray) -> None:
    (mean,), (std,) = moments(values[:, None])
    expected, deviation = exact(values)
    assert float(abs(Fraction(float(mean)) - expected)) <= 2 * np.spacing(np.abs(values).max())
    assert std == pytest.approx(deviation, rel=1e-12)
    assert root_mean_square(values) == pytest.approx(np.hypot(deviation, float(expected)), rel=1e-12)
    assert mean_absolute(values) == pytest.approx(float(sum(Fraction(abs(float(v))) for v in values) / 50), rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e-320, 1e300, 1e8 + 0.1])
def test_a_column_that_never_changes_has_its_value_and_no_deviation(value: float) -> None:
    mean, std = moments(np.full((1000, 2), value))
    assert mean.tolist() == [value] * 2
    assert std.tolist() == [0, 0]
    assert moments(np.array([[0.0], [5e-324]]))[1][0] > 0


def test_figures_of_numbers_near_one_are_the_plain_ones_to_the_bit() -> None:
    assert root_mean_square(WAVE) == np.sqrt(np.mean(WAVE**2))
    assert mean_absolute(WAVE) == np.mean(np.abs(WAVE))
    assert np.isnan(root_mean_square(np.array([1.0, np.nan])))
