"""The tagger's peer: a straightforward PyTorch program of the same model, without any Gatewise code.

It uses packed sequences for the sentences and for the characters of each word, precomputed id tensors, and the padding
of a typical collate function.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from benchmarks.training.pytorch import Peer


class Characters(nn.Module):
    """A character encoder: the final states of a bidirectional LSTM, or the max-pooled outputs of a convolution."""

    def __init__(self, kind: str, characters: int, embedding_size: int, size: int) -> None:
        super().__init__()
        self.kind, self.size = kind, 2 * size if kind == "lstm" else size
        self.embedding = nn.Embedding(characters, embedding_size)
        if kind == "lstm":
            self.rnn = nn.LSTM(embedding_size, size, bidirectional=True)
        else:
            self.convolution = nn.Conv1d(embedding_size, size, kernel_size=3, padding=1)

    def forward(self, spellings: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Encode spellings (S, W) as (W, K)."""
        x = self.embedding(spellings)
        if self.kind == "lstm":
            _, (h_n, _) = self.rnn(pack_padded_sequence(x, lengths, enforce_sorted=False))
            return torch.cat([h_n[0], h_n[1]], 1)
        inside = torch.arange(len(spellings))[:, None] < lengths
        answers: torch.Tensor = self.convolution((x * inside[..., None]).permute(1, 2, 0))
        return answers.masked_fill(~inside.t()[:, None], -torch.inf).amax(2)


class Model(nn.Module):
    """nn.Embedding, the character encoder, a packed nn.LSTM, and nn.Linear."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__()
        model = arguments["config"]["model"]
        self.word_dropout, self.unk = model["word_dropout"], arguments["unk"]
        size, hidden_size = model["embedding_size"] or model["hidden_size"], model["hidden_size"]
        self.embedding = nn.Embedding(arguments["vocabulary"], size)
        self.characters = Characters(
            model["character_encoder"],
            arguments["characters"],
            model["character_embedding_size"],
            model["character_hidden_size"],
        )
        self.drop = nn.Dropout(model["dropout"])
        self.rnn = nn.LSTM(
            size + self.characters.size,
            hidden_size,
            model["num_layers"],
            dropout=model["dropout"] if model["num_layers"] > 1 else 0.0,
            bidirectional=model["bidirectional"],
        )
        self.decoder = nn.Linear(hidden_size * (2 if model["bidirectional"] else 1), arguments["labels"])

    def forward(
        self, words: torch.Tensor, lengths: torch.Tensor, spellings: torch.Tensor, spelling_lengths: torch.Tensor
    ) -> torch.Tensor:
        """Return logits (T, B, C); the spellings are those of every word, sentence after sentence."""
        if self.training and self.word_dropout:
            words = words.masked_fill(torch.rand(words.shape) < self.word_dropout, self.unk)
        spelled = self.characters(spellings, spelling_lengths)
        spelled = pad_sequence(list(spelled.split(lengths.tolist())))
        x = self.drop(torch.cat([self.embedding(words), spelled], 2))
        y, _ = self.rnn(pack_padded_sequence(x, lengths, enforce_sorted=False))
        logits: torch.Tensor = self.decoder(self.drop(pad_packed_sequence(y)[0]))
        return logits


class TaggerPeer(Peer):
    """Training steps on batches of sentences of nearly equal length."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.words = [torch.tensor(ids) for ids in arguments["words"]]
        self.tags = [torch.tensor(ids) for ids in arguments["tags"]]
        spelled = {spelling: torch.tensor(ids) for spelling, ids in arguments["spellings"].items()}
        self.spellings = [[spelled[word] for word in sentence] for sentence in arguments["forms"]]
        self.batches = arguments["batches"]
        super().__init__(Model(arguments), arguments)

    def cost(self) -> torch.Tensor:
        """Return the mean over the words of a batch."""
        rows = self.next_batch()
        words = [self.words[row] for row in rows]
        spellings = [spelling for row in rows for spelling in self.spellings[row]]
        logits = self.model(
            pad_sequence(words),
            torch.tensor([len(ids) for ids in words]),
            pad_sequence(spellings),
            torch.tensor([len(ids) for ids in spellings]),
        )
        tags = pad_sequence([self.tags[row] for row in rows], padding_value=-100)
        return F.cross_entropy(logits.flatten(0, 1).float(), tags.flatten())
