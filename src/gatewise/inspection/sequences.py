"""Input sequences for a run's model: from the run's own data if available, otherwise random ones of the same kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatewise.config import Config
from gatewise.data.adding import draw_adding_problem
from gatewise.data.configured import find_text, labelled_split, open_sequences, tagged_split
from gatewise.data.token_cache import tokenize_file
from gatewise.errors import DataError, UsageError
from gatewise.inspection.trace import stack_input
from gatewise.models.language_model import LanguageModel
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.models.sequence_regressor import SequenceRegressor
from gatewise.models.tagger import Tagger
from gatewise.models.text_classifier import TextClassifier
from gatewise.runtime.batches import BATCH_WORDS

T = TypeVar("T")
COUNT = 64
"""Number of sequences in a batch, all of the same length."""


@dataclass(frozen=True)
class Batch:
    """Sequences of one length, as input for one kind of model.

    Attributes:
        read: runs a model on the sequences.
        targets: the targets at the last step: (B,) class indices, or (B,) or (B, H) numbers in the model's units.
        source: a description of the sequences.
    """

    read: Callable[[Any], object]
    targets: Tensor
    source: str

    def stack_input(self, model: nn.Module) -> Tensor:
        """Return the input of the model's recurrent stack, (T, B, I)."""
        rnn: Any = model.rnn
        return stack_input(rnn, lambda: self.read(model))

    def loss(self, model: nn.Module, last: Tensor) -> Tensor:
        """Return the loss computed from the last layer's output (B, K), summed over the rows."""
        decoder: Any = model.decoder
        answers = decoder(last)
        if isinstance(model, SequenceRegressor):
            return F.mse_loss(answers, self.targets.to(last.dtype).reshape(len(answers), -1), reduction="sum")
        return F.cross_entropy(answers, self.targets, reduction="sum")


def sample_batch(model: nn.Module, config: Config, steps: int, seed: int = 1) -> Batch:
    """Draw ``COUNT`` sequences for a model.

    Args:
        model: the model of a finished run.
        config: the run's configuration.
        steps: the sequence length; 0 uses the length of the run's own sequences, or 100 for text.
        seed: the random seed.
    """
    draw = np.random.default_rng(seed)
    if isinstance(model, LanguageModel):
        return _token_batch(model, config, steps or 100, draw)
    if isinstance(model, Tagger | TextClassifier):
        return _word_batch(model, config, steps or 100, draw)
    if isinstance(model, SequenceClassifier):
        return _classifier_batch(model, config, steps, draw)
    assert isinstance(model, SequenceRegressor)
    return _regressor_batch(model, config, steps, draw)


def _own(read: Callable[[], T]) -> T | None:
    """Return the run's own data, or None if it no longer exists."""
    try:
        return read()
    except (DataError, UsageError):
        return None


def _token_batch(model: LanguageModel, config: Config, steps: int, draw: np.random.Generator) -> Batch:
    """Return windows of the validation text."""
    settings, size = config.data, len(model.vocabulary)
    ids, source = draw.integers(size, size=(steps + 1, COUNT)), f"{COUNT} sequences of {steps} random tokens"
    is_of_words = config.task.name == "language-model"  # otherwise, of single sentences in a CSV file
    path = _own(lambda: find_text(settings, "valid")) if is_of_words else None
    text = _own(lambda: tokenize_file(path, model.vocabulary).ids) if path else None
    if path is not None and text is not None and len(text) > steps:
        starts = draw.integers(len(text) - steps, size=COUNT)
        ids = np.stack([np.asarray(text[start : start + steps + 1], dtype=np.int64) for start in starts], 1)
        source = f"{COUNT} windows of {steps} tokens of {path.name}"
    tokens = torch.from_numpy(ids)
    return Batch(lambda m: m.features(tokens[:-1], m.initial_state(COUNT)), tokens[-1], source)


def _word_batch(model: Tagger | TextClassifier, config: Config, steps: int, draw: np.random.Generator) -> Batch:
    """Return runs of words of the validation split, across the ends of sentences and texts, with random targets."""
    settings = config.data

    def words_of_valid() -> list[str]:
        if isinstance(model, Tagger):
            return [word for words in tagged_split(settings, "valid").words for word in words]
        return [word for text in labelled_split(settings, "valid").texts for word in text.words]

    count = max(1, min(COUNT, BATCH_WORDS // steps))
    words, source = _own(words_of_valid), "the validation part"
    if words is None or len(words) < steps:
        known = model.lexicon.tokens
        words, source = [known[k] for k in draw.integers(len(known), size=count * steps)], "the vocabulary, at random"
    starts = draw.integers(len(words) - steps + 1, size=count)
    rows = [words[start : start + steps] for start in starts]
    classes = len(model.tags) if isinstance(model, Tagger) else len(model.labels)
    return Batch(
        lambda m: m.tag_probabilities(rows) if isinstance(m, Tagger) else m.predict_proba(rows),
        torch.from_numpy(draw.integers(classes, size=count)),
        f"{count} runs of {steps} words of {source}",
    )


def _classifier_batch(model: SequenceClassifier, config: Config, steps: int, draw: np.random.Generator) -> Batch:
    """Return sequences of the validation split."""
    parts = _own(lambda: open_sequences(config.data).parts)
    if parts is None:
        steps = steps or model.steps or 100
        x = torch.from_numpy(draw.random((COUNT, steps, model.input_size), dtype=np.float32))
        targets, source = draw.integers(len(model.labels), size=COUNT), f"{COUNT} sequences of {steps} random steps"
    else:
        chosen = np.sort(draw.permutation(len(parts["valid"]))[:COUNT])
        array, labels, lengths = parts["valid"].batch(chosen)
        shortest = None if lengths is None else int(lengths.min())
        x = torch.from_numpy(array)[:, : steps or None][:, :shortest]
        places = {label: k for k, label in enumerate(model.labels)}
        targets = np.array([places[label] for label in labels.tolist()])
        source = f"{len(chosen)} sequences of {x.shape[1]} steps of the validation part"
    return Batch(lambda m: m.predict_proba(x), torch.from_numpy(targets), source)


def _regressor_batch(model: SequenceRegressor, config: Config, steps: int, draw: np.random.Generator) -> Batch:
    """Return sequences of the adding problem; for other regressors, normal random numbers in the model's units."""
    scaling = model.scaling
    x: npt.NDArray[np.floating]
    if config.task.name == "memory-task":
        steps = steps or config.data.length
        # Most of the gradient reaches only the two marked steps, so the mean at each distance needs many sequences.
        x, targets, _ = draw_adding_problem(8 * COUNT, steps, draw).batch(slice(None))
        source = f"{8 * COUNT} sequences of {steps} steps of the adding problem"
    else:
        steps = steps or model.window or 100
        x = draw.standard_normal((COUNT, steps, model.input_size)) * (scaling.x_std or 1.0) + (scaling.x_mean or 0.0)
        targets = draw.standard_normal((COUNT, model.horizon))
        source = f"{COUNT} sequences of {steps} steps of random numbers"
    return Batch(lambda m: m.predict(torch.from_numpy(x)), torch.from_numpy(targets), source)
