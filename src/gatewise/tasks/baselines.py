"""Baselines for a forecast: persistence, the last season, and a linear autoregression."""

import numpy as np
import numpy.typing as npt

from gatewise.data.moments import moments, root_mean_square

Numbers = npt.NDArray[np.float64]
Origins = npt.NDArray[np.int64]


def rmse_of(forecasts: Numbers | float, truth: Numbers) -> float:
    """Return the root mean squared error over the true values that are known, (n, H), NaN elsewhere."""
    return root_mean_square((forecasts - truth)[~np.isnan(truth)])


def persistence(values: Numbers, origins: Origins, horizon: int) -> Numbers:
    """Return the forecasts of persistence, no change: ``x̂_{t+k} = x_t``.

    Args:
        values: the series, (N,).
        origins: (n,), the steps t from which to forecast.
        horizon: H.

    Returns:
        (n, H).
    """
    return np.repeat(values[origins][:, None], horizon, 1)


def seasonal_naive(values: Numbers, origins: Origins, horizon: int, season: int) -> Numbers | None:
    """Return the forecasts of the last season: ``x̂_{t+k} = x_{t+k−S·⌈k/S⌉}`` (Hyndman and Athanasopoulos 2021, 5.2).

    Args:
        values: the series, (N,).
        origins: (n,), the steps t from which to forecast, in ascending order.
        horizon: H.
        season: S, in steps; 0 for none.

    Returns:
        (n, H), or None without a season, or if the first origin has none before it.
    """
    if not season or origins[0] + 1 < season:
        return None
    steps = np.arange(1, horizon + 1)
    forecasts: Numbers = values[origins[:, None] + steps - season * -(-steps // season)]
    return forecasts


def autoregression_rmse(values: Numbers, truth: Numbers, order: int, horizon: int, origins: Origins) -> float | None:
    """Return the error of ``x̂_{t+k} = a_{k0} + a_{k1} x_t + … + a_{kp} x_{t−p+1}`` for k = 1 … H.

    The coefficients are fitted by least squares to the values before the first one to forecast, including the
    validation split. The values are standardised for the fit.

    Args:
        values: the series, (N,), with gaps filled.
        truth: the series, (N,), NaN in gaps: these are not fitted to, and not scored.
        order: p.
        horizon: H.
        origins: (n,), the steps t from which to forecast, in ascending order.

    Returns:
        The root mean squared error, or None if fewer than p + 1 forecasts are available for the fit.
    """
    ahead, past = np.arange(1, horizon + 1), np.arange(1 - order, 1)
    (mean,), (std,) = moments(values[: origins[0] + 1, None])
    values, truth = ((one - mean) / (std or 1.0) for one in (values, truth))
    fitted = np.arange(order - 1, origins[0] - horizon + 1)
    fitted = fitted[~np.isnan(truth[fitted[:, None] + ahead]).any(1)]
    if len(fitted) <= order:
        return None
    inputs, tested = (
        np.concatenate([np.ones((len(some), 1)), values[some[:, None] + past]], axis=1) for some in (fitted, origins)
    )
    weights, *_ = np.linalg.lstsq(inputs, truth[fitted[:, None] + ahead], rcond=None)
    return rmse_of(tested @ weights, truth[origins[:, None] + ahead]) * float(std or 1.0)
