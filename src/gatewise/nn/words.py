"""Words as vectors: an embedding, and beside it what a small network reads from the characters."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gatewise.config import ModelConfig
from gatewise.data.lexicon import Lexicon
from gatewise.nn.recurrent import make_stack

BATCH_ROWS, BATCH_WORDS = 128, 8192
"""Sentences, and words with their padding, that are read side by side where no gradient is wanted; neither changes a
result."""


class WordBatch(NamedTuple):
    """Sentences side by side, padded, and how their words are spelled, each distinct word once."""

    words: Int[Tensor, "T B"]
    """Ids of the words."""
    lengths: Int[Tensor, " B"]
    """Words of each sentence."""
    forms: Int[Tensor, "T B"]
    """Of each word, which of the U spellings is its own."""
    spellings: Int[Tensor, "S U"]
    """Ids of the characters of each distinct word, padded."""
    spelling_lengths: Int[Tensor, " U"]
    """Characters of each distinct word."""

    def to(self, device: torch.device) -> "WordBatch":
        """Move what is computed with; lengths stay on the CPU, where the loop over the steps is planned."""
        moved = [tensor.to(device) for tensor in (self.words, self.forms, self.spellings)]
        return WordBatch(moved[0], self.lengths, moved[1], moved[2], self.spelling_lengths)


class EncodedSentences:
    """Sentences as ids, encoded once, from which batches are cut quickly.

    Args:
        sentences: the words of each.
        words: ids of the words.
        characters: ids of their characters.
    """

    def __init__(self, sentences: Sequence[Sequence[str]], words: Lexicon, characters: Lexicon) -> None:
        flat = list(chain.from_iterable(sentences))
        places = {word: place for place, word in enumerate(dict.fromkeys(flat))}
        self.lengths = np.array([len(sentence) for sentence in sentences], dtype=np.int64)
        self._starts = np.cumsum(self.lengths) - self.lengths
        self._words = np.array(words.encode(flat), dtype=np.int64)
        self._forms = np.array([places[word] for word in flat], dtype=np.int64)
        self._spelling_lengths = np.array([len(word) for word in places], dtype=np.int64)
        self._spelling_starts = np.cumsum(self._spelling_lengths) - self._spelling_lengths
        self._characters = np.array(characters.encode(chain.from_iterable(places)), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: Sequence[int] | npt.NDArray[np.integer]) -> WordBatch:
        """Put some of the sentences side by side, in the order in which they are named."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]
        inside, places = _ragged(self._starts[rows], lengths)
        distinct, which = np.unique(self._forms[places], return_inverse=True)
        spelled, letters = _ragged(self._spelling_starts[distinct], self._spelling_lengths[distinct])
        padded = (
            _padded(inside, self._words[places]),
            lengths,
            _padded(inside, which),
            _padded(spelled, self._characters[letters]),
            self._spelling_lengths[distinct],
        )
        return WordBatch(*(torch.from_numpy(array) for array in padded))


class CharacterEncoder(nn.Module):
    """Read the characters of words: a bidirectional LSTM's last states, or the largest answers of a convolution.

    ``lstm``: the outputs of both directions at their own ends, 2·size numbers (Lample et al. 2016, arXiv 1603.01360).
    ``cnn``: ``max_s (b + Σₖ W_k x_{s+k})``, k from −1 to 1, zeros around the word, size numbers (Ma and Hovy 2016,
    arXiv 1603.01354).

    Args:
        kind: ``lstm`` or ``cnn``.
        characters: how many there are.
        embedding_size: numbers in a character's embedding.
        size: units of the LSTM in each direction, or filters.
        engine: computes the LSTM.
    """

    def __init__(self, kind: str, characters: int, embedding_size: int, size: int, engine: str = "auto") -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, embedding_size)
        self.output_size = size if kind == "cnn" else 2 * size
        if kind == "cnn":
            self.convolution = nn.Conv1d(embedding_size, size, kernel_size=3, padding=1)
        else:
            self.rnn = make_stack("lstm", embedding_size, size, bidirectional=True, engine=engine)

    def forward(self, spellings: Int[Tensor, "S U"], lengths: Int[Tensor, " U"]) -> Float[Tensor, "U K"]:
        """Return a vector for each of U words; of a word without characters zeros."""
        if not spellings.numel():
            return self.embedding.weight.new_zeros(spellings.shape[1], self.output_size)
        x = self.embedding(spellings)
        if hasattr(self, "rnn"):
            _, (h_n, _) = self.rnn(x, lengths=lengths)
            return torch.cat([h_n[0], h_n[1]], 1)
        inside = (torch.arange(len(spellings))[:, None] < lengths).to(x.device)[..., None]
        answers = self.convolution((x * inside).permute(1, 2, 0)).permute(2, 0, 1)
        largest = torch.where(inside, answers, -torch.inf).amax(0)
        return torch.where((lengths > 0).to(x.device)[:, None], largest, 0)


class WordEncoder(nn.Module):
    """The foot of a model that reads words: ``x = [embedding[word], characters(spelling)]``.

    A model derives from it, so that the parameters bear the contract's names, ``embedding.weight`` and
    ``characters.*``. Each distinct word of a batch is spelled once, which means the same as spelling each word.

    Args:
        config: ``embedding_size``, ``character_*`` and ``word_dropout`` of ``[model]``.
        words: the words that have an embedding.
        characters: the characters that have one.
        engine: computes the character LSTM.
    """

    def __init__(self, config: ModelConfig, words: Lexicon, characters: Lexicon, engine: str = "auto") -> None:
        super().__init__()
        self.config, self.lexicon, self.alphabet = config, words, characters
        size = config.embedding_size or config.hidden_size
        self.embedding = nn.Embedding(len(words), size)
        self.characters: CharacterEncoder | None = None
        self.word_size = size
        if config.character_encoder != "none":
            self.characters = CharacterEncoder(
                config.character_encoder,
                len(characters),
                config.character_embedding_size,
                config.character_hidden_size,
                engine,
            )
            self.word_size += self.characters.output_size

    def encode(self, batch: WordBatch) -> Float[Tensor, "T B K"]:
        """Return a vector for each word; in training a known word's id is dropped with ``word_dropout``."""
        ids = batch.words
        if self.training and self.config.word_dropout:
            dropped = torch.rand(ids.shape, device=ids.device) < self.config.word_dropout
            ids = ids.masked_fill(dropped, self.lexicon.unk_id)
        x: Tensor = self.embedding(ids)
        if self.characters is None:
            return x
        spelled = self.characters(batch.spellings, batch.spelling_lengths)
        return torch.cat([x, spelled.to(x.dtype)[batch.forms]], 2)


def batches_by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the places of sequences, those of like length together, the empty ones not at all."""
    rows: list[int] = []
    for row in sorted((row for row, length in enumerate(lengths) if length), key=lengths.__getitem__):
        if rows and (len(rows) == BATCH_ROWS or lengths[row] * (len(rows) + 1) > BATCH_WORDS):
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def _ragged(
    starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Of runs in a flat array: a mask (B, T) of the places they take side by side, and their places in the array."""
    inside = np.arange(lengths.max(initial=0)) < lengths[:, None]
    places = np.broadcast_to(starts[:, None] + np.arange(inside.shape[1]), inside.shape)[inside]
    return inside, places


def _padded(inside: npt.NDArray[np.bool_], values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Lay values out as (T, B), zeros past each row's end."""
    out = np.zeros(inside.shape, dtype=np.int64)
    out[inside] = values
    return np.ascontiguousarray(out.T)
