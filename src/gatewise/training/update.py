"""From gradients to new weights: the optimiser, clipping by the global norm, and embeddings' gradients row by row."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from gatewise.config import TrainingConfig
from gatewise.engines import engine_for
from gatewise.engines.switches import switches

LARGE = 1 << 17
"""Numbers in an embedding from which on only the rows that were read get a gradient."""


def make_optimizer(settings: TrainingConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Make the optimiser that the configuration names."""
    kinds: dict[str, type[torch.optim.Optimizer]] = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer != "sgd":
        options["fused"] = True  # one pass over memory instead of nine: of a tagger 6 ms of a step of 110
    return kinds[settings.optimizer](model.parameters(), **options)


class Update:
    """A clipped step of an optimiser: ``g ← g · min(1, max / (‖g‖ + 1e-6))``, then the optimiser's own rule.

    Where the native engine can, it reads the gradients once for the norm, and once more, with the weights and the
    optimiser's state, for the step: clipped gradients are never written. The state is the optimiser's in either case.

    Args:
        model: what is trained.
        optimizer: its optimiser.
        scaler: scales the loss in fp16; then torch computes.
        engine: ``native`` computes here, ``auto`` does where it can, others leave it to torch.
        alone: whether one process trains; several average dense gradients.

    Raises:
        ValueError: ``native`` was named and cannot; the reason in one line.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        engine: str = "auto",
        alone: bool = True,
    ) -> None:
        self.optimizer, self.scaler = optimizer, scaler
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.engine = engine_for(
            engine, self.parameters[0].device, lambda each: each.why_not_update(optimizer, scaler.is_enabled())
        )
        self.embeddings = _by_rows(model) if self.engine.row_gradients and alone else []

    @contextmanager
    def row_gradients(self) -> Iterator[None]:
        """Let what large embeddings read within the block have sparse gradients: of the rows that were read alone."""
        try:
            for embedding in self.embeddings:
                embedding.sparse = True
            yield
        finally:
            for embedding in self.embeddings:
                embedding.sparse = False

    def norm(self) -> float:
        """Return the norm of all gradients together, undoing the loss's scale."""
        self.scaler.unscale_(self.optimizer)
        return self.engine.gradient_norm(self.parameters, switches().threads)

    def step(self, norm: float, max_grad_norm: float) -> None:
        """Do a step with gradients of this norm, clipped; not at all where ``max_grad_norm`` is 0."""
        clip = max_grad_norm / (norm + 1e-6) if 0 < max_grad_norm < norm else 1.0
        if not self.scaler.is_enabled():
            self.engine.update(self.optimizer, min(1.0, clip), switches().threads)
            return
        if clip < 1:
            nn.utils.clip_grads_with_norm_(self.parameters, max_grad_norm, torch.tensor(norm))
        self.scaler.step(self.optimizer)


def _by_rows(model: nn.Module) -> list[nn.Embedding]:
    """The plain large embeddings whose weight is nobody else's."""
    owners = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    return [
        module
        for module in model.modules()
        if type(module) is nn.Embedding
        and module.weight.numel() >= LARGE
        and owners[id(module.weight)] == 1
        and not (module.sparse or module.scale_grad_by_freq)
    ]
