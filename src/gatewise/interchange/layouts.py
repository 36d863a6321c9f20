"""The table of layouts: how each framework stores the weights of one layer and direction.

Each converter is built from ``LAYOUTS``. Ours are PyTorch's: ``weight_ih`` (G·H, I), ``weight_hh`` (G·H, H), two biases
(G·H,), the gates in the order of ``gatewise.spec``. A framework stores one pass as a tuple of arrays, which
``to_layout`` makes and ``from_layout`` reads:

- torch: ``weight_ih, weight_hh, bias_ih, bias_hh``
- keras: ``kernel (I, G·H), recurrent_kernel (H, G·H), bias (G·H,)``, of a GRU ``bias (2, 3H)``
- tf1: ``kernel (I + H, G·H), bias (G·H,)``
- onnx: ``W (G·H, I), R (G·H, H), B (2·G·H,)``, which ONNX stacks over the directions

Without biases, the arrays of the bias are missing at the end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from gatewise.spec import CELLS

Array = npt.NDArray[np.float32]


class PassWeights(NamedTuple):
    """The weights of one layer and direction, named, ordered and shaped as in PyTorch.

    Attributes:
        weight_ih: (G·H, I).
        weight_hh: (G·H, H), or (G·H, P) with a projection.
        bias_ih: (G·H,), or None.
        bias_hh: (G·H,), or None, as ``bias_ih``.
        weight_hr: (P, H), the projection of an LSTM, or None.
    """

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None = None
    bias_hh: Array | None = None
    weight_hr: Array | None = None


@dataclass(frozen=True)
class Layout:
    """How a framework stores one pass.

    Attributes:
        gates: our letters of the gates, in the framework's order.
        transposed: whether kernels are (I, G·H) instead of (G·H, I).
        joined: whether the kernels of x and h are one, x first.
        bias: ``two`` arrays; their sum in ``one``; (2, G·H), ``stacked``; or (2·G·H,), ``concatenated``.
    """

    gates: str
    transposed: bool = False
    joined: bool = False
    bias: Literal["two", "one", "stacked", "concatenated"] = "two"


_KERAS = Layout("h", transposed=True, bias="one")
_TF1 = Layout("h", transposed=True, joined=True, bias="one")
_ONNX = Layout("h", bias="concatenated")

LAYOUTS: Mapping[str, Mapping[str, Layout]] = {
    "torch": {"lstm": Layout("ifgo"), "gru": Layout("rzn"), "rnn_tanh": Layout("h"), "rnn_relu": Layout("h")},
    "keras": {
        "lstm": Layout("ifgo", transposed=True, bias="one"),
        "gru": Layout("zrn", transposed=True, bias="stacked"),
        "rnn_tanh": _KERAS,
        "rnn_relu": _KERAS,
    },
    # No GRU: TensorFlow 1's GRUCell resets before the product and is another cell.
    "tf1": {"lstm": Layout("igfo", transposed=True, joined=True, bias="one"), "rnn_tanh": _TF1, "rnn_relu": _TF1},
    "onnx": {
        "lstm": Layout("iofg", bias="concatenated"),
        "gru": Layout("zrn", bias="concatenated"),
        "rnn_tanh": _ONNX,
        "rnn_relu": _ONNX,
    },
}
"""By framework and cell; a missing entry means that the framework does not have the cell."""


def to_layout(cell: str, weights: PassWeights, layout: Layout, *, forget_bias: float = 0.0) -> tuple[Array, ...]:
    """Return the arrays of a framework for one pass.

    Args:
        cell: a name in ``gatewise.spec.CELLS``.
        weights: ours, without a projection.
        layout: an entry of ``LAYOUTS``.
        forget_bias: what the framework adds to the forget gate's bias at run time; it is subtracted from one bias.

    Raises:
        ValueError: the weights have a projection, or the layout has one bias and ``n`` of a GRU has two.
    """
    if weights.weight_hr is not None:
        raise ValueError("has a projection")
    ours = "".join(CELLS[cell].gates)
    w_ih, w_hh = (_reordered(w, ours, layout.gates) for w in (weights.weight_ih, weights.weight_hh))
    if layout.transposed:
        w_ih, w_hh = w_ih.T, w_hh.T
    kernels = [np.concatenate([w_ih, w_hh], 0 if layout.transposed else 1)] if layout.joined else [w_ih, w_hh]
    found = [np.ascontiguousarray(kernel) for kernel in kernels]
    if weights.bias_ih is None or weights.bias_hh is None:
        return tuple(found)
    b_ih, b_hh = shifted_forget_gate(cell, weights.bias_ih, -forget_bias), weights.bias_hh
    if layout.bias == "one":
        b_ih, b_hh = summed_biases(cell, b_ih, b_hh)
        if b_hh.any():
            raise ValueError("its candidate gate has two biases")
    pair = [_reordered(b, ours, layout.gates) for b in (b_ih, b_hh)]
    if layout.bias in ("stacked", "concatenated"):
        return *found, np.concatenate(pair).reshape(_bias_shape(layout, len(b_ih)))
    return *found, *(pair if layout.bias == "two" else pair[:1])


def from_layout(
    cell: str, arrays: Sequence[Array], layout: Layout, hidden_size: int, *, forget_bias: float = 0.0
) -> PassWeights:
    """Return our weights of one pass: the inverse of ``to_layout``.

    One bias becomes ``bias_ih``, and ``bias_hh`` is zeros.

    Args:
        cell: a name in ``gatewise.spec.CELLS``.
        arrays: those of the framework, in the order that the module documents, with or without biases.
        layout: an entry of ``LAYOUTS``.
        hidden_size: H.
        forget_bias: what the framework adds to the forget gate's bias at run time; it is added to ``bias_ih``.

    Raises:
        ValueError: an array is missing or has the wrong shape; the message begins with the number of the array.
    """
    ours, rows = "".join(CELLS[cell].gates), len(CELLS[cell].gates) * hidden_size
    count = 1 if layout.joined else 2
    kernels, biases = list(arrays[:count]), list(arrays[count:])
    if len(kernels) < count or len(biases) not in (0, 2 if layout.bias == "two" else 1):
        raise ValueError(f"{len(arrays)} arrays; expected the kernels and the bias of a layer")
    for which, kernel in enumerate(kernels):
        if kernel.ndim != 2 or kernel.shape[1 if layout.transposed else 0] != rows:
            side = f"(…, {rows})" if layout.transposed else f"({rows}, …)"
            raise ValueError(f"array {which} has shape {kernel.shape}; expected {side} for {hidden_size} units")
    if layout.transposed:
        kernels = [kernel.T for kernel in kernels]
    if layout.joined:
        kernels = [kernels[0][:, :-hidden_size], kernels[0][:, -hidden_size:]]
    if kernels[0].shape[1] < 1 or kernels[1].shape[1] != hidden_size:
        raise ValueError(
            f"array {count - 1} has shape {arrays[count - 1].shape}; expected kernels of x and of {hidden_size} units"
        )
    w_ih, w_hh = (np.ascontiguousarray(_reordered(kernel, layout.gates, ours)) for kernel in kernels)
    if not biases:
        if forget_bias:
            biases = [np.zeros(_bias_shape(layout, rows), np.float32)]
        else:
            return PassWeights(w_ih, w_hh)
    for which, bias in enumerate(biases, count):
        if bias.shape != _bias_shape(layout, rows):
            raise ValueError(f"array {which} has shape {bias.shape}; expected {_bias_shape(layout, rows)}")
    if layout.bias in ("stacked", "concatenated"):
        biases = list(biases[0].reshape(2, rows))
    pair = [_reordered(bias, layout.gates, ours) for bias in biases]
    b_hh = pair[1] if len(pair) > 1 else np.zeros(rows, np.float32)
    return PassWeights(w_ih, w_hh, shifted_forget_gate(cell, pair[0], forget_bias), b_hh)


def summed_biases(cell: str, bias_ih: Array, bias_hh: Array) -> tuple[Array, Array]:
    """Return two biases of which as much as possible is in the first: their sum, and zeros.

    The candidate gate of a cell such as the GRU multiplies its recurrent bias by a gate, so its two stay apart.
    """
    if not CELLS[cell].input_bias_apart:
        return bias_ih + bias_hh, np.zeros_like(bias_hh)
    size = len(bias_ih) // len(CELLS[cell].gates)
    first, second = bias_ih.copy(), bias_hh.copy()
    first[:-size] += second[:-size]
    second[:-size] = 0
    return first, second


def shifted_forget_gate(cell: str, bias: Array, amount: float) -> Array:
    """Return a bias (G·H,) with a number added to the forget gate's part; of a cell without one, as it is.

    Raises:
        ValueError: the number is not 0, and the cell has no forget gate.
    """
    if not amount:
        return bias
    gates = CELLS[cell].gates
    if "f" not in gates:
        raise ValueError(f"forget_bias is {amount}; a {cell} has no forget gate")
    size, at = len(bias) // len(gates), gates.index("f")
    shifted: Array = bias.copy()
    shifted[at * size : (at + 1) * size] += np.float32(amount)
    return shifted


def _reordered(array: Array, before: str, after: str) -> Array:
    """Return an array with its G blocks of H rows in another order."""
    if before == after:
        return array
    blocks = np.split(array, len(before))
    found: Array = np.concatenate([blocks[before.index(gate)] for gate in after])
    return found


def _bias_shape(layout: Layout, rows: int) -> tuple[int, ...]:
    shapes: dict[str, tuple[int, ...]] = {"stacked": (2, rows), "concatenated": (2 * rows,)}
    return shapes.get(layout.bias, (rows,))
