"""The row reader's peer: a straightforward PyTorch program of the same model, without any Gatewise code."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.training.pytorch import Peer


class Model(nn.Module):
    """nn.LSTM over the rows of an image, and nn.Linear on the last layer's output after the last row."""

    def __init__(self, width: int, hidden_size: int, num_layers: int, labels: int, dropout: float) -> None:
        super().__init__()
        between = dropout if num_layers > 1 else 0.0
        self.rnn = nn.LSTM(width, hidden_size, num_layers, batch_first=True, dropout=between)
        self.drop = nn.Dropout(dropout)
        self.decoder = nn.Linear(hidden_size, labels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits for input (N, T, I)."""
        _, (h_n, _) = self.rnn(x)
        logits: torch.Tensor = self.decoder(self.drop(h_n[-1]))
        return logits


class RowsPeer(Peer):
    """Training steps on batches of images held in memory as floats."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.x = torch.from_numpy(arguments["x"]).float() * arguments["scale"]
        self.y, self.batches = torch.from_numpy(arguments["y"]), torch.from_numpy(arguments["batches"])
        model = arguments["config"]["model"]
        sizes = self.x.shape[2], model["hidden_size"], model["num_layers"], arguments["labels"]
        super().__init__(Model(*sizes, model["dropout"]), arguments)

    def cost(self) -> torch.Tensor:
        """Return the mean over a batch."""
        rows = self.next_batch()
        x = self.x[rows].to(next(self.model.parameters()).dtype)
        return F.cross_entropy(self.model(x).float(), self.y[rows])
