"""What the peers share: a training step as a PyTorch user writes it; nothing of ours is in it."""

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from gatewise.bench.duel import write_cost_and_gradients


class Peer(ABC):
    """Training steps with PyTorch's own optimiser and clipping.

    Args:
        model: what is trained.
        arguments: ``config``, ``threads`` and the file ``weights`` to start from.
    """

    def __init__(self, model: nn.Module, arguments: dict[str, Any]) -> None:
        torch.set_num_threads(arguments["threads"])
        training = arguments["config"]["training"]
        self.model, self.clip = model, training["max_grad_norm"]
        model.load_state_dict(load_file(arguments["weights"]))
        model.train()
        kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        self.optimizer = kinds[training["optimizer"]](
            model.parameters(), lr=training["learning_rate"], weight_decay=training["weight_decay"]
        )
        self.reset()

    @abstractmethod
    def reset(self) -> None:
        """Stand before the first step."""

    @abstractmethod
    def cost(self) -> torch.Tensor:
        """Return the next step's cost."""

    def check(self, to: Path) -> None:
        """Write cost and gradients, before clipping, of the first step."""
        torch.manual_seed(0)
        self.reset()
        write_cost_and_gradients(self.model, self.cost(), to)
        self.reset()

    def run(self, steps: int) -> float:
        """Do training steps."""
        began = time.perf_counter()
        for _ in range(steps):
            self.optimizer.zero_grad()
            cost = self.cost()
            cost.backward()  # type: ignore[no-untyped-call]
            if self.clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
            cost.item()
        return time.perf_counter() - began
