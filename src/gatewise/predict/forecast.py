"""Forecasts of the next values of a series with a run's best model."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gatewise.artifact.run_folder import RunFolder, reading_for
from gatewise.config import DataConfig
from gatewise.data.configured import suffix_of
from gatewise.data.regression import as_steps, open_series
from gatewise.data.series import Series
from gatewise.errors import DataError, RunError, UsageError
from gatewise.files import spooled
from gatewise.models.finite import check_finite
from gatewise.models.loading import load
from gatewise.models.sequence_regressor import SequenceRegressor
from gatewise.runtime.parts import Scaling
from gatewise.wording import argument, option, train_again


@dataclass(frozen=True)
class Forecast:
    """The values that follow the end of a series.

    Attributes:
        target: the column.
        positions: the time of each value, from the series' dates or index if it has one, otherwise ``+1``, ``+2``, ….
        values: the forecasts, in the column's units.
        level: the probability of the intervals; None if none were asked for.
        radii: half the width of the interval of each value; None beyond the horizon.
        notes: what was filled and left out in the series, and which values have no interval, a line each.
    """

    target: str
    positions: list[str]
    values: list[float]
    level: float | None = None
    radii: list[float | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def low(self) -> list[float | None]:
        """The lower end of each interval."""
        return [None if r is None else value - r for value, r in zip(self.values, self.radii, strict=False)]

    @property
    def high(self) -> list[float | None]:
        """The upper end of each interval."""
        return [None if r is None else value + r for value, r in zip(self.values, self.radii, strict=False)]

    def as_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        found = {"target": self.target, "positions": self.positions, "values": self.values}
        return found if self.level is None else {**found, "interval": self.level, "low": self.low, "high": self.high}


def forecast(
    run: str | Path, file: str | Path | None = None, steps: int | str | None = None, interval: float | None = None
) -> Forecast:
    """Forecast the values that follow the last value of the target in a series.

    The values of the horizon come from one window, the last steps of the series. Beyond the horizon, the next window
    contains these forecasts in place of true values, and so on.

    Args:
        run: a regressor's run folder.
        file: a table with the model's columns; defaults to the run's own data. Where columns are known in advance, its
            last rows contain these for the steps to forecast, a whole number of horizons, and no target.
        steps: the number of values, or a span of time such as ``3 days``; defaults to the horizon.
        interval: the level of the prediction intervals, such as 0.9; None for none.

    Raises:
        UsageError: the run does not forecast a series; ``steps`` is below 1, no number of steps, or exceeds the horizon
            of a model with more input columns than the target; the run cannot give intervals of this level.
        RunError: the run has no intervals.
        DataError: the series is missing, invalid, or shorter than a window, or lacks columns known in advance.
        NotFinite: a forecast is not finite.
    """
    model = load(run, SequenceRegressor)
    folder, scaling = RunFolder.existing(run), model.scaling
    if not scaling.columns:
        raise UsageError(
            f"{run}: its model predicts one value per sequence; expected the run of a series, trained on a table"
        )
    radii = [] if interval is None else radii_of(folder, model, interval)
    settings = folder.read_config().data
    if file is None and not (settings.path or settings.train_file or settings.builtin):
        raise UsageError(f"{run}: a run without data of its own, such as an imported one; add {argument('file')}")
    with reading_for(folder, file, argument("file")), spooled(Path(file or ""), suffix_of(settings)) as path:
        name = str(file or settings.path or settings.builtin)
        series = open_like(settings, scaling, file and path, name)
    count = model.horizon if steps is None else as_steps(option("steps"), steps, series, name)
    if len(series.values) < model.window:
        raise DataError(
            f"{name}: {len(series.values)} values are too few for a window of {model.window} and a horizon of "
            f"{model.horizon}; expected at least {model.window}"
        )
    check_known(series, scaling, count, name)
    check_reach(series.values[-model.window :], scaling, name)
    values = model.continued(series.values, series.future, count)
    check_finite(torch.from_numpy(values), "the forecasts")
    positions, notes = [series.position(k) for k in range(1, count + 1)], list(series.notes)
    known = [radii[k] if k < model.horizon else None for k in range(count)] if interval is not None else []
    if None in known:
        notes.append(f"steps after {model.horizon}, the horizon, have no interval: they are forecast from forecasts")
    return Forecast(scaling.target, positions, values.tolist(), interval, known, notes)


def radii_of(run: RunFolder, model: SequenceRegressor, level: float) -> list[float]:
    """Return half the width of the interval at each step of the horizon.

    Raises:
        UsageError: the level is invalid, or the validation split is too small for it.
        RunError: the run has no intervals, or those of other weights.
    """
    intervals = run.read_intervals(model.horizon)
    if intervals is None:
        raise RunError(
            f"{run.intervals_file}: no intervals of these weights; they are written when training ends: "
            f"{train_again(str(run.path))}, or train anew"
        )
    return intervals.radius(level)


def open_like(settings: DataConfig, scaling: Scaling, data: str | Path | None, name: str) -> Series:
    """Open the series of a run, or other data like it.

    Raises:
        UsageError: the settings are invalid.
        DataError: the data is missing or invalid, or its steps are not those of the training data.
    """
    series = open_series(data_of(settings, scaling, data))
    assert series is not None
    if series.calendar is not None:
        calendar = series.calendar.like(scaling.pace, len(series.values) - 1)
        calendar.check_pace(scaling.pace, name)
        series = replace(series, calendar=calendar)
    return series


def check_known(series: Series, scaling: Scaling, steps: int, name: str) -> None:
    """Check that a series goes on with the columns known in advance, for a whole number of horizons.

    Raises:
        DataError: a value of one is missing.
    """
    if lacking := unknown_steps(series, scaling, steps):
        needed = -(-steps // scaling.horizon) * scaling.horizon
        listed = ", ".join(lacking) if len(lacking) <= 4 else f"{lacking[0]} to {lacking[-1]}, {len(lacking)} in all"
        raise DataError(
            f"{name}: no {', '.join(map(repr, scaling.known))} for {listed}; expected a row with these columns for "
            f"each of the {needed} steps after the last value of {scaling.target!r}"
        )


def unknown_steps(series: Series, scaling: Scaling, steps: int) -> list[str]:
    """Return the times after the last value, in a whole number of horizons, that lack a column known in advance."""
    places = [series.columns.index(column) for column in scaling.known]
    needed = -(-steps // scaling.horizon) * scaling.horizon if places else 0
    known = [bool(np.isfinite(row[places]).all()) for row in series.future[:needed]]
    return [series.position(k + 1) for k in range(needed) if not (k < len(known) and known[k])]


def check_reach(x: npt.NDArray[Any], scaling: Scaling, name: str) -> None:
    """Check that steps (…, I), or their first columns, can be standardised in float32.

    Raises:
        DataError: a number is too far from the training data, relative to its standard deviation.
    """
    if not scaling.x_mean:
        return
    if scaling.relative:
        place = scaling.columns.index(scaling.target)
        x = x - np.where(np.arange(x.shape[-1]) == place, x[..., -1:, :], 0.0)
    flat, width = x.reshape(-1, x.shape[-1]), x.shape[-1]
    with np.errstate(over="ignore"):
        ends = (np.stack([flat.min(0), flat.max(0)]) - np.array(scaling.x_mean[:width])) / np.array(
            scaling.x_std[:width]
        )
        far = ~np.isfinite(ends.astype(np.float32))
    if far.any():
        end, place = map(int, np.argwhere(far)[0])
        column = repr(scaling.inputs[place]) if scaling.columns else str(place)
        raise DataError(
            f"{name}: {(flat.max(0) if end else flat.min(0))[place]!s} in the column {column} is too far from the "
            f"training split, {scaling.x_mean[place]:.6g} ± {scaling.x_std[place]:.6g}; expected numbers like those"
        )


def data_of(settings: DataConfig, scaling: Scaling, data: str | Path | None) -> DataConfig:
    """Return the data settings for a model: the run's own or the given data, with the model's input columns.

    Raises:
        DataError: the path does not exist, or is a folder where a series needs a file, or the reverse for arrays.
    """
    if data is not None:
        settings = settings.model_copy(update={"path": str(data), "builtin": ""})
    roles = {"columns": scaling.columns, "target": scaling.target, "known": scaling.known}
    settings = settings.model_copy(update=roles)
    path = Path(settings.path).expanduser()
    if settings.path and not os.path.exists(path):
        raise DataError(f"{path}: no such file or folder")
    arrays = os.path.isdir(path) or path.suffix == ".npz"
    if settings.path and arrays == bool(scaling.columns):
        found = "a folder" if os.path.isdir(path) else "arrays" if arrays else "a file"
        expected = "a table" if scaling.columns else "an .npz file, or a folder with *.train.npz"
        raise DataError(f"{path}: {found}; expected {expected}, as the run was trained on")
    return settings
