"""The answers of a model to one sequence, shown beside what happens inside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from gatewise.inspection.inputs import Steps
from gatewise.models.finite import check_finite
from gatewise.models.language_model import LanguageModel
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.models.sequence_regressor import SequenceRegressor
from gatewise.models.tagger import Tagger
from gatewise.models.text_classifier import TextClassifier

WINDOW = 256
"""The number of steps whose logits are held at a time."""


@dataclass(frozen=True)
class Answers:
    """What a model predicts from one sequence: something at each of the T steps, or one thing from all of them.

    Attributes:
        each: the T predictions; none if the model answers once.
        probabilities: their T probabilities.
        whole: a sentence with the single prediction.
    """

    each: Sequence[str] = ()
    probabilities: Sequence[float] = ()
    whole: str = ""


@torch.no_grad()
def predict_answers(model: nn.Module, steps: Steps) -> Answers:
    """Predict each word's tag, the most probable token after each step, the class, or the value.

    Args:
        model: a model in eval mode.
        steps: its input, as ``read_text`` and ``read_numbers`` return it.

    Raises:
        NotFinite: a prediction is not finite.
    """
    if isinstance(model, LanguageModel):
        return _next_tokens(model, steps)
    if isinstance(model, Tagger):
        (tags,), (p,) = model.tag([steps.names]), model.tag_probabilities([steps.names])
        places = [model.tags.index(tag) for tag in tags]
        return Answers(tags, [float(row[k]) for row, k in zip(p, places, strict=True)])
    if isinstance(model, TextClassifier):
        p = model.predict_proba([steps.names])[0]
        return Answers(whole=_class(model.labels[int(p.argmax())], float(p.max())))
    numbers = torch.as_tensor(steps.numbers)[None]
    if isinstance(model, SequenceClassifier):
        p = model.predict_proba(numbers)[0]
        return Answers(whole=_class(model.labels[int(p.argmax())], float(p.max())))
    assert isinstance(model, SequenceRegressor)
    return Answers(whole=f"Predicted value: {float(model.predict(numbers)[0]):.5g}.")


def _class(label: object, probability: float) -> str:
    return f"Predicted class: {label}, with probability {probability:.3f}."


def _next_tokens(model: LanguageModel, steps: Steps) -> Answers:
    y, tokens, probabilities = model.rnn(steps.x)[0][:, 0], list[str](), list[float]()
    for some in y.split(WINDOW):
        logits = model.decoder(some)
        if model.vocabulary.bos_id is not None:
            logits[:, model.vocabulary.bos_id] = -math.inf
        most = check_finite(logits.double().softmax(1), "the probabilities of the next tokens").max(1)
        tokens += [model.vocabulary.tokens[k] for k in most.indices.tolist()]
        probabilities += most.values.tolist()
    return Answers(tokens, probabilities)
