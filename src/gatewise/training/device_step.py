"""Training steps that never wait for the device: their results stay there until they are read."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gatewise.training.feed import Feed, shape_of
from gatewise.training.position import Position
from gatewise.training.progress import note
from gatewise.training.step import Step

EAGER = 3
"""Steps made operation by operation before one is captured: they allocate what is allocated once."""
UNREAD = 1 << 16
"""Maximum number of steps whose results are on the device; after as many, it is waited for."""
COST, NORM, SCALE, NORMS = range(4)
"""What a step leaves: its cost, the global norm of its gradients, the loss scale, and from there the norm of each."""


class DeviceStep(Step):
    """Makes the steps of a single process on a device; ``read`` waits for their results.

    PyTorch's fused optimizers divide the gradients by what clipping and the loss scale ask for, and skip a step that is
    not finite. The running average and the carried state are then left alone, too. If the shapes allow it, a step is
    captured as one CUDA graph, which all later steps replay; the random generator is part of it, so that both ways draw
    the same dropout masks.

    Args:
        arguments: those of ``Step``.
        graph: whether to capture a step (``runtime.graph``).
    """

    waits = False

    def __init__(self, *arguments: Any, graph: bool = True) -> None:
        super().__init__(*arguments)
        self._device = self.group.device
        self._feed = Feed(self.workload.inputs, self._device)
        self._rate, self._pace, self._scale, self._growth = (torch.tensor(0.0, device=self._device) for _ in range(4))
        self._results, self._row = torch.empty(0), torch.zeros(1, dtype=torch.int64, device=self._device)
        self._unread = list[tuple[int, int, int]]()
        self._names, self._units = list[str](), 0.0
        self._wants_graph, self._eager, self._begun = graph, 0, False
        self._static: Any = None
        self._replay: Callable[[], None] | None = None

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the steps to come."""
        self._rate.fill_(rate)

    def make(self, at: Position, wanted: Callable[[], tuple[bool, bool]]) -> tuple[bool, bool]:
        """Make the step of a position; ``read`` adds its cost to it."""
        if len(self._unread) == UNREAD:
            self.read(at)
        if not self._begun:
            self._begin()
        batch = self._feed.take(at.epoch, at.step_in_epoch)
        if self.average:
            self._pace.fill_(self.average.pace(at.step))
        with torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext():
            self._run(batch)
        self._unread.append((at.epoch, at.step_in_epoch, at.step))
        if at.step_in_epoch + 1 < self.workload.steps_per_epoch:
            self._feed.prepare(at.epoch, at.step_in_epoch + 1)
        return wanted()

    def read(self, at: Position) -> int:
        """Wait for the results of all steps, and add them to a position.

        Returns:
            The largest number of steps skipped in a row since the last reading.
        """
        worst = at.skipped_in_a_row
        for (epoch, inside, step), result in zip(
            self._unread, self._results[: len(self._unread)].tolist(), strict=True
        ):
            loss = result[COST]
            if math.isfinite(loss) and math.isfinite(result[NORM]):
                at.cost += loss
                at.units += self._units
                at.skipped_in_a_row = 0
                self.scalars.step(step, loss / self._units)
            elif not self.only_overflows(loss, result[SCALE]) and worst < self.settings.max_bad_steps:
                at.skipped += 1
                at.skipped_in_a_row += 1
                worst = max(worst, at.skipped_in_a_row)
                bad = [name for name, norm in zip(self._names, result[NORMS:], strict=True) if not math.isfinite(norm)]
                self.report(f"epoch {epoch}, step {inside + 1}", loss, (bad or ["none"])[-1], at.skipped_in_a_row)
        self._unread.clear()
        self._row.zero_()
        if self.scaler.is_enabled() and self._begun:
            scale, growth = float(self._scale), int(self._growth)
            self.scaler.load_state_dict({**self.scaler.state_dict(), "scale": scale, "_growth_tracker": growth})
        return worst

    def scaled(self, cost: Tensor) -> Tensor:
        """Return a cost times the loss scale."""
        return cost * self._scale if self.scaler.is_enabled() else cost

    def _begin(self) -> None:
        """Bring to the device what resuming may have changed."""
        for parameter_group in self.optimizer.param_groups:
            parameter_group["lr"] = self._rate
        state = self.scaler.state_dict()
        self._scale.fill_(state.get("scale", 1.0))
        self._growth.fill_(state.get("_growth_tracker", 0))
        self._begun = True

    def _run(self, batch: Any) -> None:
        """Replay a captured step if there is one of these shapes, capture one if it is time to, or make the step."""
        shape = shape_of(batch, self._device) if self._wants_graph else None
        if shape is not None and self._replay is None and self._eager == EAGER:
            self._static = pytree.tree_map_only(Tensor, Tensor.clone, batch)
            self._replay = self._captured()
        if shape is not None and self._replay is not None and shape == shape_of(self._static, self._device):
            for static, given in zip(pytree.tree_leaves(self._static), pytree.tree_leaves(batch), strict=True):
                if static is not None:
                    static.copy_(given)
            self._replay()
        elif self._eager < EAGER:
            self._eager += 1
            with _aside(self._device):
                self._compute(batch)
        else:
            self._compute(batch)

    def _captured(self) -> Callable[[], None] | None:
        """Capture a step on the static batch, without making it; if that fails, say why and return None."""
        try:
            return captured(lambda: self._compute(self._static), self._device)
        except RuntimeError as problem:
            reason = str(problem).strip().split("\n")[0]
            note(self.console, f"the step is not captured as a CUDA graph ({reason}); training continues without it")
            self._wants_graph = False
            return None

    def _compute(self, batch: Any) -> None:
        """Make a step; everything that is read by later steps is written in place."""
        self.optimizer.zero_grad()
        cost, self._units = self.gradients(batch)
        with torch.no_grad():
            norms = self._norms_of_gradients()
            norm, limit = torch.linalg.vector_norm(norms) / self._scale, self.settings.max_grad_norm
            finite = cost.isfinite() & norm.isfinite()
            divisor = self._scale * ((norm + 1e-6) / limit).clamp(min=1) if limit else self._scale
            self._results.index_copy_(0, self._row, torch.cat([torch.stack([cost, norm, self._scale]), norms])[None])
            self._row += 1
            # Read by the optimizers' fused kernels, as PyTorch's loss scaler has it.
            vars(self.optimizer).update(grad_scale=divisor, found_inf=1 - finite.float())
            self.optimizer.step()
            if self.average:
                self.average.update(self._pace * finite)
            self.workload.carry_on(finite)
            if self.scaler.is_enabled():
                self._update_scale(norm.isfinite())

    def _norms_of_gradients(self) -> Tensor:
        """Return the norm of each gradient there is, times the loss scale."""
        found = {name: p.grad for name, p in self.workload.model.named_parameters() if p.grad is not None}
        if len(found) != len(self._names):
            self._names = list(found)
            self._results = torch.zeros(UNREAD, NORMS + len(found), device=self._device)
        return torch.stack(torch._foreach_norm(list(found.values())))

    def _update_scale(self, finite: Tensor) -> None:
        """Lower the loss scale after an overflow, and raise it after a number of steps without one."""
        scaler = self.scaler
        growth = torch.where(finite, self._growth + 1, 0)
        due = growth == scaler.get_growth_interval()
        factor = torch.where(finite, torch.where(due, scaler.get_growth_factor(), 1.0), scaler.get_backoff_factor())
        self._scale *= factor
        self._growth.copy_(torch.where(due, 0, growth))


def captured(make: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Record the operations of a function on the current device as a CUDA graph, without running them.

    Returns:
        What runs them.

    Raises:
        RuntimeError: an operation cannot be captured; the random generator is as before.
    """
    generator = torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
    before, graph = generator.clone_state(), torch.cuda.CUDAGraph()
    try:
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            make()
    except BaseException:
        generator.graphsafe_set_state(before)
        raise
    return graph.replay


@contextmanager
def _aside(device: torch.device) -> Iterator[None]:
    """Run the block on a stream of its own, as steps before a capture must be."""
    if device.type != "cuda":
        yield
        return
    now, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    aside.wait_stream(now)
    with torch.cuda.stream(aside):
        yield
    now.wait_stream(aside)
