"""The running average of the weights (``training.average_decay``)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class RunningAverage:
    """``average ← average + (1 − d) (weight − average)`` after each step, ``d = min(decay, (1 + step) / (10 + step))``.

    Args:
        parameters: the weights.
        decay: 0 keeps no average.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self.parameters, self._decay = list(parameters), decay
        self.weights = [p.detach().clone() for p in parameters] if decay else []

    def __bool__(self) -> bool:
        return bool(self.weights)

    def pace(self, step: int) -> float:
        """Return ``1 − d`` of a step, counted from 0."""
        return 1 - min(self._decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, pace: float | Tensor) -> None:
        """Move the average towards the weights, by ``1 − d`` of the way."""
        if isinstance(pace, float):
            torch._foreach_lerp_(self.weights, self.parameters, pace)
        else:
            ahead = torch._foreach_sub(self.parameters, self.weights)
            torch._foreach_mul_(ahead, pace)
            torch._foreach_add_(self.weights, ahead)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Use the average in place of the weights within the block."""
        last = [p.detach().clone() for p in self.parameters]
        try:
            self._fill(self.weights)
            yield
        finally:
            self._fill(last)

    @torch.no_grad()
    def _fill(self, weights: Sequence[Tensor]) -> None:
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.copy_(weight)
