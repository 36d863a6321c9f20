"""Forecasts of the next values of a series with a run's best model."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gatewise.artifact.run_folder import RunFolder, reading_for
from gatewise.config import DataConfig
from gatewise.data.regression import open_series
from gatewise.errors import DataError, UsageError
from gatewise.files import spooled
from gatewise.models.finite import check_finite
from gatewise.models.loading import load
from gatewise.models.sequence_regressor import SequenceRegressor
from gatewise.runtime.parts import Scaling
from gatewise.wording import argument, option


@dataclass(frozen=True)
class Forecast:
    """The values that follow the end of a series.

    Attributes:
        target: the column.
        positions: the time of each value, from the series' index if it has one, otherwise ``+1``, ``+2``, ….
        values: the forecasts, in the column's units.
    """

    target: str
    positions: list[str]
    values: list[float]

    def as_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {"target": self.target, "positions": self.positions, "values": self.values}


def forecast(run: str | Path, file: str | Path | None = None, steps: int | None = None) -> Forecast:
    """Forecast the values that follow the end of a series.

    The value k steps after the end is predicted from the window that ends ``horizon`` steps before it. Beyond the
    horizon, that window contains earlier forecasts.

    Args:
        run: a regressor's run folder.
        file: a CSV file with the model's input columns; defaults to the run's own data.
        steps: the number of values; defaults to the horizon.

    Raises:
        UsageError: the run does not forecast a series, ``steps`` is below 1, or it exceeds the horizon of a model with
            more input columns than the target.
        DataError: the series is missing, invalid, or shorter than a window.
        NotFinite: a forecast is not finite.
    """
    model = load(run, SequenceRegressor)
    settings, scaling = RunFolder.existing(run).read_config().data, model.scaling
    if not scaling.columns:
        raise UsageError(
            f"{run}: its model predicts one value per sequence; expected the run of a series, trained on a CSV file"
        )
    window, horizon = settings.window, settings.horizon
    count = horizon if steps is None else steps
    if count < 1:
        raise UsageError(f"{option('steps')} is {count}; expected 1 or more")
    if count > horizon and len(scaling.columns) > 1:
        raise UsageError(
            f"{option('steps')} is {count}, beyond the horizon of {horizon}: the model reads {len(scaling.columns)} "
            "columns and "
            f"predicts only {scaling.target!r}; give {option('steps', horizon)} or fewer, or train with a longer "
            "data.horizon"
        )
    with reading_for(RunFolder(run), file, argument("file")), spooled(Path(file or "")) as path:
        settings = data_of(settings, scaling, file and path)
        series, name = open_series(settings), str(file or settings.path or settings.builtin)
    assert series is not None
    first = len(series.values) - window - horizon + 1  # start of the window of the first forecast
    if first < 0:
        raise DataError(
            f"{name}: {len(series.values)} values are too few for a window of {window} and a horizon of {horizon}; "
            f"expected at least {window + horizon - 1}"
        )
    values, answers = series.values[first:], list[float]()
    check_reach(values, scaling, name)
    for k in range(count):
        answers.append(float(model.predict(values[None, k : k + window])[0]))
        if len(scaling.columns) == 1:
            values = np.append(values, [answers[-1:]], axis=0)
    check_finite(torch.tensor(answers, dtype=torch.float64), "the forecasts")
    return Forecast(scaling.target, [series.position(k + 1) for k in range(count)], answers)


def check_reach(x: npt.NDArray[Any], scaling: Scaling, name: str) -> None:
    """Check that sequences (…, I) can be standardised in float32.

    Raises:
        DataError: a number is too far from the training data, relative to its standard deviation.
    """
    if not scaling.x_mean:
        return
    flat = x.reshape(-1, x.shape[-1])
    with np.errstate(over="ignore"):
        ends = (np.stack([flat.min(0), flat.max(0)]) - np.array(scaling.x_mean)) / np.array(scaling.x_std)
        far = ~np.isfinite(ends.astype(np.float32))
    if far.any():
        end, place = map(int, np.argwhere(far)[0])
        column = repr(scaling.columns[place]) if scaling.columns else str(place)
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
    settings = settings.model_copy(update={"columns": scaling.columns, "target": scaling.target})
    path = Path(settings.path).expanduser()
    if settings.path and not os.path.exists(path):
        raise DataError(f"{path}: no such file or folder")
    arrays = os.path.isdir(path) or path.suffix == ".npz"
    if settings.path and arrays == bool(scaling.columns):
        found = "a folder" if os.path.isdir(path) else "arrays" if arrays else "a file"
        expected = "a table" if scaling.columns else "an .npz file, or a folder with *.train.npz"
        raise DataError(f"{path}: {found}; expected {expected}, as the run was trained on")
    return settings
