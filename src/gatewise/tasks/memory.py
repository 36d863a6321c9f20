"""The memory task: a regressor for the adding problem, whose sequences are drawn rather than read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.config import Config
from gatewise.data.adding import draw_adding_problem
from gatewise.data.arrays import Batch, Sequences
from gatewise.data.configured import with_batches
from gatewise.data.moments import root_mean_square
from gatewise.errors import UsageError
from gatewise.models.loading import load
from gatewise.models.sequence_regressor import Scaling, SequenceRegressor
from gatewise.tasks.regression import Regression, figures_of, write_scaling
from gatewise.tasks.task import Task, settled, tested
from gatewise.training.distributed import Group
from gatewise.wording import option

SEEDS = {"valid": 1, "test": 2}
"""Seed of the validation and test splits, which are the same for every run of a given length."""
SCORED = 2000
"""Sequences in the validation split, and in the test split."""
STEPS = 100
"""Steps per epoch; the data is endless, so this is a convention."""
WIDTH = 2
"""Numbers in each step."""


def draw_part(split: str, length: int) -> Sequences:
    """Draw the validation or test split for a given sequence length.

    Raises:
        UsageError: the length is below 2, or the training split is requested, which is never the same twice.
    """
    if split not in SEEDS:
        raise UsageError(
            f"{option('split', split)}: a memory-task draws new sequences at each step; expected valid or test"
        )
    return draw_adding_problem(SCORED, length, np.random.default_rng(SEEDS[split]))


class MemoryTask(Task):
    """A run of the adding problem.

    Raises:
        UsageError: the configuration names data to read, or a length below 2.
    """

    def __init__(self, config: Config) -> None:
        if config.data.path:
            raise UsageError(
                f"data.path is {config.data.path!r}; a memory-task draws its data, so omit it ({option('data')})"
            )
        self.config = settled(config, with_batches(config.data, STEPS), STEPS)
        self.parts = {
            split: draw_part(split, config.data.length) for split in SEEDS
        }  # training data follows from the seed

    @property
    def summary(self) -> str:
        """A description of the drawn data."""
        return f"new sequences of {self.config.data.length} × {WIDTH} at each step"

    def make_model(self) -> SequenceRegressor:
        """Create the model."""
        return SequenceRegressor(self.config.model, WIDTH, engine=self.config.runtime.engine)

    def write_parts(self, run: RunFolder) -> None:
        """Write an empty ``scaling.json``, as nothing is standardised."""
        write_scaling(run, WIDTH, Scaling())

    def workload(self, model: nn.Module, run: RunFolder, group: Group) -> "Adding":
        """Return a workload whose batches are drawn on demand."""
        return Adding(self.config, self.parts, model, run, group)

    def final(self, model: nn.Module, run: RunFolder) -> Metrics:
        """Evaluate on the test split, and score the baseline that always answers 1."""
        test = self.parts["test"]
        return {
            **tested(self.config, figures_of(model, test)),
            "always_1_test_rmse": root_mean_square(test.y.astype(np.float64) - 1),
        }


class Adding(Regression):
    """The training workload: each batch depends only on seed, epoch and step, so that resuming is exact."""

    def __init__(
        self, config: Config, parts: Mapping[str, Sequences], model: nn.Module, run: RunFolder, group: Group
    ) -> None:
        super().__init__(config, parts["valid"], config.data.batch_size * STEPS, model, run, group)

    def begin_epoch(self, epoch: int) -> None:
        """Set the current epoch, counted from 1."""
        self._epoch = epoch

    def examples(self, step: int) -> Batch:
        """Draw a step's batch and return this process's share of it."""
        settings = self.config.data
        draw = np.random.default_rng([self.config.training.seed, self._epoch, step])
        whole = draw_adding_problem(settings.batch_size, settings.length, draw)
        return whole.batch(self.share(np.arange(settings.batch_size)))


def evaluate_memory(
    run: RunFolder, config: Config, data: str | Path | None, split: str, device: torch.device
) -> dict[str, Any]:
    """Evaluate the best weights on a split, in fp32."""
    if data is not None:
        raise UsageError(f"{option('data', data)}: a memory-task draws its data; omit it")
    model = load(run.path, SequenceRegressor, device=device)
    return figures_of(model, draw_part(split, config.data.length))
