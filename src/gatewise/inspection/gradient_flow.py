"""``gradient-flow``: how the gradient of the last step's loss changes with distance: it vanishes, explodes, or neither.

The gradient at distance d contains a product of d Jacobians ``∂h_t/∂h_{t−1} = diag(φ′) W_hh``. If the largest singular
value of W_hh is below 1/max φ′ (1 for tanh), the product vanishes exponentially with d; a value above it is necessary
for the gradient to explode (Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013, arXiv 1211.5063).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gatewise.errors import UsageError
from gatewise.inspection.runs import FinishedRun, labels
from gatewise.inspection.sequences import COUNT, sample_batch
from gatewise.inspection.style import CELL_LOOKS, WIDTH, Look, line_named, look, title
from gatewise.inspection.ticks import whole_decades
from gatewise.models.loading import load, load_fresh
from gatewise.nn.recurrent import LSTM, RNN, Recurrent
from gatewise.wording import option

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCALES = (0.9, 2.0)
"""Scales of recurrent weights with which the gradient vanishes and explodes."""
LARGEST_SCALE = 100.0
"""Beyond it, tanh saturates to ±1 in float64, and its derivative to 0."""
FARTHEST = 1e12
"""The largest norm on the axis; the smallest is its reciprocal."""
INPUTS, UNITS, FORGET_BIAS = 8, 64, 4.0


@dataclass(frozen=True)
class GradientFlow:
    """The gradient flow through one stack.

    Attributes:
        model: the label of the stack.
        cell: a name in ``gatewise.spec.CELLS``.
        norms: norms, (T,), by the state of the weights, such as ``fresh`` and ``trained``; index d is distance d from
            the last step.
        source: a description of the sequences.
    """

    model: str
    cell: str
    norms: Mapping[str, npt.NDArray[np.floating]]
    source: str


@dataclass(frozen=True)
class GradientFlows:
    """The stacks of one figure.

    Attributes:
        flows: at least one, all with the same states of the weights.
        note: what is known about the weights.
    """

    flows: Sequence[GradientFlow]
    note: str = ""

    def table(self) -> Iterator[Sequence[object]]:
        """Yield the table: one line per stack, state of the weights and distance."""
        yield "model", "cell", "weights", "distance_steps", "relative_gradient_norm"
        for flow in self.flows:
            for weights, norms in flow.norms.items():
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
        norms = {"fresh": before, "trained": after}
        flows.append(GradientFlow(name, run.config.model.cell, norms, batch.source))
    return GradientFlows(flows)


def measure_scaled_weights(scales: Sequence[float] = SCALES, steps: int = 0, seed: int = 1) -> GradientFlows:
    """Measure an LSTM that keeps its cell, and tanh RNNs whose recurrent weights are scaled.

    The recurrent weights of an RNN are ``scale · Q`` with Q orthogonal: all singular values are the scale. The LSTM
    begins with a forget bias of 4: its forget gates are near ``σ(4) = 0.982``, so that its cell keeps most of what it
    holds. All other weights have their usual initial values, and nothing is trained.

    Args:
        scales: the scale of each RNN.
        steps: the sequence length; 0 is 100.
        seed: the random seed of weights and sequences.

    Raises:
        UsageError: a scale is not above 0 and up to 100.
    """
    if bad := [scale for scale in scales if not 0 < scale <= LARGEST_SCALE]:
        raise UsageError(
            f"{option('scale', f'{bad[0]:g}')}: expected a number above 0 and up to {LARGEST_SCALE:g}, such as 0.9 or 2"
        )
    steps, flows = steps or 100, list[GradientFlow]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x = torch.randn(steps, COUNT, INPUTS, dtype=torch.float64)
        lstm = LSTM(INPUTS, UNITS, forget_bias=FORGET_BIAS, dtype=torch.float64)
        stacks: list[tuple[str, Recurrent]] = [(f"LSTM, forget bias {FORGET_BIAS:g}", lstm)]
        for scale in scales:
            rnn = RNN(INPUTS, UNITS, dtype=torch.float64)
            nn.init.orthogonal_(rnn.get_parameter("weight_hh_l0"), scale)
            stacks.append((f"tanh RNN, recurrent weights × {scale:g}", rnn))
        readout = torch.randn(UNITS, dtype=torch.float64)
        source = f"{COUNT} sequences of {steps} steps of {INPUTS} normal random numbers"
        for name, stack in stacks:
            norms = gradient_norms(stack, lambda last: (last @ readout).sum(), x)
            flows.append(GradientFlow(name, stack.spec.cell, {"scaled": norms}, source))
    return GradientFlows(
        flows,
        f"{UNITS} units, untrained. The singular values of a recurrent matrix are all equal to its scale: below 1, the "
        "gradient vanishes; to explode, it needs a scale above 1, and well above it where tanh saturates.",
    )


def draw_gradient_flow(data: GradientFlows, figure: "Figure") -> None:
    """Draw a panel for each state of the weights, one line per stack."""
    figure.set_size_inches(WIDTH, 3.5)
    sources = list(dict.fromkeys(flow.source for flow in data.flows))
    looks = _looks(data.flows)
    names = [line_named(its, flow.model) for its, flow in zip(looks, data.flows, strict=True)]
    below = f"Mean over {'; '.join(sources)}. {data.note}"
    title(figure, "How far back does the last step's loss reach?", below, names)
    states = list(data.flows[0].norms)
    panels = figure.subplots(1, len(states), sharey=True, sharex=True, squeeze=False)[0]
    for axes, weights in zip(panels, states, strict=True):
        for flow, its in zip(data.flows, looks, strict=True):
            norms = flow.norms[weights]
            axes.plot(np.where((norms > 0) & np.isfinite(norms), norms, np.nan), **its.every(len(norms)))
        axes.set_title(f"{weights} weights" if len(states) > 1 else "")
        axes.set_xlabel("distance from the last step (steps)")
        axes.grid()
    everything = np.concatenate([norms for flow in data.flows for norms in flow.norms.values()])
    shown = everything[everything > 0].clip(1 / FARTHEST, FARTHEST)  # beyond, a line leaves the panel
    whole_decades(panels[0], "y", shown, most=np.inf)
    panels[0].set_xlim(0, max(len(norms) for flow in data.flows for norms in flow.norms.values()) - 1)
    panels[0].set_ylabel("‖∂loss/∂x(T−d)‖ ÷ ‖∂loss/∂y(T)‖")


def _looks(flows: Sequence[GradientFlow]) -> list[Look]:
    """Style each run by its cell, or by its position if several runs have the same cell."""
    if len({flow.cell for flow in flows}) == len(flows):
        return [CELL_LOOKS[flow.cell] for flow in flows]
    return [look(k) for k in range(len(flows))]
