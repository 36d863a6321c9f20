"""Answers as JSON; what the models other than language models say."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.runtime import Model, SequenceClassifier, SequenceRegressor, Tagger, TextClassifier
from gatewise.runtime.answers import softmax

encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
"""Returns a value as JSON in one line."""


def by_name(names: Any, probabilities: npt.NDArray[np.floating]) -> dict[str, float]:
    """Return the probability of each label."""
    return {str(name): float(p) for name, p in zip(names, probabilities, strict=True)}


def answer(model: Model, outputs: npt.NDArray[np.floating]) -> dict[str, Any]:
    """Return what a model says after a step.

    Args:
        model: any but a language model.
        outputs: of the step, (K,).
    """
    if isinstance(model, SequenceRegressor):
        return {"prediction": [float(y) for y in outputs]}
    p = softmax(outputs)
    if isinstance(model, Tagger):
        return {"tag": model.tags[int(p.argmax())], "probabilities": by_name(model.tags, p)}
    if not isinstance(model, TextClassifier | SequenceClassifier):
        raise TypeError(f"no answer of a {model.task}")
    return {"label": model.labels[int(p.argmax())], "probabilities": by_name(model.labels, p)}
