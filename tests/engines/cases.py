"""Layer passes for testing engines: random inputs, independent upstream gradients, and all results by name."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gatewise.engines.contract import LayerInputs, LayerOptions, LayerOutputs
from gatewise.engines.registry import ENGINES
from gatewise.engines.switches import switches
from gatewise.spec import CELLS
from tests.tolerances import PROJECTED, RELATIVE, differ

OTHERS = [name for name in ENGINES if name != "reference"]
"""The engines that must compute what the reference computes."""

KINDS = [*CELLS, "lstm projected"]
"""The cells; the LSTM also with a projection."""

SHAPES = [(1, 1, 1, 1), (5, 3, 7, 4), (4, 1, 2, 63), (1, 4, 3, 5), (6, 5, 1, 2)]
"""T, B, I, H."""

NUMBERS = {
    "float64": (torch.float64, None),
    "float32": (torch.float32, None),
    "bfloat16": (torch.bfloat16, None),
    "bfloat16 products": (torch.float32, torch.bfloat16),
}
"""The dtype of all tensors, and that of the operands of products."""


class Case(NamedTuple):
    """The configuration of a pass."""

    cell: str = "lstm"
    numbers: str = "float64"
    shape: tuple[int, int, int, int] = (5, 3, 7, 4)
    reverse: bool = False
    lengths: str = "none"
    masked: bool = False
    bias: bool = True

    @property
    def options(self) -> LayerOptions:
        """The options of a pass with a trace, followed by a backward pass."""
        return LayerOptions(self.cell.split()[0], self.reverse, NUMBERS[self.numbers][1], save=True, trace=True)

    @property
    def sharp(self) -> bool:
        """Whether gradients can be compared: with 8 bits, some unit of a relu soon crosses its kink."""
        return self.cell != "rnn_relu" or self.numbers.startswith("float") or (self.bias and self.shape[0] == 1)

    @property
    def tolerance(self) -> float:
        """The tolerance of the narrowest dtype involved."""
        dtype, products = NUMBERS[self.numbers]
        narrow = products or dtype
        twice = narrow == torch.bfloat16 and self.cell == "lstm projected"
        return RELATIVE[narrow] * (PROJECTED if twice else 1)

    def draw(self) -> tuple[LayerInputs, tuple[Tensor, ...]]:
        """Return inputs, and independent gradients for y and each final state; values that must not be read are NaN."""
        (T, B, I, H), dtype = self.shape, NUMBERS[self.numbers][0]
        generator = torch.Generator().manual_seed(zlib.crc32(repr(self).encode()))

        def normal(*shape: int) -> Tensor:
            # Rounded to bfloat16, so that passes in all dtypes get the same values.
            return torch.randn(shape, generator=generator).bfloat16().to(dtype)

        kind, *projected = self.cell.split()
        P = max(H // 2, 1) if projected else H
        cell, rows = CELLS[kind], len(CELLS[kind].gates) * H
        x, dy, lengths = normal(T, B, I), normal(T, B, P), ragged(self.lengths, T, B)
        if lengths is not None:
            padding = (torch.arange(T)[:, None] >= lengths)[..., None]
            x, dy = (t.masked_fill(padding, torch.nan) for t in (x, dy))
        mask = (torch.rand(B, P, generator=generator) < 0.7).to(dtype) * 1.25
        # Far from the kink of the relu at 0: rounding to 8 bits must not turn a unit off in one engine only.
        b_ih, b_hh = (normal(rows), normal(rows)) if kind != "rnn_relu" else (normal(rows).sign() * 4, normal(rows) / 8)
        small = 0.7 * (H + I) ** -0.5  # large enough for nonlinear gates, small enough for float32 to agree
        state = tuple(normal(B, size) for size in cell.state_sizes(H, P))
        params = {"weight_ih": normal(rows, I) * small, "weight_hh": normal(rows, P) * small}
        params |= {"bias_ih": b_ih, "bias_hh": b_hh} if self.bias else {}
        params |= {"weight_hr": normal(P, H) * small} if projected else {}
        given = tuple(params.get(name) for name in cell.parameters)
        inputs = LayerInputs(x, state, given, mask if self.masked else None, lengths)
        return inputs, (dy, *(normal(*part.shape) for part in state))


def ragged(kind: str, T: int, B: int) -> Tensor | None:
    """Return lengths: unsorted, the longest T and some zero; or all zero; or none."""
    if kind == "none":
        return None
    if kind == "zero":
        return torch.zeros(B, dtype=torch.int64)
    return torch.tensor([[0, T, T // 2, T, 1][b % 5] for b in range(B)] if B > 1 else [T // 2])


def every_case() -> Iterator[Case]:
    """Yield the whole product of configurations; H is at least 2 for a projected LSTM."""
    for case in product(
        KINDS, NUMBERS, SHAPES, (False, True), ("none", "ragged", "zero"), (False, True), (True, False)
    ):
        if case[0] != "lstm projected" or case[2][3] > 1:
            yield Case(*case)


def run(
    engine: str, inputs: LayerInputs, options: LayerOptions, upstream: Sequence[Tensor]
) -> tuple[LayerOutputs, dict[str, Tensor]]:
    """Run a forward and a backward pass on an engine, with PyTorch's settings of threads and precision."""
    threads, high = switches()
    options = options._replace(threads=threads, high=high)
    outputs = ENGINES[engine].forward(inputs, options)
    dx, dstate, dparams = ENGINES[engine].backward(inputs, outputs, upstream[0], upstream[1:], options, True)
    states = options.about.states
    results = {"y": outputs.y} | {f"{name}_n": t for name, t in zip(states, outputs.state, strict=True)}
    results |= {f"trace {k}": t for k, t in enumerate(outputs.trace)}
    gradients = {"x": dx, **dict(zip((f"{name}_0" for name in states), dstate, strict=True))}
    gradients |= dict(zip(options.about.parameters, dparams, strict=False))
    results |= {f"d{name}": t for name, t in gradients.items() if t is not None}
    return outputs, results


