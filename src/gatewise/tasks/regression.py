"""Regression of one number per sequence, or of a series' next value: data, training workload, evaluation."""

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
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
from gatewise.data.arrays import Sequences
from gatewise.data.configured import with_batches
from gatewise.data.moments import mean_absolute, root_mean_square
from gatewise.data.regression import open_parts
from gatewise.models.loading import load
from gatewise.models.sequence_regressor import Scaling, SequenceRegressor, scaling_of
from gatewise.predict.forecast import check_reach, data_of
from gatewise.tasks.autoregression import autoregression_rmse, persistence_rmse
from gatewise.tasks.task import Task, settled, tested
from gatewise.training.batches import BatchWorkload
from gatewise.training.distributed import Group

Batch = tuple[npt.NDArray[np.floating], npt.NDArray[Any]]

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
        columns = self.series.columns if self.series else []
        x, y = self.parts["train"].batch(slice(None))
        self.steps, self.width = x.shape[1:]
        self.scaling = scaling_of(x, y, columns, settings.target)
        for split, part in self.parts.items():
            check_reach(part.x, self.scaling, f"{settings.path or settings.builtin} ({split})")

    @property
    def summary(self) -> str:
        """The number and size of the training sequences."""
        return f"{len(self.parts['train']):,} sequences of {self.steps} × {self.width} to train on"

    def make_model(self) -> SequenceRegressor:
        """Create the model."""
        return SequenceRegressor(self.config.model, self.width, self.scaling, self.config.runtime.engine)

    def write_parts(self, run: RunFolder) -> None:
        """Write the scaling parameters."""
        write_scaling(run, self.width, self.scaling)

    def workload(self, model: nn.Module, run: RunFolder, group: Group) -> "Regression":
        """Return a workload of shuffled batches."""
        return Shuffled(self.config, self.parts, model, run, group)

    def final(self, model: nn.Module, run: RunFolder) -> Metrics:
        """Evaluate on the test split and, for a series, score the baselines."""
        return {**tested(self.config, figures_of(model, self.parts["test"])), **self._baselines()}

    def _baselines(self) -> Metrics:
        test = self.parts["test"]
        if self.series is None:
            return {"mean_test_rmse": root_mean_square(test.y.astype(np.float64) - self.scaling.y_mean)}
        values = self.series.values[:, self.series.columns.index(self.scaling.target)]
        figures: Metrics = {"persistence_test_rmse": persistence_rmse(values, self.config.data.horizon, len(test))}
        for order in ORDERS:
            error = autoregression_rmse(values, order, self.config.data.horizon, len(test))
            if error is not None:
                figures[f"autoregression_{order}_test_rmse"] = error
        return figures


def write_scaling(run: RunFolder, width: int, scaling: Scaling) -> None:
    """Write ``scaling.json``."""
    write_atomically(run.scaling_file, json.dumps({"input_size": width, **asdict(scaling)}, indent=1) + "\n")


class Regression(BatchWorkload):
    """The training workload: the mean squared error of a batch, in standardised units.

    Args:
        config: the run's configuration.
        valid: the validation split.
        count: N, the number of examples in an epoch.
        model: the model to train.
        run: the run folder for the best weights.
        group: the group of processes.
    """

    def __init__(
        self, config: Config, valid: Sequences, count: int, model: nn.Module, run: RunFolder, group: Group
    ) -> None:
        super().__init__(config, model, run, group, count)
        self.valid = valid

    @abstractmethod
    def examples(self, step: int) -> Batch:
        """Return this process's share of a step's batch: x (B, T, I) and y (B,)."""

    def cost(self, step: int) -> tuple[Tensor, float]:
        """Return the mean over this process's share of the batch."""
        x, y = (torch.from_numpy(array).to(self.group.device) for array in self.examples(step))
        cost: Tensor = self.forward(x, y)
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
        super().__init__(config, parts["valid"], len(parts["train"]), model, run, group)
        self.train = parts["train"]

    def examples(self, step: int) -> Batch:
        """Return this process's share of a step's batch."""
        return self.train.batch(self.share(self.batch(step)))


def errors_of(model: nn.Module, batch: Batch) -> npt.NDArray[np.float64]:
    """Return predictions minus targets, (N,), in the data's units."""
    assert isinstance(model, SequenceRegressor)
    x, y = batch
    return np.asarray(model.predict(x)) - y


def scores(model: nn.Module, part: Sequences) -> dict[str, float]:
    """Return ``rmse`` and ``mae``, the root mean squared and mean absolute errors, in the data's units."""
    errors = errors_of(model, part.batch(slice(None)))
    return {"rmse": root_mean_square(errors), "mae": mean_absolute(errors)}


def figures_of(model: nn.Module, part: Sequences) -> dict[str, Any]:
    """Return the metrics of a split: ``rmse, mae, tokens`` (values), ``oov_rate, data_hash``."""
    return {**scores(model, part), "tokens": len(part), "oov_rate": 0.0, "data_hash": part.data_hash}


def evaluate_regression(
    run: RunFolder, config: Config, data: str | Path | None, split: str, device: torch.device
) -> dict[str, Any]:
    """Evaluate the best weights on a split, in fp32."""
    model = load(run.path, SequenceRegressor, device=device)
    with reading_for(run, data):
        settings = data_of(config.data, model.scaling, data)
        parts = open_parts(settings)[1].parts
    check_reach(parts[split].x, model.scaling, f"{settings.path or settings.builtin} ({split})")
    return figures_of(model, parts[split])
