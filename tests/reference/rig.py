"""A stack filled with random numbers, its loss, and its gradients by name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gatewise.reference import Array, stack
from gatewise.reference.stack import Masks, State
from gatewise.spec import RecurrentSpec


class Case(NamedTuple):
    """A stack, the shape of a batch, and what is done to it."""

    spec: RecurrentSpec
    T: int = 4
    B: int = 3
    lengths: tuple[int, ...] | None = None
    masks: str = "none"
    """``none``; ``steps``: on all inputs at each step and on h'; ``batch``: the same, one input mask (1, B, I) for
    all steps; ``some``: on some inputs and on some h' only."""

    @property
    def name(self) -> str:
        """What stands in the test's id."""
        s = self.spec
        parts = [s.cell, f"{s.num_layers}layer", f"T{self.T}B{self.B}I{s.input_size}H{s.hidden_size}"]
        parts += [f"P{s.proj_size}"] if s.proj_size else []
        parts += ["both"] if s.bidirectional else []
        parts += ["ragged"] if self.lengths is not None else []
        parts += [f"masks_{self.masks}"] if self.masks != "none" else []
        return "-".join(parts if s.bias else [*parts, "nobias"])


@dataclass
class Problem:
    """The loss ``Σ dy·y + Σ dh_n·h_n + Σ dc_n·c_n`` with random dy, dh_n and dc_n, which are its gradients."""

    case: Case
    arrays: dict[str, Array]
    """x, h_0, of an LSTM c_0, and every weight by its name."""
    dy: Array
    dstate_n: State
    masks: Masks = field(default_factory=Masks)

    @property
    def state(self) -> State:
        return tuple(self.arrays[name] for name in ("h_0", "c_0") if name in self.arrays)

    def forward(self) -> tuple[Array, State, list[object]]:
        case = self.case
        return stack.forward(
            case.spec, self.arrays["x"], self.state, self.arrays, lengths=case.lengths, masks=self.masks
        )

    def loss(self) -> float:
        y, state_n, _ = self.forward()
        pairs = zip((y, *state_n), (self.dy, *self.dstate_n), strict=True)
        return float(sum((out * upstream).sum() for out, upstream in pairs))

    def gradients(self) -> dict[str, Array]:
        """Return the gradient of every array; none of x where it holds integers."""
        dx, dstate_0, dweights = stack.backward(
            self.case.spec, self.dy, self.dstate_n, self.forward()[2], masks=self.masks
        )
        named: dict[str, Array | None] = {"x": dx, **dict(zip(("h_0", "c_0"), dstate_0, strict=False)), **dweights}
        return {name: d for name, d in named.items() if d is not None}

    def map_arrays(self, change: Callable[[Array], Array]) -> "Problem":
        """Return the same problem with every array of it changed."""
        masks = Masks(*(kind and [m if m is None else change(m) for m in kind] for kind in self.masks))
        arrays = {name: change(a) for name, a in self.arrays.items()}
        return Problem(self.case, arrays, change(self.dy), tuple(map(change, self.dstate_n)), masks)

    def pre_activations(self) -> npt.NDArray[np.float64]:
        """Return ``a`` of every step, row, layer and direction of a plain RNN, in a row."""
        found = [np.empty(0)]
        for (w_ih, w_hh, b_ih, b_hh, _), h_mask, runs in self.forward()[2]:  # type: ignore[misc]
            for rows, _, (x, h_before, _) in runs:
                m = h_mask[rows] if isinstance(h_mask, np.ndarray) else h_mask
                found.append((x @ w_ih.T + b_ih + (m * h_before) @ w_hh.T + b_hh).ravel())
        return np.concatenate(found)


KINK = 1e-4
"""A relu's pre-activations stay this far from 0, where finite differences mean nothing."""


def make_smooth(case: Case) -> Problem:
    """Draw a problem that can be differentiated by differences: of a relu, the first one with no kink nearby."""
    for seed in range(20):
        problem = make(case, seed)
        if case.spec.cell != "rnn_relu" or np.abs(problem.pre_activations()).min(initial=1.0) > KINK:
            return problem
    raise AssertionError("every draw lies near a kink")


def make(case: Case, seed: int = 0) -> Problem:
    """Draw every number of a problem. Masks are of many values: a factor left out is seen in each entry."""
    spec, T, B = case.spec, case.T, case.B
    rng = np.random.default_rng(seed)
    passes, P = spec.num_layers * spec.num_directions, spec.output_size
    sizes = {"h_0": P, **({"c_0": spec.hidden_size} if spec.cell == "lstm" else {})}
    states = {name: rng.normal(size=(passes, B, size)) for name, size in sizes.items()}
    weights = {name: rng.normal(scale=0.7, size=shape) for name, shape in spec.parameters().items()}
    dy = rng.normal(size=(T, B, spec.num_directions * P))
    dstate_n = tuple(rng.normal(size=part.shape) for part in states.values())
    masks = Masks()
    if case.masks != "none":
        steps = 1 if case.masks == "batch" else T
        inputs = [rng.uniform(0.4, 2, (steps, B, spec.layer_input_size(n))) for n in range(spec.num_layers)]
        hidden = [rng.uniform(0.4, 2, (B, P)) for _ in range(passes)]
        for mask in (m for m in (*inputs, *hidden) if m.size):
            mask.flat[rng.integers(mask.size)] = 0  # what dropout really does
        some = case.masks == "some"
        masks = Masks(
            [None if some and n % 2 == 0 else m for n, m in enumerate(inputs)],
            [None if some and k % 2 == 1 else m for k, m in enumerate(hidden)],
        )
    return Problem(case, {"x": rng.normal(size=(T, B, spec.input_size)), **states, **weights}, dy, dstate_n, masks)
