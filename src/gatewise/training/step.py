"""A training step whose result is known when it returns: on the CPU, and wherever several processes train together."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from torch import Tensor

from gatewise.config import TrainingConfig
from gatewise.training.average import RunningAverage
from gatewise.training.distributed import Group
from gatewise.training.feed import moved
from gatewise.training.position import Position
from gatewise.training.precision import fp32_products_in, products_in
from gatewise.training.progress import note
from gatewise.training.scalars import Scalars
from gatewise.training.update import Update, bad_gradient, make_optimizer

if TYPE_CHECKING:
    from gatewise.training.loop import Workload


class Step:
    """Makes training steps: cost, gradients, clipping, update; a step that is not finite is skipped.

    Args:
        workload: the task.
        settings: the ``[training]`` section.
        group: the processes that train together.
        console: output for notes; None is silent.
        scalars: TensorBoard writer.
        engine: engine for gradient clipping and the optimizer step.

    Attributes:
        waits: whether the sums in a ``Position`` are complete after each step, without ``read``.
    """

    waits = True

    def __init__(
        self,
        workload: "Workload",
        settings: TrainingConfig,
        group: Group,
        console: Console | None,
        scalars: Scalars,
        engine: str = "auto",
    ) -> None:
        self.workload, self.settings, self.group = workload, settings, group
        self.console, self.scalars = console, scalars
        self.parameters = list(workload.model.parameters())
        self.optimizer = make_optimizer(settings, workload.model, fused=not self.waits)
        self.scaler = torch.amp.GradScaler(group.device.type, enabled=settings.precision == "fp16")
        self.update = Update(workload.model, self.optimizer, self.scaler, engine, alone=group.world_size == 1)
        self.average = RunningAverage(self.parameters, settings.average_decay)

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the steps to come."""
        for parameter_group in self.optimizer.param_groups:
            parameter_group["lr"] = rate

    def make(self, at: Position, wanted: Callable[[], tuple[bool, bool]]) -> tuple[bool, bool]:
        """Make the step of a position, and add its cost to it; the caller counts it.

        Args:
            at: the position.
            wanted: returns whether this process wants to stop after the step, and to save; asked once it is computed.

        Returns:
            Whether to stop and whether to save, the same on every process.
        """
        work = self.workload
        self.optimizer.zero_grad()
        with self.update.row_gradients():
            cost, units = self.gradients(moved(work.inputs(at.step_in_epoch), self.group.device))
        norm = self.update.norm()
        loss = float(cost.detach())
        bad, stop, save = self.group.any(not (math.isfinite(loss) and math.isfinite(norm)), *wanted())
        if not bad:
            self.update.step(norm, self.settings.max_grad_norm)
            if self.average:
                self.average.update(self.average.pace(at.step))
            work.carry_on()
            at.cost += loss
            at.units += units
            at.skipped_in_a_row = 0
            self.scalars.step(at.step, loss / units)
        elif not self.only_overflows(loss, self.scaler.get_scale()):
            at.skipped += 1
            at.skipped_in_a_row += 1
            where = f"epoch {at.epoch}, step {at.step_in_epoch + 1}"
            self.report(where, loss, bad_gradient(work.model), at.skipped_in_a_row)
        self.scaler.update()
        return stop, save and not bad

    def gradients(self, inputs: object) -> tuple[Tensor, float]:
        """Compute a batch's cost, its divisor, and the gradients of the cost times the loss scale."""
        with fp32_products_in(self.settings.precision):
            with products_in(self.settings.precision, self.group.device):
                cost, units = self.workload.cost(inputs)
            self.scaled(cost).backward()  # type: ignore[no-untyped-call]
        return cost, units

    def scaled(self, cost: Tensor) -> Tensor:
        """Return a cost times the loss scale."""
        scaled: Tensor = self.scaler.scale(cost)
        return scaled

    def only_overflows(self, loss: float, scale: float) -> bool:
        """Return whether a step that is not finite only means, in fp16, that the loss scale is too high."""
        return self.scaler.is_enabled() and math.isfinite(loss) and scale > 1

    def report(self, where: str, loss: float, gradient: str, in_a_row: int) -> None:
        """Report a skipped step."""
        note(
            self.console,
            f"{where}: loss {loss}; non-finite gradient nearest to the loss: {gradient}; step skipped ({in_a_row} in a "
            f"row, training stops at {self.settings.max_bad_steps})",
        )

    def read(self, at: Position) -> int:
        """Complete the sums of a position; return the most steps skipped in a row since the last reading."""
        return at.skipped_in_a_row
