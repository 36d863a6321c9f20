"""Regression of one number per sequence, or of a series' next values: data, training workload, evaluation."""

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.run_folder import Metrics, RunFolder, reading_for
from gatewise.config import TASKS, Config
from gatewise.config.tasks import RMSE
from gatewise.data.arrays import Batch, Sequences, scaled
from gatewise.data.configured import with_batches
from gatewise.data.moments import mean_absolute, moments, root_mean_square
from gatewise.data.regression import open_parts, whole_numbers
from gatewise.data.windows import Origins, Windows
from gatewise.errors import UsageError
from gatewise.models.loading import load
from gatewise.models.sequence_regressor import Scaling, SequenceRegressor, relative_to_last, scaling_of
from gatewise.predict.forecast import check_reach, data_of
from gatewise.tasks.backtest import backtest, errors_of_steps, with_intervals
from gatewise.tasks.baselines import autoregression_rmse, persistence, rmse_of, seasonal_naive
from gatewise.tasks.task import Task, settled, tested
from gatewise.training.batches import BatchWorkload
from gatewise.training.distributed import Group
from gatewise.wording import option

ORDERS = (2, 9)
"""Orders of the autoregressive baselines of a forecast."""


class RegressorTask(Task):
    """A regression run with its data loaded.

    Raises:
        UsageError: the configuration names no data.
        DataError: the data is missing or invalid.
    """

    def __init__(self, config: Config) -> None:
        self.series, opened = open_parts(config.data)
        self.parts, self.notes = opened.parts, opened.notes
        settings = with_batches(opened.settings, len(self.parts["train"]))
        self.config = settled(config, settings, len(self.parts["train"]) // settings.batch_size)
        train = self.parts["train"]
        self.width = train.x.shape[2]
        x, y = scaled(train.steps, train.scale), train.y
        if self.series and settings.relative:
            x, y = relative_to_last(train.x, y, self.series[0].target)
        self.scaling = scaling_of(x, y)
        if self.series:
            whole = self.series[0]
            calendar = whole.series.calendar
            self.scaling = replace(
                self.scaling,
                columns=whole.series.columns,
                target=settings.target,
                known=settings.known,
                horizon=whole.horizon,
                pace=str(calendar.pace) if calendar else "",
                relative=settings.relative is True,
            )
        for split, part in self.parts.items():
            check_reach(scaled(part.steps, part.scale), self.scaling, f"{settings.path or settings.builtin} ({split})")

    @property
    def summary(self) -> str:
        """The number and size of the training sequences."""
        return f"{len(self.parts['train']):,} sequences of {self.parts['train'].size} to train on"

    def make_model(self) -> SequenceRegressor:
        """Create the model."""
        window = self.series[0].window if self.series else 0
        return SequenceRegressor(self.config.model, self.width, self.scaling, self.config.runtime.engine, window)

    def write_parts(self, run: RunFolder) -> None:
        """Write the scaling parameters."""
        write_scaling(run, self.width, self.scaling)

    def workload(self, model: nn.Module, run: RunFolder, group: Group) -> "Regression":
        """Return a workload of shuffled batches."""
        return Shuffled(self.config, self.parts, model, run, group)

    def final(self, model: nn.Module, run: RunFolder) -> Metrics:
        """Evaluate on the test split and score the baselines; for a series, write the intervals of its forecasts."""
        figures = tested(self.config, figures_of(model, self.parts["test"]))
        if not self.series:
            return {**figures, "mean_test_rmse": self._mean_rmse()}
        coverage = with_intervals(model, run, self.parts["valid"], self.parts["test"])
        return {**figures, **coverage, **self._of_series(*self.series)}

    def _mean_rmse(self) -> float:
        seen = self.parts["train"].y
        mean = float(moments(seen[~np.isnan(seen)][:, None])[0][0])
        return rmse_of(mean, self.parts["test"].y.astype(np.float64))

    def _of_series(self, whole: Windows, parts: Mapping[str, Origins]) -> Metrics:
        """Return the errors of the baselines over all steps of the horizon, from the origins of the test split."""
        values, origins, horizon = whole.series.values[:, whole.target], parts["test"], whole.horizon
        truth = self.parts["test"].y.reshape(-1, horizon)
        figures: Metrics = {"persistence_test_rmse": rmse_of(persistence(values, origins, horizon), truth)}
        assert isinstance(self.config.data.season, int)
        seasonal = seasonal_naive(values, origins, horizon, self.config.data.season)
        if seasonal is not None:
            figures["seasonal_naive_test_rmse"] = rmse_of(seasonal, truth)
        figures["mean_test_rmse"] = self._mean_rmse()
        known = np.where(whole.series.missing[:, whole.target], np.nan, values)
        for order in ORDERS:
            error = autoregression_rmse(values, known, order, horizon, origins)
            if error is not None:
                figures[f"autoregression_{order}_test_rmse"] = error
        return figures


def write_scaling(run: RunFolder, width: int, scaling: Scaling) -> None:
    """Write ``scaling.json``."""
    write_atomically(run.scaling_file, json.dumps({"input_size": width, **scaling.as_json()}, indent=1) + "\n")


class Regression(BatchWorkload):
    """The training workload: the mean squared error of a batch, in standardised units.

    Args:
        config: the run's configuration.
        valid: the validation split.
        count: N, the number of examples in an epoch.
        model: the model to train.
        run: the run folder for the best weights.
        group: the group of processes.
        lengths: steps of each example, (N,); None if all have the same length.
    """

    def __init__(
        self,
        config: Config,
        valid: Sequences,
        count: int,
        model: nn.Module,
        run: RunFolder,
        group: Group,
        lengths: npt.NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(config, model, run, group, count, lengths)
        self.valid = valid

    @abstractmethod
    def examples(self, step: int) -> Batch:
        """Return this process's share of a step's batch: x (B, T, I) and y (B,) or (B, H)."""

    def inputs(self, step: int) -> tuple[Tensor, Tensor, npt.NDArray[np.int64] | None]:
        """Return x (B, T, I), y, and the steps of each sequence if they differ, as an array."""
        batch = self.examples(step)
        return torch.from_numpy(batch.x), torch.from_numpy(batch.y), batch.lengths

    def cost(self, inputs: tuple[Tensor, Tensor, Tensor | None]) -> tuple[Tensor, float]:
        """Return the mean over this process's share of the batch."""
        x, y, lengths = inputs
        cost: Tensor = self.forward(x, y, lengths)
        # Gradients are averaged over the processes, so each mean is weighted by its share of the batch.
        return cost * (len(x) * self.group.world_size / self.batch_size), 1.0

    def validate(self) -> tuple[Metrics, float]:
        """Return the root mean squared error on the validation split, in the data's units, without dropout."""
        assert isinstance(self.model, SequenceRegressor)
        errors = errors_of(self.model, self.valid.batch(self.share(np.arange(len(self.valid)))))
        exponent = int(np.frexp(self.model.scaling.y_std)[1])  # scales errors so that their squares stay near 1
        squares, count = self.group.sum(float((np.ldexp(errors, -exponent) ** 2).sum()), len(errors))
        rmse = float(np.ldexp(np.sqrt(squares / count), exponent))
        return {TASKS["regressor"].evaluated: rmse}, RMSE.to_minimize(rmse)


class Shuffled(Regression):
    """The examples of the training split, reshuffled every epoch."""

    def __init__(
        self, config: Config, parts: Mapping[str, Sequences], model: nn.Module, run: RunFolder, group: Group
    ) -> None:
        super().__init__(config, parts["valid"], len(parts["train"]), model, run, group, parts["train"].lengths)
        self.train = parts["train"]

    def examples(self, step: int) -> Batch:
        """Return this process's share of a step's batch."""
        return self.train.batch(self.share(self.chosen(step)))


def errors_of(model: nn.Module, batch: Batch) -> npt.NDArray[np.float64]:
    """Return predictions minus targets in the data's units, those that are known in one row."""
    errors = errors_of_steps(model, batch)
    known: npt.NDArray[np.float64] = errors[~np.isnan(batch.y).reshape(errors.shape)]
    return known


def scores(model: nn.Module, part: Sequences) -> dict[str, float]:
    """Return ``rmse`` and ``mae``, the root mean squared and mean absolute errors, in the data's units."""
    errors = errors_of(model, part.batch(slice(None)))
    return {"rmse": root_mean_square(errors), "mae": mean_absolute(errors)}


def figures_of(model: nn.Module, part: Sequences) -> dict[str, Any]:
    """Return the metrics of a split: ``rmse, mae, tokens`` (true values), ``oov_rate, data_hash``."""
    return {
        **scores(model, part),
        "tokens": int((~np.isnan(part.y)).sum()),
        "oov_rate": 0.0,
        "data_hash": part.data_hash,
    }


def evaluate_regression(
    run: RunFolder,
    config: Config,
    data: str | Path | None,
    split: str,
    device: torch.device,
    save: Path | None = None,
) -> dict[str, Any]:
    """Evaluate the best weights on a split, in fp32; of a series, on every window of a split or of a whole file.

    Args:
        run: the run folder.
        config: its configuration.
        data: other data; defaults to the run's own.
        split: ``train``, ``valid`` or ``test``.
        device: the device to compute on.
        save: where to write the forecasts of a series, as CSV.

    Raises:
        UsageError: forecasts are to be saved, but the run is not one of a series.
    """
    model = load(run.path, SequenceRegressor, device=device)
    if model.scaling.columns:
        rolled = backtest(model, run, config, data, split)
        if save is not None:
            rolled.save(save)
        return rolled.figures()
    if save is not None:
        raise UsageError(f"{option('save', save)}: only forecasts of a series are saved; omit it")
    with reading_for(run, data):
        settings = data_of(config.data, model.scaling, data)
        path = Path(settings.path).expanduser()
        whole = data is not None and path.is_file()
        part = whole_numbers(path) if whole else open_parts(settings)[1].parts[split]
    check_reach(scaled(part.steps, part.scale), model.scaling, f"{settings.path or settings.builtin} ({split})")
    return figures_of(model, part)
