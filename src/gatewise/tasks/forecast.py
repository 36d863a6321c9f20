"""The next values of a series, by a run's best model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gatewise.artifact.run_folder import RunFolder
from gatewise.errors import DataError, UsageError
from gatewise.files import spooled
from gatewise.models.finite import check_finite
from gatewise.models.loading import load_as
from gatewise.models.sequence_regressor import SequenceRegressor
from gatewise.tasks.regression_data import check_reach, data_of, open_series
from gatewise.tasks.task import reading_for


@dataclass(frozen=True)
class Forecast:
    """The values that come after a series' end.

    Attributes:
        target: the column.
        positions: the time of each, by the series' index where it has one, else ``+1``, ``+2``, ….
        values: in the column's units.
    """

    target: str
    positions: list[str]
    values: list[float]

    def as_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {"target": self.target, "positions": self.positions, "values": self.values}


def forecast(run: str | Path, file: str | Path | None = None, steps: int | None = None) -> Forecast:
    """Forecast the values after a series' end.

    The value k steps after the end is answered from the window that ends ``horizon`` steps before it. Beyond the
    horizon such a window holds earlier forecasts.

    Args:
        run: a regressor's run folder.
        file: a CSV file with the columns that the model reads; the run's own data where not given.
        steps: N values; as many as the horizon where not given.

    Raises:
        UsageError: the run forecasts no series, ``steps`` is below 1, or it goes beyond the horizon of a model that
            reads more columns than it answers.
        DataError: the series is missing, not as it should be, or shorter than a window.
        NotFinite: a forecast is not a finite number.
    """
    model = load_as(SequenceRegressor, run)
    settings, scaling = RunFolder.existing(run).read_config().data, model.scaling
    if not scaling.columns:
        raise UsageError(f"{run}: its model answers sequences; expected the run of a series, trained on a CSV file")
    window, horizon = settings.window, settings.horizon
    count = horizon if steps is None else steps
    if count < 1:
        raise UsageError(f"--steps is {count}; expected 1 or more")
    if count > horizon and len(scaling.columns) > 1:
        raise UsageError(
            f"--steps is {count}, beyond the horizon of {horizon}: the model reads {len(scaling.columns)} columns and "
            f"answers {scaling.target!r} alone; give --steps {horizon} or fewer, or train with a longer data.horizon"
        )
    with reading_for(RunFolder(run), file, "FILE"), spooled(Path(file or "")) as path:
        settings = data_of(settings, scaling, file and path)
        series, name = open_series(settings), str(file or settings.path or settings.builtin)
    assert series is not None
    first = len(series.values) - window - horizon + 1  # where the window of the first forecast begins
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
