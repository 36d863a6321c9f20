"""The sequence regressor: predicts a number from a numeric sequence, or the next values of a time series."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gatewise.config import ModelConfig
from gatewise.data.frames import read_frame
from gatewise.data.moments import moments
from gatewise.data.row_times import read_row_times
from gatewise.errors import DataError, InputError
from gatewise.models.sequence_reader import BATCH, Numbers, SequenceReader
from gatewise.nn import in_eval_mode
from gatewise.runtime.forecasting import check_forecast, continued, has_columns, rows_of
from gatewise.runtime.parts import Scaling as Scaling


class SequenceRegressor(SequenceReader):
    """Predict H numbers for each sequence: ``y = y_std · z + y_mean`` with z of ``SequenceReader``.

    H is 1, or the horizon of a model that forecasts a series. Sequences are (N, T, I), with the steps of each in
    ``lengths`` (N,) if they differ; or a list of arrays (T_n, I). They and the predictions are in the user's units,
    predictions in float64. The model standardizes in float64: values that vary slightly around a large number keep
    their digits, as long as x is float64. Where H is 1, outputs and targets have the shape (N,), else (N, H).

    With ``scaling.relative``, the target's column of x, and y, are differences from the last value v of that column:
    ``y = v + y_std · z + y_mean``.

    Args:
        config: the ``[model]`` section of a recipe.
        input_size: I.
        scaling: the standardization, and H; none, and 1, by default.
        engine: the engine of the recurrent layers.
        window: W, the number of steps of a series that ``forecast`` reads.
    """

    def __init__(
        self,
        config: ModelConfig,
        input_size: int,
        scaling: Scaling | None = None,
        engine: str = "auto",
        window: int = 0,
    ) -> None:
        self.horizon = 1 if scaling is None else scaling.horizon
        super().__init__(config, input_size, self.horizon, engine)
        self.input_size, self.scaling, self.window = input_size, scaling or Scaling(), window

    def forward(
        self, x: Float[Tensor, "N T I"], targets: Tensor | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        """Return the predictions in the user's units; with targets, the mean squared error of z, a scalar.

        A target that is NaN is not known, and does not count.
        """
        z, dtype = self._read(self.standardised(x), lengths), self.decoder.weight.dtype
        if targets is None:
            return self._in_units(z, x)
        wanted = targets.double() - self._last(x) if self.scaling.relative else targets.double()
        wanted = ((wanted - self.scaling.y_mean) / self.scaling.y_std).to(dtype)
        known = ~wanted.isnan()
        share: Tensor = wanted.numel() / known.sum()
        return F.mse_loss(z, torch.where(known, wanted, z.detach())) * share

    def predict(self, x: Numbers, batch_size: int = BATCH, *, lengths: Tensor | npt.ArrayLike | None = None) -> Any:
        """Return the predictions for each sequence, (N,) or (N, H): a tensor for a tensor, else a NumPy array."""
        with in_eval_mode(self):
            z = torch.cat([self._outputs(part) for part in self.outputs_of(x, lengths, batch_size)])
            if not self.scaling.relative:
                answers = self._in_units(z, z)
            else:
                answers = self._in_units(z, x if isinstance(x, Tensor) else torch.from_numpy(np.asarray(x)))
        return answers if isinstance(x, Tensor) else answers.cpu().numpy()

    def forecast(self, values: Any, steps: int | None = None) -> npt.NDArray[np.float64]:
        """Return the values of the target that follow a series, as ``gatewise forecast`` prints them.

        The H values of the horizon come from one window, the last W rows. Beyond the horizon, the next window contains
        these forecasts in place of true values, and so on; that needs a model whose only column, except those known in
        advance, is the target.

        Args:
            values: (N, K), W or more rows of the columns ``scaling.columns`` in this order, (N,) for one column, or a
                DataFrame, whose columns are found by name, and whose dates, if it has some, are checked as those of a
                file are; gaps are not filled (``Run.forecast`` does). A model with columns known in advance also needs
                the rows of the steps to forecast, a whole number of horizons: with these columns, and NaN for the
                target.
            steps: the number of values; H by default.

        Returns:
            (steps,) float64, in the target's units.

        Raises:
            UsageError: the model does not forecast a series; the shape is wrong, rows are missing, or steps exceed H.
            InputError: ``steps`` is not a whole number; dates are not in order, not at the pace of the training data,
                or steps of the window are missing.
        """
        steps = check_forecast(self.scaling, self.window, steps)
        rows, count = rows_of(values, self.scaling)
        if has_columns(values):
            self._check_times(values, count)
        return self.continued(rows[:count], rows[count:], steps)

    def continued(
        self, history: npt.NDArray[np.float64], future: npt.NDArray[np.float64], steps: int
    ) -> npt.NDArray[np.float64]:
        """Return the values of the target that follow ``history``, (N, K); see ``forecast``.

        Args:
            history: (N, K), with W or more rows.
            future: (F, K), the rows after it, of which only the columns known in advance are read.
            steps: the number of values.

        Raises:
            UsageError: there are too few rows, or steps beyond the horizon that need other columns.
        """
        return continued(self.scaling, self.window, history, future, steps, self.predict)

    def _check_times(self, values: Any, count: int) -> None:
        """Check the dates of a table with ``count`` rows of history, if it has some.

        Raises:
            InputError: they are not in order or at the pace of the training data, or steps that are read are missing.
        """
        frame = read_frame(values)
        if frame is None:
            return
        names = self.scaling.columns
        lines = [f"data: row {row}" for row in range(len(next(iter(frame.values()))))]
        try:
            times = read_row_times(frame, lines, names, names, choose=False)
            if times.calendar is not None:
                times.calendar.like(self.scaling.pace, times.numbers[-1]).check_pace(self.scaling.pace, "data")
        except DataError as problem:
            raise InputError(str(problem)) from None
        start = max(count - self.window, 0)
        gaps = np.flatnonzero(np.diff(times.numbers[start:]) > 1)
        if len(gaps):
            row = start + int(gaps[0]) + 1
            raise InputError(
                f"{lines[row]}: steps are missing before this row; expected a row per step, add them, or call "
                "forecast of the Run, which fills gaps as in training"
            )

    def standardised(self, x: Float[Tensor, "N T I"]) -> Float[Tensor, "N T I"]:
        """Return ``(x − x_mean) / x_std``, computed in float64, in the dtype of the model."""
        if self.scaling.x_mean:
            x = x.double()
            if self.scaling.relative:
                place = self.scaling.columns.index(self.scaling.target)
                shift = torch.zeros_like(x[:, -1:])
                shift[:, :, place] = x[:, -1:, place]
                x = x - shift
            x = (x - x.new_tensor(self.scaling.x_mean)) / x.new_tensor(self.scaling.x_std)
        return x.to(self.decoder.weight.dtype)

    def _read(self, standardised: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self._outputs(self.read(standardised.transpose(0, 1), lengths))

    def _outputs(self, z: Float[Tensor, "N H"]) -> Tensor:
        return z[:, 0] if self.horizon == 1 else z

    def _in_units(self, z: Tensor, x: Tensor) -> Tensor:
        answers = z.double() * self.scaling.y_std + self.scaling.y_mean
        return self._last(x).to(answers.device) + answers if self.scaling.relative else answers

    def _last(self, x: Tensor) -> Tensor:
        """Return the last value of the target in each window, (N,) or (N, 1)."""
        last = x[:, -1, self.scaling.columns.index(self.scaling.target)].double()
        return last if self.horizon == 1 else last[:, None]


def relative_to_last(
    x: npt.NDArray[np.floating], y: npt.NDArray[np.floating], place: int
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Return windows (N, W, I) and targets (N,) or (N, H) as differences from the last value of a column of x."""
    last, shifted = x[:, -1, place], x.copy()
    shifted[:, :, place] -= last[:, None]
    return shifted, y - (last if y.ndim == 1 else last[:, None])


def scaling_of(
    inputs: npt.NDArray[np.floating], targets: npt.NDArray[np.floating], columns: Sequence[str] = (), target: str = ""
) -> Scaling:
    """Return the standardization of the training data: inputs (…, I) over all steps, targets of any shape.

    A constant column is only shifted to 0. Constant targets get a tiny standard deviation, so that the model predicts
    that constant. Targets that are NaN do not count.
    """
    x_mean, x_std = moments(np.reshape(inputs, (-1, np.shape(inputs)[-1])))
    y_mean, y_std = (float(one[0]) for one in moments(np.reshape(targets[~np.isnan(targets)], (-1, 1))))
    return Scaling(
        x_mean.tolist(),
        np.where(x_std > 0, x_std, 1.0).tolist(),
        y_mean,
        y_std or max(abs(y_mean) * 2.0**-80, sys.float_info.min),
        list(columns),
        target,
    )
