"""Baselines for a forecast: persistence (the last value) and a linear autoregression."""

import numpy as np
import numpy.typing as npt

from gatewise.data.moments import moments, root_mean_square
from gatewise.data.series import windows


def persistence_rmse(values: npt.NDArray[np.float64], horizon: int, test_size: int) -> float:
    """Return the error of persistence, which predicts no change: ``x̂_{t+h} = x_t``.

    Args:
        values: the series, (N,).
        horizon: h, in steps.
        test_size: number of values at the end that are forecast.
    """
    last = values[len(values) - test_size - horizon : len(values) - horizon]
    return root_mean_square(last - values[-test_size:])


def autoregression_rmse(values: npt.NDArray[np.float64], order: int, horizon: int, test_size: int) -> float | None:
    """Return the error of ``x̂_{t+h} = a_0 + a_1 x_t + … + a_p x_{t-p+1}``; every forecast reads true past values.

    The coefficients are fitted by least squares to all values before the test split, including the validation split.
    The values are standardised for the fit.

    Args:
        values: the series, (N,).
        order: p.
        horizon: h, in steps.
        test_size: number of values at the end that are forecast.

    Returns:
        The root mean squared error, or None if fewer than p + 1 values are available for the fit.
    """
    if len(values) - order - horizon + 1 - test_size <= order:
        return None
    (mean,), (std,) = moments(values[:-test_size, None])
    values = (values - mean) / (std or 1.0)
    read, answered = windows(values, order, horizon)
    inputs = np.concatenate([np.ones((len(read), 1)), values[read]], axis=1)
    targets = values[answered]
    weights, *_ = np.linalg.lstsq(inputs[:-test_size], targets[:-test_size], rcond=None)
    return root_mean_square(inputs[-test_size:] @ weights - targets[-test_size:]) * float(std or 1.0)
