"""Classification of numeric sequences, such as images read row by row: data and evaluation."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.run_folder import RunFolder, reading_for
from gatewise.config import Config, DataConfig
from gatewise.data.array_files import in_float32
from gatewise.data.arrays import Sequences, check_classes, find_sequences, load_digits
from gatewise.data.moments import moments
from gatewise.errors import DataError, UsageError
from gatewise.models.loading import load_as
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.tasks.classification import Examples, LabelTask, figures_of, label_indices
from gatewise.training.batches import Indices


def open_sequences(settings: DataConfig) -> dict[str, Sequences]:
    """Read the three splits named by a configuration.

    Raises:
        UsageError: the configuration names no data, or more than one location.
        DataError: a split is missing or invalid.
    """
    if bool(settings.path) == bool(settings.builtin):
        found = "both path and builtin" if settings.path else "no data"
        raise UsageError(f"data: the recipe names {found}; add --data FOLDER, a folder with IDX files or *.npz")
    if settings.builtin == "digits":
        return load_digits(settings.valid_size, settings.test_size)
    if settings.builtin:
        raise UsageError(f"data.builtin is {settings.builtin!r}, which this task does not support; expected 'digits'")
    parts = find_sequences(settings.path, settings.valid_size, settings.test_size)
    check_resolution(parts["train"].x, f"{settings.path} (train): x")
    return {
        split: replace(part, x=in_float32(part.x, f"{settings.path} ({split}): x")) for split, part in parts.items()
    }


def check_resolution(x: npt.NDArray[Any], name: str) -> None:
    """Check that the inputs remain distinguishable in float32, in which a classifier reads them unscaled.

    Raises:
        DataError: a column's standard deviation is less than a hundred times its rounding error.
    """
    if x.dtype != np.float64:
        return
    flat = x.reshape(-1, x.shape[-1])
    mean, std = moments(flat)
    with np.errstate(over="ignore"):
        lost = np.abs(flat - flat.astype(np.float32)).max(0)
    for column in np.flatnonzero((std > 0) & np.isfinite(lost) & (lost > std / 100)):
        raise DataError(
            f"{name}: column {column} is {mean[column]:.10g} ± {std[column]:.3g}, which float32 cannot resolve; "
            "expected numbers near 1: subtract the mean and divide by the standard deviation"
        )


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
    return figures_of(config, split, model, LabelledSequences(part, model.labels, name))
