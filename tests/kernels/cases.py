"""Layer passes to try engines on: drawn inputs, independent upstream gradients, and every result under its name."""

import zlib
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from gatewise.kernels.contract import LayerInputs, LayerOptions, LayerOutputs
from gatewise.kernels.registry import ENGINES
from gatewise.spec import GATES
from tests.tolerances import PROJECTED, RELATIVE, differ

OTHERS = [name for name in ENGINES if name != "reference"]
"""The engines that must compute what the reference computes."""

CELLS = [*GATES, "lstm projected"]

SHAPES = [(1, 1, 1, 1), (5, 3, 7, 4), (4, 1, 2, 63), (1, 4, 3, 5), (6, 5, 1, 2)]
"""T, B, I, H."""

NUMBERS = {
    "float64": (torch.float64, None),
    "float32": (torch.float32, None),
    "bfloat16": (torch.bfloat16, None),
    "bfloat16 products": (torch.float32, torch.bfloat16),
}
"""The dtype of everything, and that of the products' factors."""


class Case(NamedTuple):
    """One way of running a pass."""

    cell: str = "lstm"
    numbers: str = "float64"
    shape: tuple[int, int, int, int] = (5, 3, 7, 4)
    reverse: bool = False
    lengths: str = "none"
    masked: bool = False
    bias: bool = True

    @property
    def options(self) -> LayerOptions:
        """How the pass is run, to be looked into and followed by a backward pass."""
        return LayerOptions(self.cell.split()[0], self.reverse, NUMBERS[self.numbers][1], save=True, trace=True)

    @property
    def sharp(self) -> bool:
        """Whether gradients can be compared: in 8 bits some unit of a relu is soon on the other side of its kink."""
        return self.cell != "rnn_relu" or self.numbers.startswith("float") or (self.bias and self.shape[0] == 1)

    @property
    def tolerance(self) -> float:
        """That of the narrowest dtype that takes part."""
        dtype, products = NUMBERS[self.numbers]
        narrow = products or dtype
        twice = narrow == torch.bfloat16 and self.cell == "lstm projected"
        return RELATIVE[narrow] * (PROJECTED if twice else 1)

    def draw(self) -> tuple[LayerInputs, tuple[Tensor, Tensor, Tensor]]:
        """Return inputs, and the derivatives of a loss by y, h_n and c_n, each its own; what is unread is NaN."""
        (T, B, I, H), dtype = self.shape, NUMBERS[self.numbers][0]
        generator = torch.Generator().manual_seed(zlib.crc32(repr(self).encode()))

        def normal(*shape: int) -> Tensor:
            # Rounded to bfloat16, so that passes in any dtype are given the very same numbers.
            return torch.randn(shape, generator=generator).bfloat16().to(dtype)

        kind, *projected = self.cell.split()
        P = max(H // 2, 1) if projected else H
        rows = len(GATES[kind]) * H
        x, dy, lengths = normal(T, B, I), normal(T, B, P), ragged(self.lengths, T, B)
        if lengths is not None:
            padding = (torch.arange(T)[:, None] >= lengths)[..., None]
            x, dy = (t.masked_fill(padding, torch.nan) for t in (x, dy))
        mask = (torch.rand(B, P, generator=generator) < 0.7).to(dtype) * 1.25
        # Far from 0 where the relu has its kink: a rounding of 8 bits must not turn a unit off in one engine alone.
        b_ih, b_hh = (normal(rows), normal(rows)) if kind != "rnn_relu" else (normal(rows).sign() * 4, normal(rows) / 8)
        small = 0.7 * (H + I) ** -0.5  # large enough for the gates to bend, small enough for float32 to agree
        lstm = kind == "lstm"
        inputs = LayerInputs(
            x,
            normal(B, P),
            normal(B, H) if lstm else None,
            normal(rows, I) * small,
            normal(rows, P) * small,
            b_ih if self.bias else None,
            b_hh if self.bias else None,
            normal(P, H) * small if projected else None,
            mask if self.masked else None,
            lengths,
        )
        return inputs, (dy, normal(B, P), normal(B, H) if lstm else dy.new_zeros(0))


def ragged(kind: str, T: int, B: int) -> Tensor | None:
    """Return lengths: unsorted, the longest T and some zero; or all zero; or none."""
    if kind == "none":
        return None
    if kind == "zero":
        return torch.zeros(B, dtype=torch.int64)
    return torch.tensor([[0, T, T // 2, T, 1][b % 5] for b in range(B)] if B > 1 else [T // 2])


def every_case() -> Iterator[Case]:
    """Yield the whole product; H of a projected LSTM is 2 or more."""
    for case in product(
        CELLS, NUMBERS, SHAPES, (False, True), ("none", "ragged", "zero"), (False, True), (True, False)
    ):
        if case[0] != "lstm projected" or case[2][3] > 1:
            yield Case(*case)


def run(
    engine: str, inputs: LayerInputs, options: LayerOptions, upstream: tuple[Tensor, Tensor, Tensor]
) -> tuple[LayerOutputs, dict[str, Tensor]]:
    """Run a pass forward and back on an engine."""
    outputs = ENGINES[engine].forward(inputs, options)
    gradients = ENGINES[engine].backward(inputs, outputs, *upstream, options, True)
    results = {"y": outputs.y, "h_n": outputs.h_n, "c_n": outputs.c_n}
    results |= {f"trace {k}": t for k, t in enumerate(outputs.trace)}
    results |= {f"d{name}": t for name, t in gradients._asdict().items() if t is not None}
    return outputs, results


@cache
def expected_of(case: Case) -> tuple[LayerInputs, tuple[Tensor, Tensor, Tensor], dict[str, Tensor]]:
    """Return what a case draws, and the reference's results: computed once, for all engines and ways."""
    inputs, upstream = case.draw()
    return inputs, upstream, run("reference", inputs, case.options, upstream)[1]


def disagreements(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> list[str]:
    """Say what differs, by name: in what there is, in shape and dtype, in value."""
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
