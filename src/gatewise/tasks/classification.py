"""Sequences of numbers, such as images read row by row, to one of several labels: data, workload, evaluation."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.config import Config, DataConfig
from gatewise.data.arrays import Sequences, check_classes, find_sequences, load_digits
from gatewise.errors import DataError, UsageError
from gatewise.models.loading import load_as
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.models.sequence_reader import BATCH
from gatewise.tasks.card import classifier_card
from gatewise.training.batches import BatchWorkload, Indices
from gatewise.training.distributed import Group


def open_sequences(settings: DataConfig) -> dict[str, Sequences]:
    """Read the three parts that a configuration names.

    Raises:
        UsageError: it names none, or more than one place.
        DataError: they are not there, or not as they should be.
    """
    if bool(settings.path) == bool(settings.builtin):
        found = "no data" if not settings.path else "both path and builtin"
        raise UsageError(f"data: the recipe names {found}; add --data FOLDER with IDX files or *.npz")
    if settings.builtin == "digits":
        return load_digits(settings.valid_size, settings.test_size)
    if settings.builtin:
        raise UsageError(f"data.builtin is {settings.builtin!r}; a classifier knows 'digits'")
    return find_sequences(Path(settings.path).expanduser(), settings.valid_size, settings.test_size)


def numbered(part: Sequences, labels: npt.NDArray[np.generic], what: str) -> npt.NDArray[np.int64]:
    """Return the place of each example's label among the sorted labels of the training part.

    Raises:
        DataError: one is not among them.
    """
    places = np.searchsorted(labels, part.y).clip(max=len(labels) - 1)
    if (unknown := np.flatnonzero(labels[places] != part.y)).size:
        raise DataError(
            f"{what}: example {unknown[0]} has the label {part.y[unknown[0]]}, which the training part has not; "
            f"expected one of {', '.join(map(str, labels[:20]))}"
        )
    return places


class ClassifierTask:
    """A classifier's run.

    Raises:
        UsageError: a key asks for what cannot be.
        DataError: the data is missing or not as it should be.
    """

    def __init__(self, config: Config) -> None:
        self.config, self.parts = config, open_sequences(config.data)
        name = f"{config.data.path or config.data.builtin} (train)"
        self.labels = np.array(check_classes(self.parts["train"].y, name))
        self.targets = {name: numbered(part, self.labels, name) for name, part in self.parts.items()}
        self.hashes: Mapping[str, str] = {name: part.data_hash for name, part in self.parts.items()}

    @property
    def summary(self) -> str:
        """How many examples there are."""
        part = self.parts["train"]
        steps, width = part.x.shape[1:]
        return f"{len(part):,} sequences of {steps} × {width} to train on, {len(self.labels)} labels"

    def make_model(self) -> SequenceClassifier:
        """Make the model."""
        steps, width = self.parts["train"].x.shape[1:]
        labels, engine = self.labels.tolist(), self.config.runtime.engine
        return SequenceClassifier(self.config.model, width, labels, engine, steps)

    def write_parts(self, run: RunFolder) -> None:
        """Write the labels, and what an input looks like."""
        steps, width = self.parts["train"].x.shape[1:]
        facts = {"labels": self.labels.tolist(), "input_size": width, "steps": steps}
        write_atomically(run.labels_file, json.dumps(facts, indent=1) + "\n")

    def workload(self, model: nn.Module, run: RunFolder, group: Group) -> "Classification":
        """Shuffled batches."""
        assert isinstance(model, SequenceClassifier)
        return Classification(self, model, run, group)

    def final(self, model: nn.Module, run: RunFolder) -> Metrics:
        """Score the test part."""
        assert isinstance(model, SequenceClassifier)
        part, targets = self.parts["test"], self.targets["test"]
        hits = count_hits(model, part, targets, np.arange(len(part)))
        return {
            "test_accuracy": hits / len(part),
            "test_tokens": len(part),
            "test_data_hash": part.data_hash,
            "majority_test_accuracy": float((targets == np.bincount(self.targets["train"]).argmax()).mean()),
        }

    def card(self, path: Path, metrics: list[Metrics]) -> str:
        """Return the model card."""
        return classifier_card(path, self.config, metrics)


class Classification(BatchWorkload):
    """The loop's work: the mean negative log-likelihood of a batch's labels."""

    def __init__(self, task: ClassifierTask, model: SequenceClassifier, run: RunFolder, group: Group) -> None:
        super().__init__(task.config, model, run, group, len(task.parts["train"]))
        self.task, self.classifier = task, model

    def cost(self, step: int) -> tuple[Tensor, float]:
        """The mean over this process's part of the batch."""
        chosen = self.share(self.batch(step))
        x, _ = self.task.parts["train"].batch(chosen)
        targets = self.task.targets["train"][chosen]
        device = self.group.device
        cost: Tensor = self.forward(torch.from_numpy(x).to(device), torch.from_numpy(targets).to(device))
        return cost, 1.0

    def validate(self) -> tuple[Metrics, float]:
        """Accuracy on the validation part, and on as many of the first training examples, both without dropout."""
        figures: Metrics = {}
        size = min(len(self.task.parts["valid"]), len(self.task.parts["train"]))
        for name in ("train", "valid"):
            chosen = self.share(np.arange(size))
            hits = count_hits(self.classifier, self.task.parts[name], self.task.targets[name], chosen)
            total, count = self.group.sum(hits, len(chosen))
            figures[f"{name}_accuracy"] = total / count
        return figures, -figures["valid_accuracy"]


def count_hits(
    model: SequenceClassifier, part: Sequences, targets: npt.NDArray[np.int64], chosen: Indices, batch: int = BATCH
) -> int:
    """Count the chosen examples to which the model gives their own label, in fp32."""
    hits = 0
    for start in range(0, len(chosen), batch):
        some = chosen[start : start + batch]
        x, _ = part.batch(some)
        found = model.predict_proba(torch.from_numpy(x), batch).argmax(-1).cpu().numpy()
        hits += int((found == targets[some]).sum())
    return hits


def evaluate_classifier(
    run: RunFolder, config: Config, data: str | Path | None, split: str, device: torch.device
) -> dict[str, Any]:
    """Score a part with the best weights, in fp32.

    Returns:
        ``task, split, accuracy, tokens`` (sequences scored), ``oov_rate`` (0: numbers are never unknown),
        ``data_hash``.
    """
    model = load_as(SequenceClassifier, run.path, device=device)
    settings = config.data
    if data is not None:
        settings = settings.model_copy(update={"path": str(data), "builtin": ""})
    part = open_sequences(settings)[split]
    targets = numbered(part, np.asarray(model.labels), f"{data or settings.path or settings.builtin} ({split})")
    hits = count_hits(model, part, targets, np.arange(len(part)))
    return {
        "task": config.task.name,
        "split": split,
        "accuracy": hits / len(part),
        "tokens": len(part),
        "oov_rate": 0.0,
        "data_hash": part.data_hash,
    }
