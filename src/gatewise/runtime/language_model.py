"""The language model: continues text, scores it, predicts the next token."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import UsageError
from gatewise.runtime.answers import softmax
from gatewise.runtime.batches import batches_by_length
from gatewise.runtime.generation import (
    SCORE_WINDOW,
    check_count,
    generate,
    most_probable,
    perplexity,
    read_first,
)
from gatewise.runtime.library import Handle, Inputs, NativeModel
from gatewise.runtime.model import Floats, Model, State
from gatewise.runtime.model_file import ModelFile
from gatewise.runtime.vocabulary import Vocabulary


class LanguageModel(Model):
    """A language model; its inputs are token ids.

    Attributes:
        vocabulary: the tokens, in the order of their ids.
    """

    def __init__(self, file: ModelFile, threads: int) -> None:
        super().__init__(file, threads)
        about = file.about
        self.vocabulary = Vocabulary(about["tokens"], about["level"], about["start"])

    def _inputs(self, inputs: Any) -> Inputs:
        ids = np.asarray(inputs)
        if ids.ndim != 1 or (ids.dtype.kind not in "iu" and ids.size):
            raise UsageError(f"the ids have shape {ids.shape} and type {ids.dtype}; expected integers (rows,)")
        return Inputs(np.ascontiguousarray(ids, np.int64))

    def score(
        self, ids: Sequence[int] | npt.NDArray[np.integer], between: Callable[[], object] | None = None
    ) -> tuple[float, int]:
        """Score every token of a stream except the first, in one row with carried state.

        Args:
            ids: token ids; a memory map is read in pieces.
            between: called before each piece; what it raises ends the scoring.

        Returns:
            The sum of the negative log-likelihoods in nats, and the number of tokens scored.
        """
        state, nll = self._native.new_state(), 0.0
        for start in range(0, len(ids) - 1, SCORE_WINDOW):
            if between:
                between()
            nll += self._score([ids[start : start + SCORE_WINDOW + 1]], [state])
        return nll, max(len(ids) - 1, 0)

    def score_each(
        self, rows: Sequence[Sequence[int]], between: Callable[[], object] | None = None
    ) -> npt.NDArray[np.float64]:
        """Score every token except the first of each of N rows, each from a new state.

        Args:
            rows: token ids.
            between: called before each batch of rows, and each piece of a long one; what it raises ends the scoring.

        Returns:
            (N,) the sums of the negative log-likelihoods in nats.
        """
        nll = np.zeros(len(rows))
        counts = [len(row) - 1 for row in rows]
        for place in [place for place, count in enumerate(counts) if count > SCORE_WINDOW]:
            nll[place], counts[place] = self.score(rows[place], between)[0], 0  # in the same pieces, alone or not
        for some in batches_by_length(counts):
            if between:
                between()
            nll[some] = self._nll([rows[row] for row in some])
        return nll

    def _nll(self, rows: Sequence[Any], states: list[Handle] | None = None) -> npt.NDArray[np.float64]:
        given = self._inputs(np.concatenate([np.asarray(row) for row in rows]))
        lengths = np.array([len(row) for row in rows], np.int64)
        return self._native.score(lengths, given, states)

    def _score(self, rows: Sequence[Any], states: list[Handle] | None = None) -> float:
        return float(self._nll(rows, states).sum())

    def perplexity(self, texts: Sequence[str]) -> float:
        """Return ``exp(mean nll)`` over all tokens of the texts.

        Each text is read between ``<eos>`` tokens; its words and the closing ``<eos>`` are scored, and no state is
        carried from one text to the next. Unknown words are scored as ``<unk>``. If the vocabulary has a start token,
        each sentence of a text is scored independently, after ``<bos>``.

        Raises:
            UsageError: no text was given.
            NotFinite: the perplexity is not finite.
        """
        return perplexity(self.vocabulary, texts, self._score)

    def next_tokens(self, prompt: str | None = None, count: int = 10) -> list[tuple[str, float]]:
        """Return the most probable tokens after a text with their probabilities, in falling order.

        Args:
            prompt: the text to read first, as in ``generate``.
            count: the number of tokens.

        Raises:
            UsageError: an empty prompt, or a count below 1.
            NotFinite: the probabilities are not finite.
        """
        check_count(count)
        logits = self.read(read_first(self.vocabulary, prompt), self.initial_state())
        if self.vocabulary.bos_id is not None:
            logits[self.vocabulary.bos_id] = -np.inf
        return most_probable(self.vocabulary, softmax(logits.astype(np.float64)), count)

    def generate(
        self,
        prompt: str | None = None,
        *,
        max_tokens: int = 50,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        state: State | None = None,
    ) -> str:
        """Continue a text, token by token; the same seed gives the text of the models of PyTorch.

        Args:
            prompt: the text to read first, after ``<eos>``; unknown words read as ``<unk>``. None starts a new text.
                A model of sentences reads the prompt's last sentence, after ``<bos>``.
            max_tokens: number of tokens to sample; ``<eos>`` counts and becomes a line break. A model of sentences
                starts a new one after it, with ``<bos>``, which is never sampled.
            temperature: divides the logits; 0 always takes the most probable token.
            top_k: sample from the k most probable tokens only.
            top_p: sample from the smallest set of tokens whose probabilities reach p.
            seed: None uses a new seed.
            state: go on with what this state has read, so that no start token comes before the prompt. Afterwards it
                has read the whole result. Without a prompt, a new text starts.

        Returns:
            The prompt and its continuation.

        Raises:
            UsageError: an empty prompt, an option out of range, or a state in use.
        """
        own = self.initial_state() if state is None else state
        with self._using([own]):
            return generate(
                self.vocabulary,
                prompt,
                lambda: _Reader(self, self._native, own),
                max_tokens=max_tokens,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                seed=seed,
                continues=state is not None,
            )


class _Reader:
    """A model with a state that is held."""

    def __init__(self, model: LanguageModel, native: NativeModel, state: State) -> None:
        self._model, self._native, self._state = model, native, state

    def read(self, ids: Sequence[int]) -> None:
        if len(ids):
            self._native.read(self._model._inputs(ids), self._state._handle)

    def step(self, last: int) -> Floats:
        logits: Floats = self._native.step(self._model._inputs([last]), [self._state._handle])[0]
        return logits

    def restart(self) -> None:
        self._state._restart()
