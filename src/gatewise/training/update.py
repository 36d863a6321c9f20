"""Weight updates: the optimizer, clipping by the global norm, and sparse gradients of large embeddings."""

import inspect
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
"""Minimum size of an embedding, in elements, for sparse gradients."""


def make_optimizer(settings: TrainingConfig, model: nn.Module, fused: bool = False) -> torch.optim.Optimizer:
    """Create the configured optimizer; ``fused`` makes SGD one kernel, too, and steps on a GPU part of a CUDA graph."""
    kinds: dict[str, Any] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "sgd":
        options["fused"] = fused or None
    else:
        options["capturable"] = fused and next(model.parameters()).is_cuda
        options["fused"] = True  # one pass over memory instead of nine: saves 6 of 110 ms per step of a tagger
    optimizer: torch.optim.Optimizer = _without_compiler(kinds[settings.optimizer])(model.parameters(), **options)
    return optimizer


def _without_compiler(kind: type[torch.optim.Optimizer]) -> Any:
    """Return the optimizer class with unwrapped methods.

    PyTorch wraps them so that its compiler skips them; the first call imports the compiler, 800 modules that take more
    than a second and 70 MB.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    return type(kind.__name__, (kind,), {name: inspect.unwrap(getattr(kind, name)) for name in names})


class Update:
    """An optimizer step with gradient clipping: ``g ← g · min(1, max / (‖g‖ + 1e-6))``, then the optimizer's rule.

    If supported, the native engine reads the gradients once for the norm and once more, with the weights and the
    optimizer's state, for the step, so that clipped gradients are never written. In either case, the state is that of
    the PyTorch optimizer.

    Args:
        model: the model to train.
        optimizer: its optimizer.
        scaler: the loss scaler for fp16; if it is enabled, PyTorch computes the step.
        engine: ``native`` uses the native engine, ``auto`` uses it if supported, others use PyTorch.
        alone: whether a single process trains; several processes average dense gradients.

    Raises:
        ValueError: ``native`` was requested but does not support this, with a one-line reason.
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
        """Give large embeddings sparse gradients within the block, which cover only the rows that were read."""
        try:
            for embedding in self.embeddings:
                embedding.sparse = True
            yield
        finally:
            for embedding in self.embeddings:
                embedding.sparse = False

    def norm(self) -> float:
        """Unscale the gradients and return their global L2 norm."""
        self.scaler.unscale_(self.optimizer)
        return self.engine.gradient_norm(self.parameters, switches().threads)

    def step(self, norm: float, max_grad_norm: float) -> None:
        """Run an optimizer step with gradients of this norm, clipped unless ``max_grad_norm`` is 0."""
        self.engine.update(self.optimizer, norm, max_grad_norm, switches().threads, self.scaler)


def _by_rows(model: nn.Module) -> list[nn.Embedding]:
    """Return the large embeddings with default options whose weights are not shared."""
    owners = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    return [
        module
        for module in model.modules()
        if type(module) is nn.Embedding
        and module.weight.numel() >= LARGE
        and owners[id(module.weight)] == 1
        and not (module.sparse or module.scale_grad_by_freq)
    ]


def bad_gradient(model: nn.Module) -> str:
    """Return the name of the parameter nearest to the loss with a non-finite gradient; ``none`` if there is none."""
    for name, parameter in reversed(list(model.named_parameters())):
        if (gradient := parameter.grad) is not None:
            values = gradient.coalesce().values() if gradient.is_sparse else gradient
            if not bool(values.isfinite().all()):
                return name
    return "none"
