"""Classification of numeric sequences, such as images read row by row: data and evaluation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.run_folder import RunFolder, reading_for
from gatewise.config import Config
from gatewise.data.arrays import Sequences, check_classes
from gatewise.data.configured import open_sequences, sequences_split, with_batches
from gatewise.models.loading import load
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.tasks.classification import Examples, LabelTask, figures_of, label_indices, unknown_labels
from gatewise.tasks.task import settled
from gatewise.training.batches import Indices


class LabelledSequences(Examples):
    """Sequences of T steps of I numbers, with labels."""

    def __init__(self, part: Sequences, labels: Sequence[Any], name: str) -> None:
        self.part, self.data_hash = part, part.data_hash
        found = part.y.tolist()
        self.targets, self.notes = label_indices(found, labels), unknown_labels(found, labels, name)

    def inputs(self, indices: Indices, device: torch.device) -> Tensor:
        """Return a batch, (B, T, I)."""
        return torch.from_numpy(self.part.batch(indices)[0]).to(device)


class SequenceClassifierTask(LabelTask):
    """A sequence classification run with its data loaded.

    Raises:
        UsageError: the configuration names no data.
        DataError: the data is missing or invalid.
    """

    def __init__(self, config: Config) -> None:
        opened = open_sequences(config.data)
        parts = opened.parts
        settings = with_batches(opened.settings, len(parts["train"]))
        self.config = settled(config, settings, len(parts["train"]) // settings.batch_size)
        name = config.data.path or config.data.builtin
        self.labels = check_classes(parts["train"].y, f"{name} (train)")
        self.steps, self.width = parts["train"].x.shape[1:]
        self.parts = {split: LabelledSequences(part, self.labels, f"{name} ({split})") for split, part in parts.items()}
        self.notes = [*opened.notes, *(note for part in self.parts.values() for note in part.notes)]

    @property
    def summary(self) -> str:
        """The numbers of training examples and labels."""
        count = len(self.parts["train"])
        return f"{count:,} sequences of {self.steps} × {self.width} to train on, {len(self.labels)} labels"

    def make_model(self) -> SequenceClassifier:
        """Create the model."""
        return SequenceClassifier(self.config.model, self.width, self.labels, self.config.runtime.engine, self.steps)

    def write_parts(self, run: RunFolder) -> None:
        """Write the labels and the input shape."""
        facts = {"labels": self.labels, "input_size": self.width, "steps": self.steps}
        write_atomically(run.labels_file, json.dumps(facts, indent=1) + "\n")


def evaluate_sequences(
    run: RunFolder, config: Config, data: str | Path | None, split: str, device: torch.device
) -> dict[str, Any]:
    """Evaluate the best weights on a split, in fp32."""
    model = load(run.path, SequenceClassifier, device=device)
    with reading_for(run, data):
        part = sequences_split(config.data, split, data)
    name = f"{data or config.data.path or config.data.builtin} ({split})"
    return figures_of(model, LabelledSequences(part, model.labels, name))
