"""Word representations: an embedding, and optionally the output of a small network on the characters."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gatewise.config import ModelConfig
from gatewise.nn.recurrent import make_stack
from gatewise.runtime.lexicon import Lexicon


class WordBatch(NamedTuple):
    """A padded batch of sentences, with the spelling of each distinct word."""

    words: Int[Tensor, "T B"]
    """The ids of the words."""
    lengths: Int[Tensor, " B"]
    """The number of words of each sentence."""
    forms: Int[Tensor, "T B"]
    """The index of each word among the U spellings."""
    spellings: Int[Tensor, "S U"]
    """The ids of the characters of each distinct word, padded."""
    spelling_lengths: Int[Tensor, " U"]
    """The number of characters of each distinct word."""

    def to(self, device: torch.device, non_blocking: bool = False) -> "WordBatch":
        """Move the tensors to a device; lengths stay on the CPU, where the loop over the steps is planned."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "WordBatch":
        """Copy what ``to`` moves into memory from which a GPU reads without waiting."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "WordBatch":
        moved = {name: change(getattr(self, name)) for name in ("words", "forms", "spellings")}
        return self._replace(**moved)


class EncodedSentences:
    """Sentences encoded as ids once, to make batches quickly.

    Args:
        sentences: the words of each sentence.
        words: maps words to ids.
        characters: maps characters to ids.
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
        """Return a batch of the given sentences, in the given order."""
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
    """Encode words by their characters: the final states of a bidirectional LSTM, or a max-pooled convolution.

    ``lstm``: the final outputs of both directions, 2·size features (Lample et al. 2016, arXiv 1603.01360).
    ``cnn``: ``max_s (b + Σₖ W_k x_{s+k})``, k from −1 to 1, with zero padding, size features (Ma and Hovy 2016,
    arXiv 1603.01354).

    Args:
        kind: ``lstm`` or ``cnn``.
        characters: the number of characters.
        embedding_size: the size of the character embedding.
        size: the number of LSTM units in each direction, or of filters.
        engine: the engine of the LSTM.
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
        """Return a vector for each of U words; zeros for a word without characters."""
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
    """Base class of models that read words: ``x = [embedding[word], characters(spelling)]``.

    Models derive from it, so that the parameters are named ``embedding.weight`` and ``characters.*``. Each distinct
    word of a batch is encoded once, which does not change the result.

    Args:
        config: ``embedding_size``, ``character_*`` and ``word_dropout`` of ``[model]``.
        words: the words with an embedding.
        characters: the characters with an embedding.
        engine: the engine of the character LSTM.
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
        """Return a vector per word; in training, ids are replaced by ``<unk>`` with probability ``word_dropout``."""
        ids = batch.words
        if self.training and self.config.word_dropout:
            dropped = torch.rand(ids.shape, device=ids.device) < self.config.word_dropout
            ids = ids.masked_fill(dropped, self.lexicon.unk_id)
        x: Tensor = self.embedding(ids)
        if self.characters is None:
            return x
        spelled = self.characters(batch.spellings, batch.spelling_lengths)
        return torch.cat([x, spelled.to(x.dtype)[batch.forms]], 2)


def _ragged(
    starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Return, for runs in a flat array, the mask (B, T) of their padded batch and their indices in the array."""
    inside = np.arange(lengths.max(initial=0)) < lengths[:, None]
    places = np.broadcast_to(starts[:, None] + np.arange(inside.shape[1]), inside.shape)[inside]
    return inside, places


def _padded(inside: npt.NDArray[np.bool_], values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return values as (T, B), padded with zeros."""
    out = np.zeros(inside.shape, dtype=np.int64)
    out[inside] = values
    return np.ascontiguousarray(out.T)
