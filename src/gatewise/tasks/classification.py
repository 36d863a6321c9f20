"""One label for each example, whatever is read: what the loop trains, how it is validated, scored and described."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.config import Config
from gatewise.errors import DataError
from gatewise.models.finite import check_finite
from gatewise.nn import in_eval_mode
from gatewise.tasks.card import classifier_card
from gatewise.training.batches import BatchWorkload, Indices
from gatewise.training.distributed import Group

SCORED_TOGETHER = 500
"""Examples that are scored side by side; the figure does not depend on it."""


class Examples(ABC):
    """A part of the data: N examples with the places of their labels.

    Attributes:
        targets: (N,) places among the labels.
        data_hash: SHA-256 of the data.
        lengths: (N,) steps of each; None where all have the same.
        oov_rate: the share of words outside the vocabulary; 0 of numbers.
    """

    targets: npt.NDArray[np.int64]
    data_hash: str
    lengths: npt.NDArray[np.int64] | None = None
    oov_rate: float = 0.0

    def __len__(self) -> int:
        return len(self.targets)

    @abstractmethod
    def inputs(self, indices: Indices, device: torch.device) -> Any:
        """Return what the model reads of some examples, side by side."""


def places_of(found: Sequence[Any], labels: Sequence[Any], where: Sequence[str] | str) -> npt.NDArray[np.int64]:
    """Return the place of each label among the labels of the training part.

    Args:
        found: the labels of some examples.
        labels: those of the training part.
        where: what to call each example in an error, or the part as a whole.

    Raises:
        DataError: one is not among them.
    """
    ids = {label: place for place, label in enumerate(labels)}
    for number, label in enumerate(found):
        if label not in ids:
            name = f"{where}, example {number}" if isinstance(where, str) else where[number]
            raise DataError(
                f"{name}: the label {label!r} does not stand in the training part; expected one of "
                f"{', '.join(map(str, labels[:20]))}"
            )
    return np.array([ids[label] for label in found], dtype=np.int64)


class LabelTask(ABC):
    """A classifier's run, with its data read.

    Attributes:
        config: the run's configuration.
        labels: the C labels.
        parts: train, valid and test.
    """

    config: Config
    labels: list[Any]
    parts: Mapping[str, Examples]
    token_name = "sequences"

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each part."""
        return {name: part.data_hash for name, part in self.parts.items()}

    @property
    @abstractmethod
    def summary(self) -> str:
        """What there is to train on."""

    @abstractmethod
    def make_model(self) -> nn.Module:
        """Make the model."""

    @abstractmethod
    def write_parts(self, run: RunFolder) -> None:
        """Write the labels, and what else the model is loaded with."""

    def workload(self, model: nn.Module, run: RunFolder, group: Group) -> "Classification":
        """Shuffled batches."""
        return Classification(self, model, run, group)

    def final(self, model: nn.Module, run: RunFolder) -> Metrics:
        """Score the test part, and the commonest label."""
        test, train = self.parts["test"], self.parts["train"]
        return {
            "test_accuracy": accuracy(model, test),
            "test_tokens": len(test),
            "test_oov_rate": test.oov_rate,
            "test_data_hash": test.data_hash,
            "majority_test_accuracy": float((test.targets == np.bincount(train.targets).argmax()).mean()),
        }

    def card(self, path: Path, metrics: list[Metrics]) -> str:
        """Return the model card."""
        return classifier_card(path, self.config, metrics)


class Classification(BatchWorkload):
    """The loop's work: the mean negative log-likelihood of a batch's labels."""

    def __init__(self, task: LabelTask, model: nn.Module, run: RunFolder, group: Group) -> None:
        train = task.parts["train"]
        super().__init__(task.config, model, run, group, len(train), train.lengths)
        self.task, self.token_name = task, task.token_name

    def tokens_in(self, step: int) -> int:
        """The steps of the batch's examples where they differ in length, else the examples."""
        return self.batch_size if self.lengths is None else int(self.lengths[self.batch(step)].sum())

    def cost(self, step: int) -> tuple[Tensor, float]:
        """The mean over this process's part of the batch."""
        chosen, part, device = self.share(self.batch(step)), self.task.parts["train"], self.group.device
        targets = torch.from_numpy(part.targets[chosen]).to(device)
        cost: Tensor = self.forward(part.inputs(chosen, device), targets)
        # The processes' means are averaged: each counts by its share of the batch.
        return cost * (len(chosen) * self.group.world_size / self.batch_size), 1.0

    def validate(self) -> tuple[Metrics, float]:
        """Accuracy on the validation part, and on as many training examples, always the same; without dropout."""
        figures: Metrics = {}
        valid, train = len(self.task.parts["valid"]), len(self.task.parts["train"])
        some = np.random.default_rng(0).permutation(train)[:valid]
        for name, chosen in (("train", self.share(some)), ("valid", self.share(np.arange(valid)))):
            hits, total = self.group.sum(hits_among(self.model, self.task.parts[name], chosen), len(chosen))
            figures[f"{name}_accuracy"] = hits / total
        return figures, -figures["valid_accuracy"]


def hits_among(model: nn.Module, part: Examples, chosen: Indices) -> int:
    """Count the chosen examples to which the model, in eval mode, gives their own label."""
    hits = 0
    device = next(model.parameters()).device
    if part.lengths is not None:
        chosen = chosen[np.argsort(part.lengths[chosen], kind="stable")]
    with in_eval_mode(model):
        for start in range(0, len(chosen), SCORED_TOGETHER):
            some = chosen[start : start + SCORED_TOGETHER]
            logits = check_finite(model(part.inputs(some, device)), "the logits")
            found = logits.argmax(-1).cpu().numpy()
            hits += int((found == part.targets[some]).sum())
    return hits


def accuracy(model: nn.Module, part: Examples) -> float:
    """Return the share of a part's examples to which the model gives their own label."""
    return hits_among(model, part, np.arange(len(part))) / len(part)


def figures_of(config: Config, split: str, model: nn.Module, part: Examples) -> dict[str, Any]:
    """Return what ``evaluate --json`` prints: ``task, split, accuracy, tokens`` (examples), ``oov_rate, data_hash``."""
    return {
        "task": config.task.name,
        "split": split,
        "accuracy": accuracy(model, part),
        "tokens": len(part),
        "oov_rate": part.oov_rate,
        "data_hash": part.data_hash,
    }
