"""A rolling backtest of a forecaster: every window of a split or a file, with the weights of the run unchanged."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.run_folder import RunFolder, reading_for
from gatewise.config import Config
from gatewise.data.arrays import Batch, Sequences
from gatewise.data.moments import mean_absolute, root_mean_square
from gatewise.data.regression import windows_of
from gatewise.data.windows import Origins, Windows
from gatewise.errors import RunError, UsageError
from gatewise.models.sequence_regressor import SequenceRegressor
from gatewise.predict.forecast import check_reach, open_like
from gatewise.runtime.intervals import LEVEL
from gatewise.runtime.weights_file import read_weights_header
from gatewise.tasks.baselines import persistence, seasonal_naive
from gatewise.wording import option

COVERAGE = "test_coverage_90"
"""The key of the measured coverage in a final line."""
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Backtest:
    """Forecasts from n origins over H steps, and the true values.

    Attributes:
        whole: the series.
        origins: (n,), the last step that each forecast reads.
        truth: (n, H), NaN where the value is missing.
        forecasts: (n, H).
        naive: the forecasts of baselines by name, (n, H) each.
        radii: (H,), half the width of the intervals; None if there are none.
        data_hash: SHA-256 of what was forecast from, and of the true values.
    """

    whole: Windows
    origins: Origins
    truth: Numbers
    forecasts: Numbers
    naive: dict[str, Numbers]
    radii: Numbers | None
    data_hash: str

    def figures(self) -> dict[str, Any]:
        """Return the metrics: over all steps, and with ``_step_k`` of each step of a horizon above 1."""
        found = self._figures(slice(None))
        figures: dict[str, Any] = {key: found.pop(key) for key in ("rmse", "mae")}
        figures |= {"tokens": int((~np.isnan(self.truth)).sum()), "oov_rate": 0.0, "data_hash": self.data_hash, **found}
        if filled := int(self.whole.series.missing.any(1).sum()):
            figures["filled_steps"] = filled
        for k in range(self.whole.horizon) if self.whole.horizon > 1 else ():
            if not np.isnan(self.truth[:, k]).all():
                figures |= {f"{name}_step_{k + 1}": value for name, value in self._figures(slice(k, k + 1)).items()}
        return figures

    def _figures(self, steps: slice) -> dict[str, float]:
        truth = self.truth[:, steps]
        known = ~np.isnan(truth)
        errors = (self.forecasts[:, steps] - truth)[known]
        figures = {"rmse": root_mean_square(errors), "mae": mean_absolute(errors)}
        for name, values in self.naive.items():
            figures[f"{name}_rmse"] = root_mean_square((values[:, steps] - truth)[known])
        if self.radii is not None:
            within = np.abs(self.forecasts[:, steps] - truth) <= self.radii[steps]
            figures["coverage_90"] = float(within[known].mean())
        return figures

    def save(self, path: Path) -> None:
        """Write a CSV file with a line per origin and step."""
        content = io.StringIO()
        csv.writer(content, lineterminator="\n").writerows(self._table())
        write_atomically(path, content.getvalue())

    def _table(self) -> Iterator[tuple[object, ...]]:
        yield "origin", "step", "time", "truth", "forecast", "low", "high"
        last = len(self.whole.series.values) - 1
        radii = self.radii if self.radii is not None else np.full(self.whole.horizon, np.nan)
        names = [self.whole.series.position(t - last) for t in range(last + 1)]
        for row, origin in enumerate(self.origins.tolist()):
            for k, radius in enumerate(radii.tolist()):
                value, true = float(self.forecasts[row, k]), float(self.truth[row, k])
                ends = ["", ""] if np.isnan(radius) else [value - radius, value + radius]
                known = "" if np.isnan(true) else true
                yield names[origin], k + 1, names[origin + k + 1], known, value, *ends


def backtest(model: SequenceRegressor, run: RunFolder, config: Config, data: str | Path | None, split: str) -> Backtest:
    """Forecast from every origin of a split of the run's own data, or of a whole file.

    Args:
        model: the run's model.
        run: the run folder.
        config: its configuration.
        data: the file; None for the run's own data.
        split: ``train``, ``valid`` or ``test``; only ``test`` for a file, which is not split.

    Raises:
        UsageError, DataError, RunError: the data or the run is missing or invalid.
    """
    if data is not None and split != "test":
        raise UsageError(f"{option('split', split)}: of other data, every window is scored; omit it")
    name = str(data or config.data.path or config.data.builtin)
    with reading_for(run, data):
        series = open_like(config.data, model.scaling, data, name)
        whole, settings = windows_of(series, config.data.model_copy(update={"path": name}))
        origins = whole.origins() if data is not None else whole.split(settings.valid_size, settings.test_size)[split]
    part = whole.examples(origins)
    check_reach(part.x, model.scaling, name if data is not None else f"{name} ({split})")
    truth = part.y.reshape(len(origins), -1)
    values, horizon = whole.series.values[:, whole.target], whole.horizon
    naive = {"persistence": persistence(values, origins, horizon)}
    assert isinstance(settings.season, int)
    if (seasonal := seasonal_naive(values, origins, horizon, settings.season)) is not None:
        naive["seasonal_naive"] = seasonal
    radii = None
    intervals = run.read_intervals(horizon) if split == "test" else None  # they are those of the validation split
    expected = COVERAGE in (run.read_history().final or {}) and read_weights_header(run.weights_file).sealed
    if expected and intervals is None and split == "test":
        raise RunError(f"{run.intervals_file}: no such file; restore it, or train again")
    if intervals is not None and intervals.has(LEVEL):
        radii = np.array(intervals.radius(LEVEL))
    forecasts = np.asarray(model.predict(part.x)).reshape(truth.shape)
    return Backtest(whole, origins, truth, forecasts, naive, radii, part.data_hash)


def with_intervals(model: torch.nn.Module, run: RunFolder, valid: Sequences, test: Sequences) -> dict[str, float]:
    """Write the intervals of the validation split; return their coverage of the test split, if there are any.

    Raises:
        NotFinite: a forecast is not finite.
    """
    run.write_intervals(errors_of_steps(model, valid.batch(slice(None))))
    errors = errors_of_steps(model, test.batch(slice(None)))
    intervals = run.read_intervals(errors.shape[1])
    if intervals is None or not intervals.has(LEVEL):
        return {}
    within = np.abs(errors) <= intervals.radius(LEVEL)
    return {COVERAGE: float(within[~np.isnan(errors)].mean())}


def errors_of_steps(model: torch.nn.Module, batch: Batch) -> Numbers:
    """Return the errors (n, H) of the forecasts from x, NaN where y is."""
    assert isinstance(model, SequenceRegressor)
    predicted = np.asarray(model.predict(batch.x, lengths=batch.lengths))
    errors: Numbers = (predicted - batch.y).reshape(len(batch.y), -1)
    return errors
