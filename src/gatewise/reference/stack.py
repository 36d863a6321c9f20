"""Layers, directions and lengths: stacks built from one cell.

In a ragged batch, each row runs separately over its own length; the reverse direction reads a row from its end. A stack
passes the outputs of each layer to the next, those of the two directions concatenated.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from gatewise.reference import gru, lstm, rnn
from gatewise.reference.cell import Array, Weights
from gatewise.spec import RecurrentSpec


class Cell(NamedTuple):
    """The functions of a cell, and the constructor of its weights from arrays in the order of ``parameters``."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    weights: Callable[..., Any] = Weights


CELLS: dict[str, Cell] = {
    "lstm": Cell(lstm.forward, lstm.backward),
    "gru": Cell(gru.forward, gru.backward),
    **{
        f"rnn_{kind}": Cell(partial(rnn.forward, nonlinearity=kind), partial(rnn.backward, nonlinearity=kind))
        for kind in ("tanh", "relu")
    },
}
"""Every cell by its name in ``gatewise.spec.CELLS``."""

State = tuple[Array, ...]
"""``(h, c)`` for an LSTM, ``(h,)`` for a GRU or plain RNN."""


class Run(NamedTuple):
    """Rows of a batch that run together over the same number of steps, and the tape of their cell."""

    rows: slice
    steps: int
    tape: Any = None


def layer_forward(
    cell: str,
    x: Array,
    state: State,
    weights: Weights,
    *,
    reverse: bool = False,
    lengths: Sequence[int] | None = None,
    h_mask: Array | float = 1.0,
) -> tuple[Array, State, list[Run]]:
    """Run one direction of one layer.

    Args:
        cell: a name in ``CELLS``.
        x: (T, B, I), or (T, B) integers that stand for one-hot vectors.
        state: the state before the first step: h (B, H or P), and for an LSTM c (B, H).
        weights: the weights of this layer and direction.
        reverse: read each row from its end; each output is at the position of its input.
        lengths: the steps of each row, 0 to T; T by default.
        h_mask: the recurrent dropout mask, (B, H or P), or 1.

    Returns:
        y (T, B, H or P), zero past the length of a row; the state after the last step of each row; the tapes.

    Raises:
        ValueError: there is not one length for each row, or a length is out of range.
    """
    T, B = x.shape[:2]
    if lengths is not None and (len(lengths) != B or not all(0 <= n <= T for n in lengths)):
        raise ValueError(f"lengths are {list(lengths)}; expected {B} integers, each 0 to {T}")
    y = np.zeros((T, *state[0].shape), state[0].dtype)
    state_n, runs = tuple(part.copy() for part in state), []
    way = slice(None, None, -1 if reverse else 1)
    todo = [Run(slice(0, B), T)] if lengths is None else [Run(slice(b, b + 1), int(n)) for b, n in enumerate(lengths)]
    for rows, steps, _ in todo:
        piece = x[:steps, rows][way]
        y_run, *after, tape = CELLS[cell].forward(piece, *(s[rows] for s in state), weights, _rows_of(h_mask, rows))
        y[:steps, rows] = y_run[way]
        for whole, part in zip(state_n, after, strict=True):
            whole[rows] = part
        runs.append(Run(rows, steps, tape))
    return y, state_n, runs


def layer_backward(
    cell: str,
    dy: Array,
    dstate_n: State,
    runs: Sequence[Run],
    weights: Weights,
    *,
    reverse: bool = False,
    h_mask: Array | float = 1.0,
) -> tuple[Array | None, State, Weights]:
    """Return dx, the gradients of the state before the first step, and those of the weights.

    Args:
        cell: as given to ``layer_forward``.
        dy: (T, B, H or P); not read past the length of a row.
        dstate_n: the gradients of the state after the last step.
        runs: the tapes that ``layer_forward`` returned.
        weights: as given to ``layer_forward``.
        reverse: as given to ``layer_forward``.
        h_mask: as given to ``layer_forward``.
    """
    dx: Array | None = np.zeros((*dy.shape[:2], weights.w_ih.shape[1]), dy.dtype)
    dstate_0 = tuple(np.empty_like(part) for part in dstate_n)
    dweights = CELLS[cell].weights(*(None if w is None else np.zeros_like(w) for w in weights))
    way = slice(None, None, -1 if reverse else 1)
    for rows, steps, tape in runs:
        dy_run = dy[:steps, rows][way]
        gradients = CELLS[cell].backward(dy_run, *(d[rows] for d in dstate_n), tape, weights, _rows_of(h_mask, rows))
        dx_run, *before, dweights_run = gradients
        if dx_run is None or dx is None:
            dx = None
        else:
            dx[:steps, rows] = dx_run[way]
        for whole, part in zip(dstate_0, before, strict=True):
            whole[rows] = part
        for total, part in zip(dweights, dweights_run, strict=True):
            if total is not None:
                total += part
    return dx, dstate_0, dweights


