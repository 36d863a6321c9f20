"""The registry of tasks whose models use PyTorch: how each is trained and evaluated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.config.tasks import TaskName
from gatewise.tasks.language_modeling import LanguageModelTask, evaluate_language_model
from gatewise.tasks.memory import MemoryTask, evaluate_memory
from gatewise.tasks.regression import RegressorTask, evaluate_regression
from gatewise.tasks.sequence_classification import SequenceClassifierTask, evaluate_sequences
from gatewise.tasks.tagging import TaggerTask, evaluate_tagger
from gatewise.tasks.task import Task
from gatewise.tasks.text_classification import TextClassifierTask, evaluate_texts


class Kind(NamedTuple):
    """How one task is trained and evaluated."""

    task: Callable[[Config], Task]
    """Loads the data named by a configuration."""
    evaluate: Callable[[RunFolder, Config, "str | Path | None", str, torch.device], dict[str, Any]]
    """Returns the metrics of a finished run on a split of its own data, or of other data."""


KINDS: dict[TaskName, Kind] = {
    "language-model": Kind(LanguageModelTask, evaluate_language_model),
    "classifier": Kind(SequenceClassifierTask, evaluate_sequences),
    "text-classifier": Kind(TextClassifierTask, evaluate_texts),
    "tagger": Kind(TaggerTask, evaluate_tagger),
    "regressor": Kind(RegressorTask, evaluate_regression),
    "memory-task": Kind(MemoryTask, evaluate_memory),
}
