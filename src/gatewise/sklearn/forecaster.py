"""A forecaster of series."""

from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from gatewise.artifact.run_folder import RunFolder
from gatewise.data.regression import open_series
from gatewise.errors import InputError
from gatewise.sklearn.base import Estimator


class Forecaster(Estimator):
    """Forecast the next values of a series with ``gatewise.SequenceRegressor``; the default recipe is forecaster.

    X is a series: numbers (N,), or a table (N, K), a row per time step, whose first column is forecast
    (``overrides={"data.target": ...}`` names another). The last ``validation_fraction`` of the windows selects the best
    epoch. In a search, split by time: ``GridSearchCV(Forecaster(), ..., cv=TimeSeriesSplit())``.

    Args:
        window: the number of steps to read before each forecast, or a span such as ``"2 weeks"`` where the series has
            dates; None takes a tenth of the series, at most 64 steps.
        horizon: the number of steps that are forecast from one window, or a span.
        **parameters: those of ``Estimator``.

    Attributes:
        model_: the ``gatewise.SequenceRegressor``.
        target_: the name of the column that is forecast; ``value`` for a series without names.
        history_: the metrics of each epoch.
    """

    _recipe = "forecaster"

    def __init__(
        self,
        *,
        window: int | str | None = None,
        horizon: int | str = 1,
        hidden_size: int | None = None,
        num_layers: int | None = None,
        cell: str | None = None,
        epochs: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        validation_fraction: float = 0.1,
        random_state: Any = None,
        recipe: str | Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        out: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            hidden_size=hidden_size,
            num_layers=num_layers,
            cell=cell,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            validation_fraction=validation_fraction,
            random_state=random_state,
            recipe=recipe,
            overrides=overrides,
            out=out,
            verbose=verbose,
        )
        self.window, self.horizon = window, horizon

    def _settings(self) -> dict[str, Any]:
        own = {"data.window": self.window, "data.horizon": self.horizon}
        chosen = {key: int(v) if isinstance(v, Integral) else v for key, v in own.items() if v is not None}
        return {**chosen, **super()._settings()}

    def fit(self, X: Any, y: Any = None) -> "Forecaster":
        """Train on a series.

        Args:
            X: numbers (N,) or (N, K), a column, or a data frame.
            y: None; for scikit-learn's interface.

        Raises:
            ValueError: the series is too short, a number is missing or not finite, or there is a y.
        """
        if y is not None:
            raise InputError(
                "y is given, but a forecaster learns from the series alone; expected None: give fit(series) the column "
                'to forecast in X, and name columns known in advance with overrides={"data.known": [...]}'
            )
        held = max(self._held_out(len(X)), 1)
        with self._trained(X, self._seed(), **{"data.valid_size": held, "data.test_size": 1}) as run:
            settings = RunFolder(run.path).read_config().data
            series = open_series(settings)
        assert series is not None
        self.target_, self._horizon = settings.target, int(settings.horizon)
        self._end = series.values[-int(settings.window) :]
        return self

    def predict(self, steps: int | None = None) -> npt.NDArray[np.float64]:
        """Return the values that follow the end of the series, (steps,); as many as the horizon by default.

        Beyond the horizon, a window contains earlier forecasts.

        Raises:
            ValueError: ``steps`` is below 1, or beyond the horizon of a model that reads several columns.
        """
        check_is_fitted(self)
        steps = self._horizon if steps is None else steps
        if not isinstance(steps, Integral) or steps < 1:
            raise InputError(f"steps is {steps!r}; expected a number, 1 or more")
        if steps > self._horizon and self._end.shape[1] > 1:
            raise InputError(
                f"steps is {steps}, beyond the horizon of {self._horizon}: the model reads {self._end.shape[1]} "
                f"columns and predicts only {self.target_!r}; give fewer steps, or a longer horizon"
            )
        forecasts: npt.NDArray[np.float64] = self.model_.continued(self._end, self._end[:0], int(steps))
        return forecasts

    def score(self, X: Any, y: Any = None) -> float:
        """Return R² of the forecasts of the values that follow, X: (M,), or a table with the columns of the series."""
        check_is_fitted(self)
        if self._end.shape[1] > 1 or hasattr(X, "columns"):
            names = list(self.model_.scaling.columns)
            table = X[self.target_] if hasattr(X, "columns") else np.asarray(X)[:, names.index(self.target_)]
        else:
            table = X
        follows = np.asarray(table, np.float64).reshape(-1)
        return float(r2_score(follows, self.predict(len(follows))))
