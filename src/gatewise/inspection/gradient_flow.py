"""``gradient-flow``: how the gradient of the last step's loss decays with distance."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gatewise.inspection.runs import FinishedRun, labels
from gatewise.inspection.sequences import sample_batch
from gatewise.inspection.style import CELL_LOOKS, WIDTH, Look, line_named, look, title
from gatewise.inspection.ticks import whole_decades
from gatewise.models.loading import load, load_fresh
from gatewise.nn.recurrent import Recurrent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class GradientFlow:
    """The gradient flow through one run's stack.

    Attributes:
        model: the label of the run.
        cell: a name in ``gatewise.spec.CELLS``.
        fresh: norms with the initial weights, (T,); index d is distance d from the last step.
        trained: norms with the trained weights, (T,).
        source: a description of the sequences.
    """

    model: str
    cell: str
    fresh: npt.NDArray[np.floating]
    trained: npt.NDArray[np.floating]
    source: str


@dataclass(frozen=True)
class GradientFlows:
    """The runs of one figure."""

    flows: Sequence[GradientFlow]

    def table(self) -> Iterator[Sequence[object]]:
        """Yield the table: one line per run, state of training and distance."""
        yield "model", "cell", "weights", "distance_steps", "relative_gradient_norm"
        for flow in self.flows:
            for weights, norms in (("fresh", flow.fresh), ("trained", flow.trained)):
                for distance, norm in enumerate(norms):
                    yield flow.model, flow.cell, weights, distance, float(norm)


def gradient_norms(rnn: Recurrent, loss: Callable[[Tensor], Tensor], x: Tensor) -> npt.NDArray[np.floating]:
    """Return how much of the gradient reaches the inputs before the last step.

    At distance d this is the mean over the sequences of ``‖∂ℓ/∂x_{T−d}‖ / ‖∂ℓ/∂y_T‖``, where x_t is the first layer's
    input at step t, y_T the last layer's output at the last step, and ℓ the loss computed from y_T. Dividing by the
    gradient at y_T isolates the stack's contribution, which does not depend on how good the prediction is. The gradient
    by h_t would miss what bypasses it through an LSTM's cell state; the gradient by x_t misses nothing.

    Args:
        rnn: the stack, run in its own dtype.
        loss: maps y_T, (B, D·H), to the sum of the sequences' losses.
        x: the stack's input, (T, B, I).

    Returns:
        (T,) norms by distance; index 0 is the last step.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        last = rnn(x)[0][-1]
        dlast, dx = torch.autograd.grad(loss(last), (last, x))
    norms: Tensor = (dx.norm(dim=-1) / dlast.norm(dim=-1)).mean(1).flip(0)
    return norms.double().cpu().numpy()


def measure_gradient_flow(runs: Sequence[FinishedRun], steps: int = 0) -> GradientFlows:
    """Measure every run before and after training, on the same sequences, in float64.

    Args:
        runs: runs of any task.
        steps: the sequence length; 0 uses the length of each run's own sequences, or 100 for text.

    Raises:
        RunError: a file of a run folder is missing or invalid.
    """
    flows = []
    for run, name in zip(runs, labels(runs), strict=True):
        trained, fresh = load(run.folder.path).double(), load_fresh(run.folder.path).double()
        batch = sample_batch(trained, run.config, steps)
        before, after = (gradient_norms(m.rnn, partial(batch.loss, m), batch.stack_input(m)) for m in (fresh, trained))
        flows.append(GradientFlow(name, run.config.model.cell, before, after, batch.source))
    return GradientFlows(flows)


def draw_gradient_flow(data: GradientFlows, figure: "Figure") -> None:
    """Draw initial and trained weights side by side, one line per run."""
    figure.set_size_inches(WIDTH, 3.5)
    sources = list(dict.fromkeys(flow.source for flow in data.flows))
    looks = _looks(data.flows)
    names = [line_named(its, flow.model) for its, flow in zip(looks, data.flows, strict=True)]
    title(figure, "How far back does the last step's loss reach?", f"Mean over {'; '.join(sources)}.", names)
    panels = figure.subplots(1, 2, sharey=True, sharex=True)
    for axes, weights in zip(panels, ("fresh", "trained"), strict=True):
        for flow, its in zip(data.flows, looks, strict=True):
            norms = getattr(flow, weights)
            axes.plot(np.where(norms > 0, norms, np.nan), **its.every(len(norms)))
        axes.set_title(f"{weights} weights")
        axes.set_xlabel("distance from the last step (steps)")
        axes.grid()
    whole_decades(panels[0], "y", np.concatenate([np.r_[flow.fresh, flow.trained] for flow in data.flows]), most=15)
    panels[0].set_xlim(0, max(len(flow.fresh) for flow in data.flows) - 1)
    panels[0].set_ylabel("‖∂loss/∂x$_{T−d}$‖ ÷ ‖∂loss/∂y$_T$‖", parse_math=True)


def _looks(flows: Sequence[GradientFlow]) -> list[Look]:
    """Style each run by its cell, or by its position if several runs have the same cell."""
    if len({flow.cell for flow in flows}) == len(flows):
        return [CELL_LOOKS[flow.cell] for flow in flows]
    return [look(k) for k in range(len(flows))]
