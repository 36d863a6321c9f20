"""Persistence, the last season and autoregressions: compared with statsmodels, and on series with a known law."""

import numpy as np
import pytest

from gatewise.data.series import load_sunspots
from gatewise.tasks.baselines import autoregression_rmse, persistence, rmse_of, seasonal_naive


def last(values: np.ndarray, count: int, horizon: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the last origins of a series, and the true values after each."""
    origins = np.arange(len(values) - count - horizon + 1, len(values) - horizon + 1) - 1
    return origins, values[origins[:, None] + np.arange(1, horizon + 1)]


def autoregression(values: np.ndarray, order: int, horizon: int, count: int) -> float | None:
    return autoregression_rmse(values, values, order, horizon, last(values, count, horizon)[0])


@pytest.mark.parametrize("order", [2, 9])
def test_sunspots_as_statsmodels_has_them(order: int) -> None:
    models = pytest.importorskip("statsmodels.tsa.ar_model")
    values = load_sunspots().values[:, 0]
    weights = models.AutoReg(values[:-60], order).fit().params
    past = [values[len(values) - 60 - lag : len(values) - lag] for lag in range(1, order + 1)]
    errors = weights[0] + weights[1:] @ np.array(past) - values[-60:]
    expected = float(np.sqrt(np.mean(errors**2)))
    assert autoregression(values, order, 1, 60) == pytest.approx(expected, rel=1e-6)


def test_figures_of_sunspots() -> None:
    pytest.importorskip("statsmodels")
    values = load_sunspots().values[:, 0]
    origins, truth = last(values, 60)
    error = rmse_of(persistence(values, origins, 1), truth)
    assert error == pytest.approx(np.sqrt(np.mean(np.diff(values)[-60:] ** 2)))
    assert error == pytest.approx(32.898, abs=1e-3)
    assert autoregression(values, 2, 1, 60) == pytest.approx(22.645, abs=1e-3)
    assert autoregression(values, 9, 1, 60) == pytest.approx(19.140, abs=1e-3)


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_wave_is_an_autoregression_of_two_at_every_step(horizon: int) -> None:
    wave = 5 + np.sin(np.arange(100) / 3)
    assert autoregression(wave, 2, horizon, 20) == pytest.approx(0, abs=1e-9)
    origins, truth = last(wave, 20, horizon)
    found = persistence(wave, origins, horizon)
    assert found.shape == (20, horizon) and (found == wave[origins][:, None]).all()
    assert rmse_of(found, truth) == pytest.approx(float(np.sqrt(np.mean((wave[origins][:, None] - truth) ** 2))))
    assert rmse_of(found, truth) > 0.1


def test_the_last_season_beyond_a_season() -> None:
    values = np.arange(30.0)
    found = seasonal_naive(values, np.array([9, 20]), 8, 3)
    assert found is not None and found.tolist() == [[7, 8, 9, 7, 8, 9, 7, 8], [18, 19, 20, 18, 19, 20, 18, 19]]
    assert seasonal_naive(values, np.array([2]), 2, 3) is not None
    assert seasonal_naive(values, np.array([1]), 2, 3) is None, "no whole season precedes the first forecast"
    assert seasonal_naive(values, np.array([9]), 2, 0) is None
    wave = np.sin(2 * np.pi * np.arange(60) / 12)
    origins, truth = last(wave, 20, 5)
    naive = seasonal_naive(wave, origins, 5, 12)
    assert naive is not None and rmse_of(naive, truth) == pytest.approx(0, abs=1e-12)


def test_the_test_part_is_never_fitted_to() -> None:
    values = np.concatenate([np.sin(np.arange(80) / 3), np.full(20, 9.0)])
    found = autoregression(values, 2, 1, 20)
    assert found is not None and found > 1
    origins = last(values, 18, 3)[0]
    changed = np.where(np.arange(100) > origins[0], -7.0, values)
    fits = [autoregression_rmse(one, values, 2, 3, origins[:1]) for one in (values, changed)]
    assert fits[0] == fits[1], "a fit for three steps ends three steps before the first forecast"


def test_gaps_are_neither_fitted_to_nor_scored() -> None:
    wave = 5 + np.sin(np.arange(100) / 3)
    truth, filled = wave.copy(), wave.copy()
    truth[[90, 95]], filled[[95]] = np.nan, 50.0
    origins = np.array([80, 85, 89, 94])
    assert autoregression_rmse(wave, truth, 2, 1, origins) == pytest.approx(0, abs=1e-9)
    assert rmse_of(np.full((1, 3), 2.0), np.array([[1.0, np.nan, 2.0]])) == pytest.approx(np.sqrt(0.5))


def test_too_few_values_to_fit_to() -> None:
    assert autoregression(np.arange(30.0), 9, 1, 12) is None
    assert autoregression(np.arange(31.0), 9, 1, 12) is not None
