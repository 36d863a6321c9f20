"""The sequence regressor: predicts a number from a numeric sequence, or the next values of a time series."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.runtime.forecasting import check_forecast, continued, rows_of
from gatewise.runtime.library import Inputs
from gatewise.runtime.model import Floats, Model
from gatewise.runtime.model_file import ModelFile
from gatewise.runtime.parts import scaling_of
from gatewise.runtime.sequences import Numbers, as_steps


class SequenceRegressor(Model):
    """A regressor of sequences of I numbers, in the units of the training data, as are its predictions, in float64.

    Sequences are (N, T, I), with the steps of each in ``lengths`` (N,) if they differ; or a list of arrays (T_n, I).

    Attributes:
        input_size: I.
        scaling: the standardization; of a forecaster, also the columns.
        horizon: H, the number of values predicted.
        window: W, the number of steps of a series that ``forecast`` reads.
    """

    def __init__(self, file: ModelFile, threads: int) -> None:
        super().__init__(file, threads)
        self.input_size, self.scaling = scaling_of(
            {"x_mean": [], "x_std": [], **file.about["scaling"], "input_size": file.about["inputs"]}, Path(file.source)
        )
        self.horizon, self.window = self.scaling.horizon, int(file.about["window"])

    def _inputs(self, inputs: Any) -> Inputs:
        return as_steps(inputs, self.input_size)

    def predict(self, x: Any, lengths: npt.ArrayLike | None = None) -> Floats:
        """Return the predictions for each sequence, (N,) or, where H exceeds 1, (N, H).

        Raises:
            UsageError: x is empty or has another shape, or the lengths do not fit.
            InputError: a number is not finite, or too far from the training data.
        """
        found = self._read_all(Numbers(x, lengths, self.input_size))
        return found[:, 0] if self.horizon == 1 else found

    def forecast(self, values: Any, steps: int | None = None) -> npt.NDArray[np.float64]:
        """Return the values of the target that follow a series.

        The H values of the horizon come from one window, the last W rows. Beyond the horizon, the next window contains
        these forecasts in place of true values, and so on; that needs a model whose only column, except those known in
        advance, is the target.

        Args:
            values: (N, K), W or more rows of the columns ``scaling.columns`` in this order, (N,) for one column, or a
                table whose columns are found by name; a row per step: dates are not read. A model with columns known in
                advance also needs the rows of the steps to forecast, a whole number of horizons: with these columns,
                and NaN for the target.
            steps: the number of values; H by default.

        Returns:
            (steps,) float64, in the target's units.

        Raises:
            UsageError: the model does not forecast a series; the shape is wrong, rows are missing, or steps exceed H.
            InputError: ``steps`` is not a whole number.
        """
        steps = check_forecast(self.scaling, self.window, steps)
        rows, count = rows_of(values, self.scaling)
        return continued(self.scaling, self.window, rows[:count], rows[count:], steps, self.predict)
