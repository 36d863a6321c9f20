"""Gradient checks by central differences, over every element of every array."""

from collections.abc import Callable, Mapping

import numpy as np

from gatewise.reference.cell import Array


def central_differences(loss: Callable[[], float], arrays: Mapping[str, Array], step: float = 1e-6) -> dict[str, Array]:
    """Return the derivative of a loss with respect to every element: ``(loss(a + step) − loss(a − step)) / 2 step``.

    In float64, for values near 1, the error is about 1e-9: step² from truncation of the series, 1e-16 / step from
    rounding.

    Args:
        loss: computes the loss from the arrays, which are changed in place and restored.
        arrays: float64 arrays by name.
        step: the size of the change.
    """
    slopes = {}
    for name, array in arrays.items():
        slopes[name] = np.empty_like(array)
        for at in np.ndindex(array.shape):
            kept = array[at]
            try:
                array[at] = kept + step
                above = loss()
                array[at] = kept - step
                below = loss()
            finally:
                array[at] = kept
            slopes[name][at] = (above - below) / (2 * step)
    return slopes


def check(
    loss: Callable[[], float],
    arrays: Mapping[str, Array],
    gradients: Mapping[str, Array],
    tolerance: float = 1e-6,
    step: float = 1e-6,
) -> dict[str, float]:
    """Compare gradients with central differences.

    Args:
        loss: computes the loss from the arrays.
        arrays: float64 arrays by name.
        gradients: the derivatives to check, by the same names.
        tolerance: bound of the largest difference, relative to the largest derivative of its array, or to 1 if that is
            larger.
        step: the step of the differences.

    Returns:
        The error of each name that fails, infinite if its shape is wrong; empty if none fails.
    """
    failures = {}
    for name, slope in central_differences(loss, arrays, step).items():
        if gradients[name].shape != slope.shape:
            failures[name] = np.inf
            continue
        gap = np.abs(gradients[name] - slope).max(initial=0.0)
        error = float(gap / max(np.abs(slope).max(initial=0.0), 1.0))
        if not error <= tolerance:  # NaN fails too
            failures[name] = error
    return failures
