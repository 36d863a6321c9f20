"""The memory task: a regressor of the adding problem, whose sequences are drawn, not read."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.config import Config
from gatewise.data.adding import draw_adding_problem
from gatewise.data.arrays import Sequences
from gatewise.data.moments import root_mean_square
from gatewise.errors import UsageError
from gatewise.models.loading import load_as
from gatewise.models.sequence_regressor import Scaling, SequenceRegressor
from gatewise.tasks.card import regressor_card
from gatewise.tasks.regression import Batch, Regression, figures_of, final_figures, write_scaling
from gatewise.training.distributed import Group

SEEDS = {"valid": 1, "test": 2}
"""Of the parts that are the same for every run of a length."""
SCORED = 2000
"""Sequences in each of them."""
STEPS = 100
"""Steps that are called an epoch, since the data has no end."""
WIDTH = 2
"""Numbers in each step."""


def draw_part(split: str, length: int) -> Sequences:
    """Draw the validation or the test part of a length.

    Raises:
        UsageError: the length is below 2, or it is the training part, which is never the same.
    """
    if split not in SEEDS:
        raise UsageError(f"--split {split}: a memory-task draws new sequences at each step; expected valid or test")
    return draw_adding_problem(SCORED, length, np.random.default_rng(SEEDS[split]))


class MemoryTask:
    """A run of the adding problem.

    Raises:
        UsageError: the configuration names data to be read, or a length below 2.
    """

    def __init__(self, config: Config) -> None:
        if config.data.path:
            raise UsageError(f"data.path is {config.data.path!r}; a memory-task draws its data, leave it (--data) out")
        self.config = config
        self.parts = {split: draw_part(split, config.data.length) for split in SEEDS}

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of the parts that are scored; what is trained on follows from the seed."""
        return {name: part.data_hash for name, part in self.parts.items()}

    @property
    def summary(self) -> str:
        """What is drawn."""
        return f"new sequences of {self.config.data.length} × {WIDTH} at each step"

    def make_model(self) -> SequenceRegressor:
        """Make the model."""
        return SequenceRegressor(self.config.model, WIDTH, engine=self.config.runtime.engine)

    def write_parts(self, run: RunFolder) -> None:
        """Write that nothing is standardised."""
        write_scaling(run, WIDTH, Scaling())

    def workload(self, model: nn.Module, run: RunFolder, group: Group) -> "Adding":
        """Batches that are drawn when they are read."""
        return Adding(self.config, self.parts, model, run, group)

    def final(self, model: nn.Module, run: RunFolder) -> Metrics:
        """Score the test part, and the answer 1 to every sequence."""
        test = self.parts["test"]
        return {**final_figures(model, test), "always_1_test_rmse": root_mean_square(test.y.astype(np.float64) - 1)}

    def card(self, path: Path, metrics: list[Metrics]) -> str:
        """Return the model card."""
        return regressor_card(path, self.config, metrics)


class Adding(Regression):
    """The loop's work: each step's batch follows from seed, epoch and step alone, so that a resume is exact."""

    def __init__(
        self, config: Config, parts: dict[str, Sequences], model: nn.Module, run: RunFolder, group: Group
    ) -> None:
        super().__init__(config, parts["valid"], config.data.batch_size * STEPS, model, run, group)

    def begin_epoch(self, epoch: int) -> None:
        """Remember the epoch, counted from 1."""
        self._epoch = epoch

    def examples(self, step: int) -> Batch:
        """Draw a step's batch, and return this process's part of it."""
        settings = self.config.data
        draw = np.random.default_rng([self.config.training.seed, self._epoch, step])
        whole = draw_adding_problem(settings.batch_size, settings.length, draw)
        return whole.batch(self.share(np.arange(settings.batch_size)))


def evaluate_memory(
    run: RunFolder, config: Config, data: str | Path | None, split: str, device: torch.device
) -> dict[str, Any]:
    """Score a part with the best weights, in fp32."""
    if data is not None:
        raise UsageError(f"--data {data}: a memory-task draws its data; leave it out")
    model = load_as(SequenceRegressor, run.path, device=device)
    return figures_of(config, split, model, draw_part(split, config.data.length))
