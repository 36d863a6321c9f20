"""The LSTM (Zaremba et al. 2014, arXiv 1409.2329, section 3), forward and backward through time.

At each step, with h', c' from the previous step and m the recurrent dropout mask (1 without dropout)::

    (1) a = W_ih x + b_ih + W_hh (m·h') + b_hh        a = (a_i, a_f, a_g, a_o)
    (2) i = σ(a_i)
    (3) f = σ(a_f)
    (4) g = tanh(a_g)
    (5) o = σ(a_o)
    (6) c = f·c' + i·g
    (7) s = o·tanh(c)
    (8) h = s, or W_hr s if the LSTM is projected

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
    c_before: Array
    i: Array
    f: Array
    g: Array
    o: Array
    c: Array


class Gradients(NamedTuple):
    """The gradient of the loss with respect to each input; ``dx`` is None if x holds integers."""

    dx: Array | None
    dh_0: Array
    dc_0: Array
    dweights: Weights


def forward(
    x: Array, h_0: Array, c_0: Array, weights: Weights, h_mask: Array | float = 1.0
) -> tuple[Array, Array, Array, Tape]:
    """Run T steps.

    Args:
        x: (T, B, I), or (T, B) integers that represent one-hot vectors.
        h_0: (B, H), or (B, P) for a projected LSTM.
        c_0: (B, H).
        weights: the weights of this layer and direction.
        h_mask: m, (B, H) or (B, P): multiplies h' in (1) at every step.

    Returns:
        y (T, B, H or P), h_n, c_n, and the tape for ``backward``. The inputs are not modified, and only x is kept by
        reference, in the tape.
    """
    w_ih, w_hh, b_ih, b_hh, w_hr = weights
    (T, B), H = x.shape[:2], c_0.shape[-1]
    a_x = input_product(x, w_ih) + (b_ih + b_hh)
    y = np.empty((T, *h_0.shape), a_x.dtype)
    i, f, g, o, c_before, c_after = np.empty((6, T, B, H), a_x.dtype)
    h_before, h, c = np.empty_like(y), h_0.copy(), c_0.copy()
    for t in range(T):
        h_before[t], c_before[t] = h, c
        a = a_x[t] + (h_mask * h) @ w_hh.T  # (1)
        i[t] = sigmoid(a[:, :H])  # (2)
        f[t] = sigmoid(a[:, H : 2 * H])  # (3)
        g[t] = np.tanh(a[:, 2 * H : 3 * H])  # (4)
        o[t] = sigmoid(a[:, 3 * H :])  # (5)
        c = f[t] * c + i[t] * g[t]  # (6)
        s = o[t] * np.tanh(c)  # (7)
        h = s if w_hr is None else s @ w_hr.T  # (8)
        c_after[t], y[t] = c, h
    return y, h, c, Tape(x, h_before, c_before, i, f, g, o, c_after)


def backward(
    dy: Array, dh_n: Array, dc_n: Array, tape: Tape, weights: Weights, h_mask: Array | float = 1.0
) -> Gradients:
    """Return the gradients of all inputs of ``forward``, given those of its outputs.

    Args:
        dy: (T, B, H or P), the derivative of the loss with respect to y.
        dh_n: with respect to h_n; (B, H or P).
        dc_n: with respect to c_n; (B, H).
        tape: what ``forward`` returned.
        weights: as given to ``forward``.
        h_mask: as given to ``forward``.
    """
    w_ih, w_hh, _, _, w_hr = weights
    x, h_before, c_before, i, f, g, o, c = tape
    T, H = len(c), c.shape[-1]
    da = np.empty((*c.shape[:2], 4 * H), c.dtype)
    dw_hr = None if w_hr is None else np.zeros_like(w_hr)
    dh, dc = dh_n.copy(), dc_n.copy()
    for t in reversed(range(T)):
        tanh_c = np.tanh(c[t])
        dh = dh + dy[t]  # y is h: what comes from above and from the step after
        ds = dh if w_hr is None else dh @ w_hr  # (8)
        if dw_hr is not None:
            dw_hr += dh.T @ (o[t] * tanh_c)  # (8)
        do = ds * tanh_c  # (7)
        dc = dc + ds * o[t] * (1 - tanh_c**2)  # (7)
        df = dc * c_before[t]  # (6)
        di = dc * g[t]  # (6)
        dg = dc * i[t]  # (6)
        dc = dc * f[t]  # (6), from here on dc'
        da[t, :, 3 * H :] = do * o[t] * (1 - o[t])  # (5)
        da[t, :, 2 * H : 3 * H] = dg * (1 - g[t] ** 2)  # (4)
        da[t, :, H : 2 * H] = df * f[t] * (1 - f[t])  # (3)
        da[t, :, :H] = di * i[t] * (1 - i[t])  # (2)
        dh = h_mask * (da[t] @ w_hh)  # (1), from here on dh'
    dx, dw_ih = input_gradients(da, x, w_ih)  # (1)
    dw_hh = outer(da, h_mask * h_before)  # (1)
    db = da.sum((0, 1))  # (1)
    return Gradients(dx, dh, dc, Weights(dw_ih, dw_hh, db, db.copy(), dw_hr))
