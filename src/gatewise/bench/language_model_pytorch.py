"""The peer: the same model as a straightforward PyTorch program, nothing of ours in it."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from gatewise.bench.duel import serve, write_cost_and_gradients


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


class Peer:
    """Training steps as a PyTorch user writes them."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        config = arguments["config"]
        torch.set_num_threads(arguments["threads"])
        model, training, data = config["model"], config["training"], config["data"]
        self.model = Model(
            arguments["vocabulary"],
            model["embedding_size"] or model["hidden_size"],
            model["hidden_size"],
            model["num_layers"],
            model["dropout"],
        )
        self.model.load_state_dict(load_file(arguments["weights"]))
        self.B, self.T, self.clip = data["batch_size"], data["tbptt_length"], training["max_grad_norm"]
        self.shape = model["num_layers"], self.B, model["hidden_size"]
        ids = np.load(arguments["ids"])
        length = len(ids) // self.B
        self.rows = torch.from_numpy(ids[: self.B * length].astype(np.int64)).view(self.B, length).t().contiguous()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=arguments["learning_rate"])
        self.reset()
        self.model.train()

    def reset(self) -> None:
        """Start from the first window with a state of zeros."""
        self.start = 0
        self.state = torch.zeros(self.shape), torch.zeros(self.shape)

    def cost(self) -> torch.Tensor:
        """The sum over the window's steps of the mean over the batch."""
        ids = self.rows[self.start : self.start + self.T]
        targets = self.rows[self.start + 1 : self.start + self.T + 1]
        logits, (h, c) = self.model(ids, self.state)
        self.state = h.detach(), c.detach()
        self.start += self.T
        cost: torch.Tensor = F.cross_entropy(logits.flatten(0, 1), targets.flatten()) * self.T
        return cost

    def check(self, to: Path) -> None:
        """Write cost and gradients, before clipping, of the first window."""
        torch.manual_seed(0)
        self.reset()
        cost = self.cost()
        write_cost_and_gradients(self.model, cost, to)

    def run(self, steps: int) -> float:
        """Do training steps, wrapping around at the end of the text."""
        began = time.perf_counter()
        for _ in range(steps):
            if self.start + self.T + 1 > len(self.rows):
                self.reset()
            self.optimizer.zero_grad()
            cost = self.cost()
            cost.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
            cost.item()
        return time.perf_counter() - began


if __name__ == "__main__":
    serve(Peer)