class Masks(NamedTuple):
    """Dropout masks of a stack, already divided by the keep probability; None where nothing is dropped."""

    inputs: Sequence[Array | None] | None = None
    """One per layer, multiplies its input: (T, B, I), or (1, B, I) for one mask over all steps. Not supported for
    integers that stand for one-hot vectors."""
    hidden: Sequence[Array | None] | None = None
    """One per layer and direction, multiplies h' in the recurrent product: (B, H or P)."""


NO_MASKS = Masks()


def forward(
    spec: RecurrentSpec,
    x: Array,
    state: State,
    weights: Mapping[str, Array],
    *,
    lengths: Sequence[int] | None = None,
    masks: Masks = NO_MASKS,
) -> tuple[Array, State, list[Any]]:
    """Run a whole stack.

    Args:
        spec: the description of the stack.
        x: (T, B, I), or (T, B) integers that stand for one-hot vectors.
        state: h_0 (L·D, B, H or P), and for an LSTM c_0 (L·D, B, H).
        weights: the weights by name, see ``RecurrentSpec.parameters``.
        lengths: the steps of each row; T by default.
        masks: the dropout masks.

    Returns:
        y (T, B, D·H or D·P), the state after the last steps, and the tape for ``backward``.
    """
    tape, state_n, outputs = [], tuple(np.empty_like(part) for part in state), [x]
    for k, (layer, reverse, suffix) in enumerate(spec.passes()):
        if not reverse:
            x, outputs = np.concatenate(outputs, -1) if layer else x, []
            if masks.inputs is not None and masks.inputs[layer] is not None:
                assert np.issubdtype(x.dtype, np.floating), "integers stand for one-hot vectors, which cannot be masked"
                x = x * masks.inputs[layer]
        mask = None if masks.hidden is None else masks.hidden[k]
        h_mask = 1.0 if mask is None else mask
        own = layer_weights(spec, weights, suffix)
        y, after, runs = layer_forward(
            spec.cell, x, tuple(s[k] for s in state), own, reverse=reverse, lengths=lengths, h_mask=h_mask
        )
        for whole, part in zip(state_n, after, strict=True):
            whole[k] = part
        outputs.append(y)
        tape.append((own, h_mask, runs))
    return np.concatenate(outputs, -1), state_n, tape


def backward(
    spec: RecurrentSpec, dy: Array, dstate_n: State, tape: Sequence[Any], *, masks: Masks = NO_MASKS
) -> tuple[Array | None, State, dict[str, Array]]:
    """Return dx, the gradients of the state before the first step, and the gradient of every weight by name.

    Args:
        spec: as given to ``forward``.
        dy: (T, B, D·H or D·P).
        dstate_n: the gradients of the state after the last step, shaped like the state.
        tape: what ``forward`` returned.
        masks: as given to ``forward``.
    """
    dweights, dstate_0 = dict[str, Array](), tuple(np.empty_like(part) for part in dstate_n)
    dx: Array | None = None
    passes = list(enumerate(spec.passes()))
    for k, (layer, reverse, suffix) in reversed(passes):
        own, h_mask, runs = tape[k]
        mine = dy[..., spec.output_size :] if reverse else dy[..., : spec.output_size]
        dx_pass, before, gradients = layer_backward(
            spec.cell, mine, tuple(d[k] for d in dstate_n), runs, own, reverse=reverse, h_mask=h_mask
        )
        for whole, part in zip(dstate_0, before, strict=True):
            whole[k] = part
        names = zip(spec.about.parameters, gradients, strict=False)
        dweights |= {f"{name}_{suffix}": d for name, d in names if d is not None}
        # Both directions read the same input: their gradients add.
        dx = dx_pass if dx is None or dx_pass is None else dx + dx_pass
        if not reverse:
            if dx is not None and masks.inputs is not None and masks.inputs[layer] is not None:
                dx = dx * masks.inputs[layer]
            if layer:
                assert dx is not None
                dy, dx = dx, None
    return dx, dstate_0, {name: dweights[name] for name in spec.parameters()}


def layer_weights(spec: RecurrentSpec, weights: Mapping[str, Array], suffix: str) -> Weights:
    """Return the weights of one layer and direction; biases are zero if the spec has none."""
    found = {name: weights.get(f"{name}_{suffix}") for name in spec.about.parameters}
    w_hh = weights[f"weight_hh_{suffix}"]
    no_bias = np.zeros(len(w_hh), w_hh.dtype)
    made: Weights = CELLS[spec.cell].weights(
        *(no_bias if w is None and name.startswith("bias") else w for name, w in found.items())
    )
    return made


def _rows_of(h_mask: Array | float, rows: slice) -> Array | float:
    """Return the given rows of a mask; a number is returned as is."""
    return h_mask[rows] if isinstance(h_mask, np.ndarray) else h_mask
