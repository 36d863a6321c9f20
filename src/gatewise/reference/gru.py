"""The GRU (Cho et al. 2014, arXiv 1406.1078, the reset gate after the product as in cuDNN), forward and backward.

At each step, with h' from the previous step and m the recurrent dropout mask (1 without dropout)::

    (1) a = W_ih x + b_ih                  a = (a_r, a_z, a_n)
    (2) u = W_hh (m·h') + b_hh             u = (u_r, u_z, u_n)
    (3) r = σ(a_r + u_r)
    (4) z = σ(a_z + u_z)
    (5) n = tanh(a_n + r·u_n)
    (6) h = (1 − z)·n + z·h'

The prefix ``d`` denotes the derivative of the loss with respect to a quantity. Backward steps have the numbers of the
forward steps.
"""

from typing import NamedTuple

import numpy as np

from gatewise.reference.cell import Array, Weights, input_gradients, input_product, outer, sigmoid


class Tape(NamedTuple):
    """The values of all steps, (T, B, …), that the backward pass reads."""

    x: Array
    h_before: Array
    u_n: Array
    r: Array
    z: Array
    n: Array


class Gradients(NamedTuple):
    """The gradient of the loss with respect to each input; ``dx`` is None if x holds integers."""

    dx: Array | None
    dh_0: Array
    dweights: Weights


def forward(x: Array, h_0: Array, weights: Weights, h_mask: Array | float = 1.0) -> tuple[Array, Array, Tape]:
    """Run T steps.

    Args:
        x: (T, B, I), or (T, B) integers that represent one-hot vectors.
        h_0: (B, H).
        weights: the weights of this layer and direction.
        h_mask: m, (B, H): multiplies h' in (2), not in (6), at every step.

    Returns:
        y (T, B, H), h_n (B, H), and the tape for ``backward``.
    """
    w_ih, w_hh, b_ih, b_hh, _ = weights
    (T, B), H = x.shape[:2], h_0.shape[-1]
    a_x = input_product(x, w_ih) + b_ih  # (1)
    y, h_before, u_n, r, z, n = np.empty((6, T, B, H), a_x.dtype)
    h = h_0.copy()
    for t in range(T):
        h_before[t], a = h, a_x[t]
        u = (h_mask * h) @ w_hh.T + b_hh  # (2)
        u_n[t] = u[:, 2 * H :]
        r[t] = sigmoid(a[:, :H] + u[:, :H])  # (3)
        z[t] = sigmoid(a[:, H : 2 * H] + u[:, H : 2 * H])  # (4)
        n[t] = np.tanh(a[:, 2 * H :] + r[t] * u_n[t])  # (5)
        h = (1 - z[t]) * n[t] + z[t] * h  # (6)
        y[t] = h
    return y, h, Tape(x, h_before, u_n, r, z, n)


def backward(dy: Array, dh_n: Array, tape: Tape, weights: Weights, h_mask: Array | float = 1.0) -> Gradients:
    """Return the gradients of all inputs of ``forward``, given those of its outputs.

    Args:
        dy: (T, B, H), the derivative of the loss with respect to y.
        dh_n: with respect to h_n; (B, H).
        tape: what ``forward`` returned.
        weights: as given to ``forward``.
        h_mask: as given to ``forward``.
    """
    w_ih, w_hh, _, _, _ = weights
    x, h_before, u_n, r, z, n = tape
    T, H = len(n), n.shape[-1]
    da = np.empty((*n.shape[:2], 3 * H), n.dtype)
    du = np.empty_like(da)
    dh = dh_n.copy()
    for t in reversed(range(T)):
        dh = dh + dy[t]  # y is h: what comes from above and from the step after
        dn = dh * (1 - z[t])  # (6)
        dz = dh * (h_before[t] - n[t])  # (6)
        dh = dh * z[t]  # (6), the part of dh' that takes the direct path
        da[t, :, 2 * H :] = dn * (1 - n[t] ** 2)  # (5)
        du[t, :, 2 * H :] = da[t, :, 2 * H :] * r[t]  # (5)
        dr = da[t, :, 2 * H :] * u_n[t]  # (5)
        da[t, :, H : 2 * H] = du[t, :, H : 2 * H] = dz * z[t] * (1 - z[t])  # (4)
        da[t, :, :H] = du[t, :, :H] = dr * r[t] * (1 - r[t])  # (3)
        dh = dh + h_mask * (du[t] @ w_hh)  # (2), from here on dh'
    dw_hh = outer(du, h_mask * h_before)  # (2)
    db_hh = du.sum((0, 1))  # (2)
    dx, dw_ih = input_gradients(da, x, w_ih)  # (1)
    db_ih = da.sum((0, 1))  # (1)
    return Gradients(dx, dh, Weights(dw_ih, dw_hh, db_ih, db_hh))