def named(inputs: LayerInputs, cell: str) -> dict[str, Tensor | None]:
    """Return all tensors that have a gradient, by name."""
    spec = CELLS[cell]
    state = zip((f"{name}_0" for name in spec.states), inputs.state, strict=True)
    return {"x": inputs.x, **dict(state), **dict(zip(spec.parameters, inputs.params, strict=True))}


def flat(*groups: Any) -> list[Tensor | None]:
    """Return the tensors of inputs, outputs and gradients as a flat list."""
    found = list[Tensor | None]()
    for group in groups:
        found += [group] if group is None or isinstance(group, Tensor) else flat(*group)
    return found


def each(change: Callable[[Tensor], Tensor], inputs: LayerInputs, lengths: bool = False) -> LayerInputs:
    """Return inputs with ``change`` applied to every tensor, and to the lengths if requested."""

    def changed(t: Tensor | None) -> Any:
        return None if t is None else change(t)

    x, state, params, h_mask, own = inputs
    return LayerInputs(
        changed(x),
        tuple(map(changed, state)),
        tuple(map(changed, params)),
        changed(h_mask),
        changed(own) if lengths else own,
    )


@cache
def expected_of(case: Case) -> tuple[LayerInputs, tuple[Tensor, ...], dict[str, Tensor]]:
    """Return the random inputs of a case and the results of the reference, computed once for all engines."""
    inputs, upstream = case.draw()
    return inputs, upstream, run("reference", inputs, case.options, upstream)[1]


def disagreements(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> list[str]:
    """Return the differences, by name: missing results, shapes and dtypes, values."""
    if found.keys() != expected.keys():
        return [f"found {list(found)}, expected {list(expected)}"]
    wrong = []
    for name, a in found.items():
        b = expected[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            wrong.append(f"{name} is {a.dtype} {tuple(a.shape)}, expected {b.dtype} {tuple(b.shape)}")
        elif a.numel() and not (gap := differ(a, b, least=1.0)) <= tolerance:
            wrong.append(f"{name} is off by {gap:.1e}")
    return wrong
