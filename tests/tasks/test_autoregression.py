"""Persistence and autoregressions: compared with statsmodels, and on series with a known law."""

import numpy as np
import pytest

from gatewise.data.series import load_sunspots
from gatewise.tasks.autoregression import autoregression_rmse, persistence_rmse


@pytest.mark.parametrize("order", [2, 9])
def test_sunspots_as_statsmodels_has_them(order: int) -> None:
    models = pytest.importorskip("statsmodels.tsa.ar_model")
    values = load_sunspots().values[:, 0]
    weights = models.AutoReg(values[:-60], order).fit().params
    past = [values[len(values) - 60 - lag : len(values) - lag] for lag in range(1, order + 1)]
    errors = weights[0] + weights[1:] @ np.array(past) - values[-60:]
    expected = float(np.sqrt(np.mean(errors**2)))
    assert autoregression_rmse(values, order, 1, 60) == pytest.approx(expected, rel=1e-6)


def test_figures_of_sunspots() -> None:
    pytest.importorskip("statsmodels")
    values = load_sunspots().values[:, 0]
    assert persistence_rmse(values, 1, 60) == pytest.approx(np.sqrt(np.mean(np.diff(values)[-60:] ** 2)))
    assert persistence_rmse(values, 1, 60) == pytest.approx(32.898, abs=1e-3)
    assert autoregression_rmse(values, 2, 1, 60) == pytest.approx(22.645, abs=1e-3)
    assert autoregression_rmse(values, 9, 1, 60) == pytest.approx(19.140, abs=1e-3)


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_wave_is_an_autoregression_of_two(horizon: int) -> None:
    wave = 5 + np.sin(np.arange(100) / 3)
    assert autoregression_rmse(wave, 2, horizon, 20) == pytest.approx(0, abs=1e-9)
    ahead = float(np.sqrt(np.mean((wave[-20:] - wave[80 - horizon : 100 - horizon]) ** 2)))
    assert persistence_rmse(wave, horizon, 20) == pytest.approx(ahead)
    assert ahead > 0.1


def test_the_test_part_is_never_fitted_to() -> None:
    values = np.concatenate([np.sin(np.arange(80) / 3), np.full(20, 9.0)])
    found = autoregression_rmse(values, 2, 1, 20)
    assert found is not None
    assert found > 1


def test_too_few_values_to_fit_to() -> None:
    assert autoregression_rmse(np.arange(30.0), 9, 1, 12) is None
    assert autoregression_rmse(np.arange(31.0), 9, 1, 12) is not None
