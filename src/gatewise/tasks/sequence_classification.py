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
from gatewise.data.configured import open_sequences
from gatewise.models.loading import load_as
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.tasks.classification import Examples, LabelTask, figures_of, label_indices
from gatewise.training.batches import Indices


class LabelledSequences(Examples):
    """Sequences of T steps of I numbers, with labels."""

    def __init__(self, part: Sequences, labels: Sequence[Any], name: str) -> None:
        self.part, self.data_hash = part, part.data_hash
        self.targets = label_indices(part.y.tolist(), labels, name)

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
        self.config, parts = config, open_sequences(config.data)
        name = config.data.path or config.data.builtin
        self.labels = check_classes(parts["train"].y, f"{name} (train)")
        self.steps, self.width = parts["train"].x.shape[1:]
        self.parts = {split: LabelledSequences(part, self.labels, f"{name} ({split})") for split, part in parts.items()}

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
    model = load_as(SequenceClassifier, run.path, device=device)
    settings = config.data
    if data is not None:
        settings = settings.model_copy(update={"path": str(data), "builtin": ""})
    with reading_for(run, data):
        part = open_sequences(settings)[split]
    name = f"{settings.path or settings.builtin} ({split})"
    return figures_of(model, LabelledSequences(part, model.labels, name))
