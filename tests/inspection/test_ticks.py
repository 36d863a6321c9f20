"""The labels of ticks: never two alike, and each close to its number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewise.inspection.ticks import decade_labels, spread, tick_labels


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.5, 1], ["0.0", "0.5", "1.0"]),
        ([0.9981, 0.9982, 0.9984], ["0.9981", "0.9982", "0.9984"]),
        ([-0.25, 0, 0.25], ["−0.25", "0.00", "0.25"]),
        ([1e-7, 1.5e-7], ["1.0×10⁻⁷", "1.5×10⁻⁷"]),
        ([-2e-9, 0, 2e-9], ["−2×10⁻⁹", "0", "2×10⁻⁹"]),
        ([1e6, 1.2e6], ["1.0×10⁶", "1.2×10⁶"]),
        ([12_000, 14_000], ["12,000", "14,000"]),
        ([3], ["3"]),
        ([0], ["0"]),
        ([], []),
    ],
)
def test_tick_labels(values: list[float], expected: list[str]) -> None:
    assert tick_labels(values) == expected


@given(st.floats(-1e12, 1e12), st.floats(1e-12, 1e6), st.integers(1, 9))
def test_no_two_ticks_have_the_same_label(start: float, step: float, count: int) -> None:
    values = np.unique(start + step * np.arange(count))
    labels = tick_labels(values.tolist())
    assert len(set(labels)) == len(values)
    if len(values) > 1 and np.diff(values).min() > 1e-12 * np.abs(values).max():
        numbers = [float(label.replace("−", "-").replace(",", "").split("×")[0]) for label in labels]
        assert (np.diff(numbers) > 0).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.01, 0.1, 1, 10, 1000], ["0.01", "0.1", "1", "10", "1,000"]),
        ([0.2, 0.5, 1], ["0.2", "0.5", "1"]),
        ([1e-8, 1e-4, 1], ["10⁻⁸", "10⁻⁴", "10⁰"]),
        ([2e-7, 5e-7, 1e-6], ["2×10⁻⁷", "5×10⁻⁷", "10⁻⁶"]),
        ([1, 1e9], ["10⁰", "10⁹"]),
    ],
)
def test_decade_labels(values: list[float], expected: list[str]) -> None:
    assert decade_labels(values) == expected


def test_texts_are_spread_around_their_points() -> None:
    np.testing.assert_allclose(spread(np.array([0.1, 0.5, 0.9]), 0.1), [0.1, 0.5, 0.9])
    np.testing.assert_allclose(spread(np.array([0.5, 0.5, 0.5, 0.9]), 0.1), [0.4, 0.5, 0.6, 0.9])
    np.testing.assert_allclose(spread(np.array([0.0, 0.0, 1.0, 1.0]), 0.1), [0.05, 0.15, 0.85, 0.95])
    np.testing.assert_allclose(spread(np.ones(10), 0.1), np.arange(10) / 10 + 0.05)
