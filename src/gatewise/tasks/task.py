"""The interface between a task and the training and evaluation code."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.config import TASKS, Config, DataConfig
from gatewise.errors import NotFinite
from gatewise.training.distributed import Group
from gatewise.training.loop import Workload


class Task(ABC):
    """A task with its data loaded: what ``tasks/train.py`` needs to train it and write a run folder.

    Attributes:
        config: the run's configuration, with every choice made that depends on the data.
        parts: the splits of the data.
        notes: what was chosen and skipped when the data was read, a line each.
    """

    config: Config
    parts: Mapping[str, Any]
    notes: Sequence[str] = ()

    @property
    def hashes(self) -> Mapping[str, str]:
        """SHA-256 of each split, which identifies the data when a run is resumed."""
        return {name: part.data_hash for name, part in self.parts.items()}

    @property
    @abstractmethod
    def summary(self) -> str:
        """A short summary of the training data, for the first line of output."""

    @abstractmethod
    def make_model(self) -> nn.Module:
        """Create the model, its weights drawn from torch's generator."""

    @abstractmethod
    def write_parts(self, run: RunFolder) -> None:
        """Write what is needed to load a model besides its weights, such as ``tokenizer.json`` or ``labels.json``."""

    @abstractmethod
    def workload(self, model: nn.Module, run: RunFolder, group: Group) -> Workload:
        """Return the training workload."""

    @abstractmethod
    def final(self, model: nn.Module, run: RunFolder) -> Metrics:
        """Evaluate the best weights on the test split, once; return the last line of ``metrics.jsonl``."""


STEPS = 2000
"""Steps of a run whose number of epochs is ``auto``; at least 5 epochs, at most 100."""


def settled(config: Config, settings: DataConfig, steps_per_epoch: int) -> Config:
    """Return the configuration with settled data settings, and the number of epochs chosen where it is ``auto``."""
    epochs = config.training.epochs or min(max(STEPS // max(steps_per_epoch, 1), 5), 100)
    training = config.training.model_copy(update={"epochs": epochs})
    return config.model_copy(update={"data": settings, "training": training})


def tested(config: Config, figures: Mapping[str, Any]) -> Metrics:
    """Return the final line's metrics of the test split, from those of its evaluation."""
    keys = [key for key in TASKS[config.task.name].final if key.startswith("test_")]
    return {key: figures[key.removeprefix("test_")] for key in keys}


def report_folder(run: RunFolder, data: object) -> Path:
    """Return where the report of an evaluation goes: that of other data does not replace that of the run's own."""
    return run.figures if data is None else run.figures / "other-data"


def check_figures(figures: Mapping[str, Any], run: RunFolder) -> None:
    """Check that every metric of an evaluation is finite.

    Raises:
        NotFinite: one is not. For an infinite perplexity whose logarithm is finite, the message says so.
    """
    for name, value in figures.items():
        if isinstance(value, float) and not math.isfinite(value):
            nll = figures.get("nll")
            known = f" (its nll, {nll:.6g} nats per token, is finite)" if nll is not None and math.isfinite(nll) else ""
            raise NotFinite(
                f"{run.path}: {name} is {value}{known}: the model is of no use on this data; train it with a lower "
                "training.learning_rate, or give data like its training data"
            )
