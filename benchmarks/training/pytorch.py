"""Shared code of the peers: a training step as a PyTorch user writes it, without any Gatewise code."""

import gc
from abc import ABC, abstractmethod
from pathlib import Path
from timeit import timeit
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Peer(ABC):
    """Training steps with PyTorch's own optimizer and clipping.

    Args:
        model: the model to train.
        arguments: ``config``, ``threads``, the file ``weights`` with initial weights, ``peer_precision``.
    """

    def __init__(self, model: nn.Module, arguments: dict[str, Any]) -> None:
        torch.set_num_threads(arguments["threads"])
        training = arguments["config"]["training"]
        self.model, self.clip = model, training["max_grad_norm"]
        model.load_state_dict(load_file(arguments["weights"]))
        self.autocast = arguments["peer_precision"] == "bf16"
        if arguments["peer_precision"] == "bf16 module":
            model.to(torch.bfloat16)
        decay = training["average_decay"]
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(model, multi_avg_fn=average) if decay else None
        kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        options = {"lr": training["learning_rate"], "weight_decay": training["weight_decay"]}
        if training["optimizer"] != "sgd":
            options["fused"] = True  # the fastest variant, which is off by default
        self.optimizer = kinds[training["optimizer"]](model.parameters(), **options)
        self.reset()

    batches: Any
    """The rows of each batch, for peers that read batches."""

    def reset(self) -> None:
        """Return to the first step."""
        self.at = 0

    def next_batch(self) -> Any:
        """Return the rows of the next batch, starting again after the last one."""
        self.at += 1
        return self.batches[(self.at - 1) % len(self.batches)]

    @abstractmethod
    def cost(self) -> torch.Tensor:
        """Return the next step's cost."""

    def cost_in_precision(self) -> torch.Tensor:
        """Return the next step's cost, under autocast if requested."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            return self.cost()

    def check(self, to: Path) -> None:
        """Write the cost and gradients of the first step, before clipping."""
        self.reset()
        self.model.eval()
        write_cost_and_gradients(self.model, self.cost_in_precision(), to)
        self.reset()

    def run(self, steps: int) -> float:
        """Do training steps; return their seconds."""
        self.model.train()
        return timeit(self.training_step, gc.enable, number=steps)

    def training_step(self) -> None:
        """Do one training step."""
        self.optimizer.zero_grad()
        cost = self.cost_in_precision()
        cost.backward()  # type: ignore[no-untyped-call]
        if self.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        cost.item()


def write_cost_and_gradients(model: nn.Module, cost: torch.Tensor, to: Path) -> None:
    """Backpropagate from a cost, and write it with the gradient of each parameter by name."""
    cost.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    save_file({"cost": cost.detach(), **gradients}, to)
