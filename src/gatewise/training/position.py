"""Where training is, and the learning rate there."""

import math
from dataclasses import dataclass, field

from gatewise.artifact.history import evaluations_since
from gatewise.artifact.run_folder import Metrics
from gatewise.config import TrainingConfig


@dataclass
class Position:
    """The position of training; saved in each checkpoint as JSON."""

    epoch: int = 1
    step_in_epoch: int = 0
    step: int = 0
    since_evaluation: int = 0
    cost: float = 0.0
    units: float = 0.0
    seconds: float = 0.0
    trained_tokens: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best: float = math.inf
    best_epoch: int = 0
    best_step: int = 0
    history: list[Metrics] = field(default_factory=list)

    @property
    def evaluations_since_best(self) -> int:
        """The number of evaluations after the best one."""
        return evaluations_since(self.history, self.best_epoch, self.best_step)


def learning_rate(settings: TrainingConfig, at: Position, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step; it follows from settings and position alone, so that resuming is exact.

    - ``decay``: ``learning_rate · lr_decay^max(epoch − lr_decay_after_epoch, 0)``, epochs counted from 1.
    - ``cosine``: ``learning_rate · (1 + cos(π step / steps)) / 2``, steps counted from 0 (Loshchilov and Hutter 2017).
    - ``plateau``: that of the last evaluation, times ``lr_decay`` once the best evaluation, and the last change of the
      rate, are ``plateau_patience`` evaluations ago.
    """
    first = settings.learning_rate
    if settings.schedule == "cosine":
        steps = settings.max_steps or settings.epochs * steps_per_epoch
        return first * (1 + math.cos(math.pi * min(step / steps, 1))) / 2
    if settings.schedule == "plateau":
        rates = [line["learning_rate"] for line in at.history] or [first]
        unchanged = next((k for k, rate in enumerate(reversed(rates)) if rate != rates[-1]), len(rates))
        due = min(unchanged, at.evaluations_since_best) >= settings.plateau_patience
        return float(rates[-1]) * (settings.lr_decay if due else 1)
    return first * settings.lr_decay ** max(at.epoch - settings.lr_decay_after_epoch, 0)
