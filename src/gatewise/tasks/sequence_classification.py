"""Classification of numeric sequences, such as images read row by row: data and evaluation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.run_folder import RunFolder, reading_for
from gatewise.config import Config
from gatewise.data.arrays import Sequences, check_classes
from gatewise.data.configured import open_sequences, sequences_split, with_batches
from gatewise.inspection.mistakes import Picture
from gatewise.models.loading import load
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.tasks.classification import (
    Examples,
    LabelTask,
    evaluate_given,
    label_indices,
    unknown_labels,
)
from gatewise.tasks.mistakes import Mistake
from gatewise.tasks.task import settled
from gatewise.training.batches import Indices


class LabelledSequences(Examples):
    """Sequences of T steps of I numbers, with labels."""

    def __init__(self, part: Sequences, labels: Sequence[Any], name: str, strict: bool = False) -> None:
        self.part, self.name, self.data_hash, self.lengths = part, name, part.data_hash, part.lengths
        found = part.y.tolist()
        self.targets, self.notes = label_indices(found, labels), unknown_labels(found, labels, name, strict)

    def describe(self, index: int) -> tuple[str, str, str]:
        """Return the file of a sequence or its index in it, its label, and no text."""
        return self.part.place(index, self.name.rpartition(" (")[0]), str(self.part.y[index]), ""

    def picture(self, mistake: Mistake) -> Picture:
        """Return a mistake as an image, if its numbers are pixels, or as lines."""
        x, _, lengths = self.part.batch(np.array([mistake.example]))
        numbers = x[0, : None if lengths is None else lengths[0]]
        is_image = self.part.x.dtype == np.uint8
        return Picture(numbers, is_image, mistake.label, mistake.predicted, mistake.probability)

    def inputs(self, indices: Indices) -> dict[str, Any]:
        """Return a batch x (B, T, I), and the steps of each sequence if they differ, as an array."""
        batch = self.part.batch(indices)
        return {"x": torch.from_numpy(batch.x), "lengths": batch.lengths}


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
        self.size, self.width = parts["train"].size, parts["train"].x.shape[2]
        self.steps = parts["train"].x.shape[1] if parts["train"].lengths is None else None
        self.parts = {
            split: LabelledSequences(part, self.labels, f"{name} ({split})", settings.strict)
            for split, part in parts.items()
        }
        self.notes = [*opened.notes, *(note for part in self.parts.values() for note in part.notes)]

    @property
    def summary(self) -> str:
        """The numbers of training examples and labels."""
        count = len(self.parts["train"])
        return f"{count:,} sequences of {self.size} to train on, {len(self.labels)} labels"

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
    examples = LabelledSequences(part, model.labels, name, config.data.strict)
    return evaluate_given(model, model.labels, examples, run, data, split)
