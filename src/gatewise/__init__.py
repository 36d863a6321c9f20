"""Gatewise: recurrent sequence models, to understand, to train, to ship.

The public names are imported when first used: importing the package loads neither torch nor plots. They need the extra
``train``, ``Client`` the extra ``client``; ``gatewise.runtime`` needs NumPy alone.
"""

from typing import TYPE_CHECKING, Any

from gatewise.errors import (
    DataError,
    GatewiseError,
    InputError,
    Interrupted,
    RunError,
    ServerError,
    TrainingStopped,
    UsageError,
)
from gatewise.extras import import_extra

if TYPE_CHECKING:
    from gatewise.client.client import Client
    from gatewise.models.language_model import LanguageModel
    from gatewise.models.loading import load
    from gatewise.models.sequence_classifier import SequenceClassifier
    from gatewise.models.sequence_regressor import SequenceRegressor
    from gatewise.models.tagger import Tagger
    from gatewise.models.text_classifier import TextClassifier
    from gatewise.tasks.run import Run
    from gatewise.tasks.train import train

__version__ = "0.1.0"

_HOMES = {
    "Client": "gatewise.client.client",
    "LanguageModel": "gatewise.models.language_model",
    "Run": "gatewise.tasks.run",
    "SequenceClassifier": "gatewise.models.sequence_classifier",
    "SequenceRegressor": "gatewise.models.sequence_regressor",
    "TextClassifier": "gatewise.models.text_classifier",
    "Tagger": "gatewise.models.tagger",
    "load": "gatewise.models.loading",
    "train": "gatewise.tasks.train",
}

_EXTRAS = {"Client": "client"}
"""The extra that a name needs, if it is not ``train``."""

__all__ = [
    "Client",
    "DataError",
    "GatewiseError",
    "InputError",
    "Interrupted",
    "LanguageModel",
    "Run",
    "RunError",
    "SequenceClassifier",
    "SequenceRegressor",
    "ServerError",
    "Tagger",
    "TextClassifier",
    "TrainingStopped",
    "UsageError",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_extra(_HOMES[name], "", f"gatewise.{name}", _EXTRAS.get(name, "train")), name)
    raise AttributeError(f"module 'gatewise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
