"""What training and evaluation ask of a kind of run."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.errors import NotFinite
from gatewise.training.distributed import Group
from gatewise.training.loop import Workload


class Task(Protocol):
    """A kind of run with its data read: what ``tasks/train.py`` needs to make a run folder of it."""

    @property
    def hashes(self) -> Mapping[str, str]:
        """SHA-256 of each part of the data, by which a resume knows its own run."""

    @property
    def summary(self) -> str:
        """What there is to train on, in a few words for the first line."""

    def make_model(self) -> nn.Module:
        """Make the model, its weights drawn from torch's generator."""

    def write_parts(self, run: RunFolder) -> None:
        """Write what a model is loaded with besides its weights: ``tokenizer.json``, ``labels.json`` and the like."""

    def workload(self, model: nn.Module, run: RunFolder, group: Group) -> Workload:
        """Give the loop its work."""

    def final(self, model: nn.Module, run: RunFolder) -> Metrics:
        """Score the test part once, with the best weights; the names are those of the last line of the metrics."""

    def card(self, path: Path, metrics: list[Metrics]) -> str:
        """Return the model card as Markdown."""


def check_figures(figures: Mapping[str, Any], run: RunFolder) -> None:
    """Check that every figure of an evaluation is finite.

    Raises:
        NotFinite: one is not; where it is a perplexity whose logarithm is finite, the error says so.
    """
    for name, value in figures.items():
        if isinstance(value, float) and not math.isfinite(value):
            nll = figures.get("nll")
            known = f" (its nll, {nll:.6g} nats a token, is finite)" if nll is not None and math.isfinite(nll) else ""
            raise NotFinite(
                f"{run.path}: {name} is {value}{known}: the model is of no use on this data; train it with a lower "
                "training.learning_rate, or give data like that it was trained on"
            )
