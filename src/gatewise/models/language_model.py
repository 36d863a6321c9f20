"""The recurrent language model: embedding, a stack of recurrent layers, a linear decoder."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from gatewise.config import ModelConfig
from gatewise.engines.native.stream import Stream
from gatewise.engines.registry import streaming_engine
from gatewise.engines.switches import switches
from gatewise.errors import UsageError
from gatewise.models.stack import configured_stack
from gatewise.nn import draw_weights, in_eval_mode, linear_cross_entropy
from gatewise.nn.dropout import dropout
from gatewise.nn.recurrent import State
from gatewise.nn.state import state_kind
from gatewise.runtime.generation import (
    SCORE_WINDOW,
    check_count,
    generate,
    most_probable,
    perplexity,
    read_first,
)
from gatewise.runtime.model_file import STORED
from gatewise.runtime.vocabulary import Vocabulary

STREAMED_FROM = 8
"""The number of tokens from which ``generate`` streams: packing the weights takes as long as three unpacked steps
(measured with H 64, 200 and 650)."""


class LanguageModel(nn.Module):
    """Predict each token from those before it (Zaremba, Sutskever and Vinyals 2014, arXiv 1409.2329).

    ``x = dropout(embedding[id])``; ``h, state = rnn(x, state)`` with dropout between layers;
    ``logits = decoder(dropout(h))``. Dropout never acts along time. With ``config.one_hot`` there is no embedding: x is
    the word's one-hot vector of V numbers.

    Args:
        config: sizes and options: the ``[model]`` section of a recipe.
        vocabulary: the tokens, in the order of their ids.
        generator: generator for the initial weights; torch's default if not given.
        engine: the engine of the recurrent layers and the loss.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocabulary: Vocabulary,
        generator: torch.Generator | None = None,
        engine: str = "auto",
    ) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        input_size = len(vocabulary) if config.one_hot else config.embedding_size or config.hidden_size
        if not config.one_hot:
            self.embedding = nn.Embedding(len(vocabulary), input_size)
        self.rnn = configured_stack(config, input_size, engine)
        self.decoder = nn.Linear(config.hidden_size, len(vocabulary))
        if config.tie_weights:
            self.decoder.weight = self.embedding.weight
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Initialize the weights and the decoder bias in ±init_scale, recurrent biases to 0 or the forget bias."""
        draw_weights(self, self.config.init_scale, self.config.forget_bias, generator=generator)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.decoder.weight.device

    def initial_state(self, batch_size: int = 1) -> State:
        """Return the state before the first token: zeros, each part (L, B, H)."""
        return self.rnn.initial_state(batch_size)

    def features(
        self, ids: Int[Tensor, "T B"], state: tuple[Tensor, ...], lengths: Tensor | None = None
    ) -> tuple[Float[Tensor, "T B H"], State]:
        """Run T tokens (or ``lengths``) of each row; return the last layer's outputs after dropout, and the state."""
        x = F.one_hot(ids, len(self.vocabulary)).to(self.decoder.weight) if self.config.one_hot else self.embedding(ids)
        x = dropout(x, self.config.dropout, self.training)
        y, after = self.rnn(x, state, lengths=lengths)
        return dropout(y, self.config.dropout, self.training), after

    def forward(
        self, ids: Int[Tensor, "T B"], state: tuple[Tensor, ...], targets: Int[Tensor, "T B"] | None = None
    ) -> tuple[Tensor, State]:
        """Read T tokens of each row.

        Args:
            ids: int64 token ids, time first.
            state: the state before these tokens; never changed in place.
            targets: the tokens to predict.

        Returns:
            Without targets, the logits (T, B, V); with targets, the training loss, a scalar: the sum over the T steps
            of the mean over the B rows of the negative log-likelihood in nats. And the state after the last token.
        """
        y, after = self.features(ids, state)
        if targets is None:
            return self.decoder(y), after
        return self._nll(y.flatten(0, 1), targets.flatten(), 1 / ids.shape[1]), after

    def _nll(self, y: Float[Tensor, "N H"], targets: Int[Tensor, " N"], scale: float = 1.0) -> Float[Tensor, ""]:
        weight, bias = self.decoder.weight, self.decoder.bias
        return linear_cross_entropy(y, weight, bias, targets, scale=scale, engine=self.rnn.engine)

    @torch.no_grad()
    def step(self, token_ids: Int[Tensor, " B"], state: tuple[Tensor, ...]) -> tuple[Float[Tensor, "B V"], State]:
        """Read one token of each row; return the logits of the next one and the new state."""
        logits, after = self(token_ids[None], state)
        return logits[0], after

    def stream(self, weights: str = "fp32") -> Stream[State]:
        """Pack the weights for reading one token at a time on the CPU; the native engine computes.

        The stream has a ``step`` like the model's, without dropout and much faster. It is a snapshot: later changes
        to the parameters do not affect it. States are interchangeable between the two.

        Args:
            weights: ``fp32``; ``bf16``, weights rounded to bfloat16; or ``int8``, integers of 8 bits with one scale for
                each row of a matrix, which multiply activations of 16 bits. They take a half and a quarter of the
                memory, and of the time where memory bandwidth limits a step. Biases, gates and states are float32.

        Raises:
            UsageError: the native engine is not available, the weights are not float32 on the CPU, or one that is to be
                stored as ``int8`` is not finite.

        >>> stream = lm.stream()
        >>> logits, state = stream.step(token_ids, lm.initial_state())
        """
        if reason := self._why_no_stream():
            raise UsageError(f"this model cannot be streamed: {reason}; use step() instead")
        if weights not in STORED:
            raise UsageError(f"weights is {weights!r}; expected one of {', '.join(STORED)}")
        try:
            stream: Stream[State] = streaming_engine().stream(
                self.rnn.spec,
                dict(self.rnn.named_parameters()),
                state=state_kind(self.rnn.spec.about),
                table=None if self.config.one_hot else self.embedding.weight,
                one_hot=self.config.one_hot,
                decoder=(self.decoder.weight, self.decoder.bias),
                weights=weights,
                threads=switches().threads,
            )
        except ValueError as reason:
            raise UsageError(f"this model cannot be streamed: {reason}") from None
        return stream

    def _why_no_stream(self) -> str | None:
        return streaming_engine().why_not_stream(self.rnn.spec, self.device, self.decoder.weight.dtype)

    def score(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> tuple[float, int]:
        """Score every token of a stream except the first, in one row with carried state, in eval mode and fp32.

        Args:
            ids: token ids; a memory map is read in pieces.

        Returns:
            The sum of the negative log-likelihoods in nats, and the number of tokens scored.
        """
        state, nll = self.initial_state(), 0.0
        with in_eval_mode(self):
            for start in range(0, len(ids) - 1, SCORE_WINDOW):
                window = np.asarray(ids[start : start + SCORE_WINDOW + 1], dtype=np.int64)
                piece = torch.from_numpy(window).to(self.device)[:, None]
                cost, state = self(piece[:-1], state, piece[1:])
                nll += float(cost)
        return nll, max(len(ids) - 1, 0)

    def score_stepwise(self, ids: Sequence[int] | npt.NDArray[np.integer], stream: Stream[State]) -> float:
        """Return the summed nll of ``score``, computed token by token through a stream of this model."""
        state, nll = self.initial_state(), 0.0
        for start in range(0, len(ids) - 1, SCORE_WINDOW):
            piece = torch.from_numpy(np.asarray(ids[start : start + SCORE_WINDOW + 1], dtype=np.int64))
            for k in range(len(piece) - 1):
                logits, state = stream.step(piece[k : k + 1], state)
                nll += float(F.cross_entropy(logits, piece[k + 1 : k + 2]))
        return nll

    def perplexity(self, texts: Sequence[str]) -> float:
        """Return ``exp(mean nll)`` over all tokens of the texts.

        Each text is read between ``<eos>`` tokens; its words and the closing ``<eos>`` are scored, and no state is
        carried from one text to the next. Unknown words are scored as ``<unk>``. If the vocabulary has a start token,
        each sentence of a text is scored independently, after ``<bos>``.

        Raises:
            UsageError: no text was given.
            NotFinite: the perplexity is not finite.
        """
        # In batches, because each pass packs all weights again, which costs more than reading a short text.
        return perplexity(
            self.vocabulary, texts, lambda rows: self.score(rows[0])[0] if len(rows) == 1 else self._score_rows(rows)
        )

    def _score_rows(self, rows: Sequence[Sequence[int]]) -> float:
        """Return the summed nll of all tokens except the first of each row, each from a zero state, in eval mode."""
        lengths = torch.tensor([len(ids) - 1 for ids in rows])
        ids = pad_sequence([torch.tensor(ids) for ids in rows]).to(self.device)
        inside = (torch.arange(len(ids) - 1)[:, None] < lengths).to(self.device)
        with in_eval_mode(self):
            y, _ = self.features(ids[:-1], self.initial_state(len(rows)), lengths)
            return float(self._nll(y[inside], ids[1:][inside]))

    def _state_after(self, ids: Sequence[int], state: State) -> State:
        for start in range(0, len(ids), SCORE_WINDOW):
            piece = torch.tensor(ids[start : start + SCORE_WINDOW], device=self.device)[:, None]
            _, state = self.features(piece, state)
        return state

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
        *before, last = read_first(self.vocabulary, prompt)
        with in_eval_mode(self):
            state = self._state_after(before, self.initial_state())
            logits, _ = self.step(torch.tensor([last], device=self.device), state)
        if self.vocabulary.bos_id is not None:
            logits[0, self.vocabulary.bos_id] = -math.inf
        return most_probable(self.vocabulary, logits[0].double().softmax(0).numpy(force=True), count)

    def generate(
        self,
        prompt: str | None = None,
        *,
        max_tokens: int = 50,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> str:
        """Continue a text, token by token.

        Args:
            prompt: the text to read first, after ``<eos>``; unknown words read as ``<unk>``. None starts a new text.
                A model of sentences reads the prompt's last sentence, after ``<bos>``.
            max_tokens: number of tokens to sample; ``<eos>`` counts and becomes a line break. A model of sentences
                starts a new one after it, with ``<bos>``, which is never sampled.
            temperature: divides the logits; 0 always takes the most probable token.
            top_k: sample from the k most probable tokens only.
            top_p: sample from the smallest set of tokens whose probabilities reach p.
            seed: the same seed gives the same text, on every device; None uses a new seed.

        Returns:
            The prompt and its continuation.

        Raises:
            UsageError: an empty prompt, or an option out of range.
        """
        with in_eval_mode(self):
            return generate(
                self.vocabulary,
                prompt,
                lambda: _Reader(self, max_tokens),
                max_tokens=max_tokens,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                seed=seed,
            )


class _Reader:
    """One row of a model in eval mode, which reads ``tokens`` ids one by one."""

    def __init__(self, model: LanguageModel, tokens: int) -> None:
        self._model = model
        streamed = tokens >= STREAMED_FROM and model.rnn.engine in ("auto", "native")
        self._state = model.initial_state()
        self._step = model.step if not streamed or model._why_no_stream() else model.stream().step

    def read(self, ids: Sequence[int]) -> None:
        self._state = self._model._state_after(ids, self._state)

    def step(self, last: int) -> npt.NDArray[np.floating]:
        logits, self._state = self._step(torch.tensor([last], device=self._model.device), self._state)
        return logits[0].float().numpy(force=True)

    def restart(self) -> None:
        self._state = self._model.initial_state()
