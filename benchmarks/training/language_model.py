"""The peer: a straightforward PyTorch program of the same model, without any Gatewise code."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.training.pytorch import Peer


class Model(nn.Module):
    """nn.Embedding, nn.LSTM, nn.Linear."""

    def __init__(self, vocabulary: int, embedding_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.embedding = nn.Embedding(vocabulary, embedding_size)
        self.rnn = nn.LSTM(embedding_size, hidden_size, num_layers, dropout=dropout if num_layers > 1 else 0.0)
        self.decoder = nn.Linear(hidden_size, vocabulary)

    def forward(
        self, ids: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Return logits and state."""
        y, state = self.rnn(self.drop(self.embedding(ids)), state)
        return self.decoder(self.drop(y)), state


class LanguageModelPeer(Peer):
    """Training steps on contiguous windows with carried state."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        model, data = arguments["config"]["model"], arguments["config"]["data"]
        self.B, self.T = data["batch_size"], data["tbptt_length"]
        self.shape = model["num_layers"], self.B, model["hidden_size"]
        ids = torch.from_numpy(arguments["ids"]).long()
        length = len(ids) // self.B
        self.rows = ids[: self.B * length].view(self.B, length).t().contiguous()
        sizes = model["embedding_size"] or model["hidden_size"], model["hidden_size"], model["num_layers"]
        super().__init__(Model(arguments["vocabulary"], *sizes, model["dropout"]), arguments)

    def reset(self) -> None:
        """Start from the first window with zero state."""
        self.start = 0
        like = next(self.model.parameters())
        self.state = like.new_zeros(self.shape), like.new_zeros(self.shape)

    def cost(self) -> torch.Tensor:
        """Return the sum over the window's steps of the mean over the batch."""
        if self.start + self.T + 1 > len(self.rows):
            self.reset()
        ids = self.rows[self.start : self.start + self.T]
        targets = self.rows[self.start + 1 : self.start + self.T + 1]
        logits, (h, c) = self.model(ids, self.state)
        self.state = h.detach(), c.detach()
        self.start += self.T
        cost: torch.Tensor = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten()) * self.T
        return cost
