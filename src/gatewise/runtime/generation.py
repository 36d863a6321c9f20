"""What a language model does with text: continue it, and score it. The models supply the logits."""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gatewise.errors import NotFinite, UsageError
from gatewise.runtime.batches import batches_by_length
from gatewise.runtime.sampling import Sampler, check_sampling
from gatewise.runtime.vocabulary import Vocabulary

SCORE_WINDOW = 1024
"""The number of steps per call without gradients; the state is carried over, so results do not depend on it."""

Floats = npt.NDArray[np.floating]


class Reader(Protocol):
    """A model with the state of one row."""

    def read(self, ids: Sequence[int]) -> None:
        """Read ids."""

    def step(self, last: int) -> Floats:
        """Read one id; return the logits of the next one, (V,), which the caller may change."""

    def restart(self) -> None:
        """Go back to the state before the first id."""


def start_of(vocabulary: Vocabulary) -> int:
    """Return the id that is read before a new text or, by a model of sentences, before a sentence."""
    return vocabulary.eos_id if vocabulary.bos_id is None else vocabulary.bos_id


def read_first(vocabulary: Vocabulary, prompt: str | None) -> list[int]:
    """Return the ids to read before the first token is predicted; a sentence model reads the last sentence.

    Raises:
        UsageError: an empty prompt.
    """
    if prompt is None:
        return [start_of(vocabulary)]
    if not prompt.strip():
        raise UsageError("the prompt is empty; expected text, or no prompt to start a new text")
    return vocabulary.sequences(prompt)[-1][:-1]


def generate(
    vocabulary: Vocabulary,
    prompt: str | None,
    reader: Callable[[], Reader],
    *,
    max_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    continues: bool = False,
) -> str:
    """Continue a text, token by token.

    Args:
        vocabulary: the tokens of the model.
        prompt: the text to read first; None starts a new text.
        reader: returns the model; called once the arguments have been checked.
        max_tokens: the number of tokens to draw; ``<eos>`` counts, and becomes a line break.
        temperature: this and what follows are those of ``Sampler``.
        top_k: the number of most probable tokens to sample from.
        top_p: the probability mass of the nucleus.
        seed: 0 to 2⁶³ − 1, or None.
        continues: the prompt goes on with what the model has read: no start token comes before it. Afterwards, all
            drawn tokens are read, too.

    Returns:
        The prompt and its continuation.

    Raises:
        UsageError: an empty prompt, or an option out of range.
    """
    check_sampling(max_tokens, temperature, top_k, top_p, seed)
    bos, eos = vocabulary.bos_id, vocabulary.eos_id
    ids = read_first(vocabulary, prompt)
    model = reader()
    if continues and prompt is not None:
        if len(vocabulary.sequences(prompt)) > 1:
            model.restart()  # a sentence model, which has come to another sentence
        else:
            ids = ids[1:]
    # The loop starts with the last of these; the logits after the others are not needed.
    *before, last = ids
    model.read(before)
    sampler, drawn = Sampler(temperature, top_k, top_p, seed), list[int]()
    while len(drawn) < max_tokens:
        logits = model.step(last)
        if bos is not None:
            logits[bos] = -math.inf
        last = sampler.draw(logits)
        drawn.append(last)
        if last == eos and bos is not None:
            last = bos
            model.restart()
    if continues and last != bos:
        model.read([last])
    return _text(vocabulary, prompt, drawn)


def _text(vocabulary: Vocabulary, prompt: str | None, drawn: Sequence[int]) -> str:
    """Return a prompt with the tokens that follow it."""
    continuation = vocabulary.decode(drawn)
    if prompt is None:
        return continuation
    separator = vocabulary.separator
    glue = separator if drawn and drawn[0] != vocabulary.eos_id else ""
    return (prompt.rstrip() if separator else prompt) + glue + continuation


def check_count(count: int) -> None:
    """Check how many next tokens are wanted.

    Raises:
        UsageError: fewer than 1.
    """
    if count < 1:
        raise UsageError(f"the number of next tokens is {count}; expected 1 or more")


def most_probable(vocabulary: Vocabulary, p: Floats, count: int) -> list[tuple[str, float]]:
    """Return the most probable tokens with their probabilities, in falling order; of equal ones, the lowest id first.

    Args:
        vocabulary: the tokens.
        p: (V,), the probability of each.
        count: how many to return.

    Raises:
        NotFinite: the probabilities are not finite.
    """
    if not np.isfinite(p).all():
        raise NotFinite.of("the probabilities of the next token")
    ids = np.argsort(-p, kind="stable")[:count]
    return [(vocabulary.tokens[k], float(q)) for k, q in zip(ids.tolist(), p[ids], strict=True)]


def perplexity(
    vocabulary: Vocabulary, texts: Sequence[str], nll_of: Callable[[Sequence[Sequence[int]]], float]
) -> float:
    """Return ``exp(mean nll)`` over all tokens of texts.

    Args:
        vocabulary: the tokens of the model.
        texts: each is read between ``<eos>`` tokens or, by a model of sentences, sentence by sentence after ``<bos>``.
        nll_of: returns the summed nll of all ids but the first of some rows, each from a new state.

    Raises:
        UsageError: no text was given.
        NotFinite: the perplexity is not finite.
    """
    if isinstance(texts, str):
        raise UsageError("perplexity() got one string; expected a list of texts, such as [text]")
    read = [ids for text in texts for ids in vocabulary.sequences(text)]
    if not read:
        raise UsageError("perplexity() got no texts; expected at least one")
    lengths, nll = [len(ids) - 1 for ids in read], 0.0
    for rows in batches_by_length(lengths):
        nll += nll_of([read[row] for row in rows])
    nll /= sum(lengths)
    with np.errstate(over="ignore"):
        if not np.isfinite(np.exp(nll)):
            raise NotFinite.of("the probabilities of these texts")
    return math.exp(nll)
