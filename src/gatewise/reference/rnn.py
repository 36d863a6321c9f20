"""The plain RNN (Elman 1990), with tanh or relu, forward and backward through time.

At each step, with h' from the previous step and m the recurrent dropout mask (1 without dropout)::

    (1) a = W_ih x + b_ih + W_hh (m·h') + b_hh
    (2) h = tanh(a), or max(a, 0)

The prefix ``d`` denotes the derivative of the loss with respect to a quantity. Backward steps have the numbers of the
forward steps.
"""

from typing import NamedTuple

import numpy as np

from gatewise.reference.cell import Array, Weights, input_gradients, input_product, outer


class Tape(NamedTuple):
    """The values of all steps, (T, B, …), that the backward pass reads."""

    x: Array
    h_before: Array
    h: Array


class Gradients(NamedTuple):
    """The gradient of the loss with respect to each input; ``dx`` is None if x holds integers."""

    dx: Array | None
    dh_0: Array
    dweights: Weights


def forward(
    x: Array, h_0: Array, weights: Weights, h_mask: Array | float = 1.0, nonlinearity: str = "tanh"
) -> tuple[Array, Array, Tape]:
    """Run T steps.

    Args:
        x: (T, B, I), or (T, B) integers that represent one-hot vectors.
        h_0: (B, H).
        weights: the weights of this layer and direction.
        h_mask: m, (B, H): multiplies h' in (1) at every step.
        nonlinearity: ``tanh`` or ``relu``.

    Returns:
        y (T, B, H), h_n (B, H), and the tape for ``backward``.
    """
    w_ih, w_hh, b_ih, b_hh, _ = weights
    a_x = input_product(x, w_ih) + (b_ih + b_hh)
    y = np.empty((len(x), *h_0.shape), a_x.dtype)
    h_before, h = np.empty_like(y), h_0.copy()
    for t in range(len(x)):
        h_before[t] = h
        a = a_x[t] + (h_mask * h) @ w_hh.T  # (1)
        h = np.tanh(a) if nonlinearity == "tanh" else np.maximum(a, 0)  # (2)
        y[t] = h
    return y, h, Tape(x, h_before, y.copy())


def backward(
    dy: Array, dh_n: Array, tape: Tape, weights: Weights, h_mask: Array | float = 1.0, nonlinearity: str = "tanh"
) -> Gradients:
    """Return the gradients of all inputs of ``forward``, given those of its outputs.

    Args:
        dy: (T, B, H), the derivative of the loss with respect to y.
        dh_n: with respect to h_n; (B, H).
        tape: what ``forward`` returned.
        weights: as given to ``forward``.
        h_mask: as given to ``forward``.
        nonlinearity: as given to ``forward``.
    """
    w_ih, w_hh, _, _, _ = weights
    x, h_before, h = tape
    da = np.empty_like(h)
    dh = dh_n.copy()
    for t in reversed(range(len(h))):
        dh = dh + dy[t]  # y is h: what comes from above and from the step after
        da[t] = dh * (1 - h[t] ** 2) if nonlinearity == "tanh" else np.where(h[t] <= 0, 0, dh)  # (2)
        dh = h_mask * (da[t] @ w_hh)  # (1), from here on dh'
    dx, dw_ih = input_gradients(da, x, w_ih)  # (1)
    dw_hh = outer(da, h_mask * h_before)  # (1)
    db = da.sum((0, 1))  # (1)
    return Gradients(dx, dh, Weights(dw_ih, dw_hh, db, db.copy()))
