"""Loading models, from run folders and from model files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatewise.errors import UsageError
from gatewise.runtime.language_model import LanguageModel
from gatewise.runtime.model import Model
from gatewise.runtime.model_file import ModelFile, check_stored, read_file, read_run
from gatewise.runtime.sequence_classifier import SequenceClassifier
from gatewise.runtime.sequence_regressor import SequenceRegressor
from gatewise.runtime.tagger import Tagger
from gatewise.runtime.text_classifier import TextClassifier
from gatewise.wording import option

MODELS: Mapping[str, type[Model]] = {
    "language-model": LanguageModel,
    "tagger": Tagger,
    "text-classifier": TextClassifier,
    "classifier": SequenceClassifier,
    "regressor": SequenceRegressor,
}
"""The model of each task, as a model file calls it."""


def load(path: str | Path, weights: str | None = None, threads: int = 1) -> Any:
    """Load the model of a run, or of a file written by ``gatewise export RUN --to runtime``; NumPy is all it needs.

    Args:
        path: a run folder of any task, or a model file.
        weights: of a run, how to store its matrices: ``fp32``, the default, ``bf16`` or ``int8``. A file has its own.
        threads: the most threads of a call. Results do not depend on it.

    Returns:
        A ``LanguageModel``, ``Tagger``, ``TextClassifier``, ``SequenceClassifier`` or ``SequenceRegressor``.

    Raises:
        UsageError: ``weights`` is unknown, or not those of the file; ``threads`` is out of range; or Gatewise's library
            was not built.
        RunError: the run or the file is missing or invalid.
    """
    return model_of(_read(Path(path).expanduser(), weights), threads)


def model_of(file: ModelFile, threads: int = 1) -> Any:
    """Return the model of a file that was read; see ``load``."""
    return MODELS[file.about["task"]](file, threads)


def _read(path: Path, weights: str | None) -> ModelFile:
    if weights is not None:
        check_stored(weights)
    if not path.is_file():
        return read_run(path, weights or "fp32")
    file = read_file(path)
    if weights not in (None, found := file.about["weights"]):
        raise UsageError(f"{option('weights', weights)}: {path} holds {found}; omit it, or export the run again")
    return file
