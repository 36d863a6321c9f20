"""The model of ``comments-scratch``: forward pass, loss, hand-derived gradients and SGD, one sentence at a time.

The equations are those of ``gatewise.reference.lstm``, with the same numbers; words are one-hot vectors x::

    (1) a = W_ih x + b + W_hh h'     (2, 3, 5) i, f, o = σ(a_i), σ(a_f), σ(a_o)     (4) g = tanh(a_g)
    (6) c = f·c' + i·g               (7) h = o·tanh(c)        (9) p = softmax(D h + e)        loss = −Σ log p[target]

A sentence is a few dozen steps of a hundred numbers, so the time is spent in NumPy calls, and in products with D. To
keep both low:

- W_ih is stored transposed: the product with a one-hot vector is a row, and so is its gradient.
- The rows of i, f and o are stored halved, which is exact: as σ(a) = ½ + ½ tanh(½ a), one tanh gives all four gates.
- The gates are stored in the order o, i, f, g, followed by c', so that (i, f)·(g, c') is one product.
- e is an extra row of D, multiplied by a 1 appended to each h.
- Products with D use a multiple of 4 rows, the block size of the machine's matrix product; extra rows are not read.
- All factors independent of dh and dc are computed for all steps at once, before the backward loop through time.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from gatewise.reference.cell import Array
from gatewise.spec import CELLS

_ORDER = ("o", "i", "f", "g")
_HALVED = np.array([0.5, 0.5, 0.5, 1.0])
_ROWS_AT_ONCE = 2048


class ScratchModel:
    """The weights in the layout that the arithmetic needs, and the operations on them.

    Args:
        weights: arrays by their names in a run folder: ``rnn.weight_ih_l0`` (4H, V), ``rnn.weight_hh_l0`` (4H, H),
            ``rnn.bias_ih_l0`` (4H,), ``rnn.bias_hh_l0`` (4H,), which is and stays zero, ``decoder.weight`` (V, H),
            ``decoder.bias`` (V,). They are copied; all arithmetic uses their dtype.
    """

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.V, self.H = weights["decoder.weight"].shape
        self.dtype = weights["decoder.weight"].dtype
        self._scale = np.repeat(_HALVED, self.H).astype(self.dtype)
        self._w_x = self._inward(weights["rnn.weight_ih_l0"])  # (V, 4H)
        self._w_h = self._inward(weights["rnn.weight_hh_l0"])  # (H, 4H)
        self._b = self._inward(weights["rnn.bias_ih_l0"])  # (4H,)
        d = np.vstack([weights["decoder.weight"].T, weights["decoder.bias"]])
        self._d = np.ascontiguousarray(d)  # (H + 1, V)
        self._d_step = np.empty_like(self._d)
        self._reserve(64)

    def weights(self) -> dict[str, Array]:
        """Return copies of the weights by their names in a run folder."""
        b = self._outward(self._b)
        return {
            "rnn.weight_ih_l0": self._outward(self._w_x),
            "rnn.weight_hh_l0": self._outward(self._w_h),
            "rnn.bias_ih_l0": b,
            "rnn.bias_hh_l0": np.zeros_like(b),
            "decoder.weight": np.ascontiguousarray(self._d[:-1].T),
            "decoder.bias": self._d[-1].copy(),
        }

    def step(self, sentence: Sequence[int], learning_rate: float) -> float:
        """Do one SGD step on the summed nll of a sentence: ``w −= learning_rate · dw``, with all dw from before it.

        Args:
            sentence: T + 1 ids: the start token, the words, the end token; T of them are predicted.
            learning_rate: the learning rate of this step.

        Returns:
            The summed nll in nats before the step. If it is not finite, no weight is changed.
        """
        words, T = sentence[:-1], len(sentence) - 1
        loss = self._forward(sentence)
        if not np.isfinite(loss):
            return loss
        q = self._backward(T)
        h_before, h_and_1 = self._h[:T, : self.H], self._h[1 : T + 1]
        # Halved rows take a quarter of the step: half since the gradient is doubled, half since halves are stored.
        q_step = q * (learning_rate * self._scale**2)
        self._w_h -= h_before.T @ q_step
        self._b -= q_step.sum(0)
        for word, row in zip(words, q_step, strict=True):  # one at a time: a word may occur twice
            self._w_x[word] -= row
        np.dot((h_and_1 * self.dtype.type(learning_rate)).T, self._z[:T], out=self._d_step)
        self._d -= self._d_step
        return loss

    def gradients(self, sentence: Sequence[int]) -> tuple[float, dict[str, Array]]:
        """Return the summed nll of a sentence and its derivative by each weight but ``rnn.bias_hh_l0``, by name."""
        words, T = sentence[:-1], len(sentence) - 1
        loss = self._forward(sentence)
        da = self._backward(T) * self._scale
        dw_x = np.zeros_like(self._w_x)
        np.add.at(dw_x, list(words), da)
        dd = self._h[1 : T + 1].T @ self._z[:T]
        return loss, {
            "rnn.weight_ih_l0": self._in_order(dw_x),
            "rnn.weight_hh_l0": self._in_order(self._h[:T, : self.H].T @ da),
            "rnn.bias_ih_l0": self._in_order(da.sum(0)),
            "decoder.weight": np.ascontiguousarray(dd[:-1].T),
            "decoder.bias": dd[-1],
        }

    def _forward(self, sentence: Sequence[int]) -> float:
        """Read a sentence; store every step's gates, c, h, and the derivative of the loss by the logits."""
        T, H = len(sentence) - 1, self.H
        if self._room < T:
            self._reserve(2 * T)
        z, targets, steps = self._z[:T], list(sentence[1:]), np.arange(T)
        a_x = self._w_x[list(sentence[:-1])]
        a_x += self._b
        w_h, products, add, multiply, tanh = self._w_h, self._products, np.add, np.multiply, np.tanh
        c_i, c_f = products[:H], products[H:]
        half = self.dtype.type(0.5)
        for t, a in enumerate(a_x):
            gates, sigmoids = self._gates_at[t], self._sigmoids_at[t]
            np.dot(self._h_at[t], w_h, out=gates)
            add(gates, a, out=gates)  # (1)
            tanh(gates, out=gates)  # (4)
            multiply(sigmoids, half, out=sigmoids)
            add(sigmoids, half, out=sigmoids)  # (2, 3, 5)
            multiply(self._i_f_at[t], self._g_c_at[t], out=products)
            c = self._c_at[t + 1]
            add(c_i, c_f, out=c)  # (6)
            tanh(c, out=self._tanh_c_at[t])
            multiply(self._o_at[t], self._tanh_c_at[t], out=self._h_at[t + 1])  # (7)
        T_4 = _round_up(T)
        np.dot(self._h[1 : T_4 + 1], self._d, out=self._z[:T_4])
        return _softmax_and_nll(z, steps, targets)

    def _backward(self, T: int) -> Array:
        """Backpropagate through the steps stored by ``_forward``; return the derivative by tanh's inputs, (T, 4H)."""
        H, q = self.H, self._q[:T]
        row, tanh_c = self._row[:T], self._tanh_c[:T]
        o, g, c_before = row[:, :H], row[:, 3 * H : 4 * H], row[:, 4 * H :]
        slope = row[:, : 3 * H] * (1 - row[:, : 3 * H])
        slope += slope  # of ½ + ½ tanh(a): 2 σ (1 − σ)
        factor = np.empty((T, 3, H), self.dtype)
        factor[:, 0] = g * slope[:, H : 2 * H]  # (6, 2)
        factor[:, 1] = c_before * slope[:, 2 * H :]  # (6, 3)
        factor[:, 2] = row[:, H : 2 * H] * (1 - g * g)  # (6, 4)
        o_factor = tanh_c * slope[:, :H]  # (7, 5)
        c_factor = o * (1 - tanh_c * tanh_c)  # (7)
        dy = (self._d[:H] @ self._z[: _round_up(T)].T).T  # (9)
        dh, dc, part = np.zeros((3, H), self.dtype)
        w_h, multiply, add = self._w_h, np.multiply, np.add
        for t in range(T - 1, -1, -1):
            add(dh, dy[t], out=dh)
            multiply(dh, c_factor[t], out=part)
            add(dc, part, out=dc)
            multiply(dh, o_factor[t], out=self._q_o_at[t])
            multiply(dc, factor[t], out=self._q_ifg_at[t])
            multiply(dc, self._f_at[t], out=dc)  # (6), from here on dc'
            np.dot(w_h, self._q_at[t], out=dh)  # (1), from here on dh'
        return q

    def nll(self, sentences: Sequence[Sequence[int]]) -> tuple[float, int]:
        """Return the summed nll of sentences in nats, and the number of predicted tokens; batches equal lengths."""
        by_length: dict[int, list[Sequence[int]]] = {}
        for sentence in sentences:
            by_length.setdefault(len(sentence), []).append(sentence)
        total, tokens = 0.0, 0
        for length, alike in sorted(by_length.items()):
            at_once = max(1, _ROWS_AT_ONCE // (length - 1))
            for start in range(0, len(alike), at_once):
                ids = np.array(alike[start : start + at_once]).T
                total += self._batch_nll(ids)
                tokens += ids[1:].size
        return total, tokens

    def _batch_nll(self, ids: Array) -> float:
        """Return the summed nll of B sentences of one length, ids (T + 1, B)."""
        (T, B), H = (len(ids) - 1, ids.shape[1]), self.H
        y = np.ones((T, B, H + 1), self.dtype)
        h, c = np.zeros((2, B, H), self.dtype)
        half = self.dtype.type(0.5)
        for t in range(T):
            gates = np.tanh(self._w_x[ids[t]] + self._b + h @ self._w_h)
            gates[:, : 3 * H] = half * gates[:, : 3 * H] + half
            o, i, f, g = np.split(gates, 4, axis=1)
            c = f * c + i * g
            h = y[t, :, :H] = o * np.tanh(c)
        z = y.reshape(T * B, H + 1) @ self._d
        return _softmax_and_nll(z, np.arange(T * B), ids[1:].ravel())

    def _reserve(self, steps: int) -> None:
        """Allocate arrays for sentences of ``steps`` steps, and the views of each step, which are slow to create."""
        H, dtype = self.H, self.dtype
        self._room = steps = _round_up(steps)
        self._z = np.zeros((steps, self.V), dtype)
        self._row = np.zeros((steps + 1, 5 * H), dtype)  # o, i, f, g, and c before the step
        self._h = np.ones((steps + 1, H + 1), dtype)
        self._h[0, :H] = 0
        self._tanh_c, self._q = np.empty((steps, H), dtype), np.empty((steps, 4 * H), dtype)
        self._products = np.empty(2 * H, dtype)
        row = self._row
        self._gates_at, self._sigmoids_at = list(row[:, : 4 * H]), list(row[:, : 3 * H])
        self._o_at, self._f_at = list(row[:, :H]), list(row[:, 2 * H : 3 * H])
        self._i_f_at, self._g_c_at, self._c_at = list(row[:, H : 3 * H]), list(row[:, 3 * H :]), list(row[:, 4 * H :])
        self._h_at, self._tanh_c_at, self._q_at = list(self._h[:, :H]), list(self._tanh_c), list(self._q)
        self._q_o_at, self._q_ifg_at = list(self._q[:, :H]), list(self._q[:, H:].reshape(steps, 3, H))

    def _inward(self, weight: Array) -> Array:
        """Convert (4H, n) or (4H,) in the spec's order to (n, 4H) or (4H,) in this model's order, halved."""
        blocks = dict(zip(CELLS["lstm"].gates, np.split(weight, 4), strict=True))
        turned: Array = np.array(np.concatenate([blocks[gate] for gate in _ORDER]).T, order="C")
        turned *= self._scale
        return turned

    def _outward(self, weight: Array) -> Array:
        """Invert ``_inward``."""
        return self._in_order(weight / self._scale)

    def _in_order(self, array: Array) -> Array:
        """Convert from this model's order to the spec's, and transpose."""
        blocks = dict(zip(_ORDER, np.split(array.T, 4), strict=True))
        return np.ascontiguousarray(np.concatenate([blocks[gate] for gate in CELLS["lstm"].gates]))


def _round_up(steps: int) -> int:
    """Return the next multiple of 4: products with D are done in blocks of four, and stale extra rows are harmless."""
    return -(-steps // 4) * 4


def _softmax_and_nll(z: Array, rows: Array, targets: Sequence[int] | Array) -> float:
    """Return the summed nll of logits (N, V); replace them by their derivative ``softmax(z) − onehot``."""
    z -= z.max(1, keepdims=True)  # does not change the result, and keeps exp from overflowing
    at_target = z[rows, targets]
    np.exp(z, out=z)
    total = z.sum(1, keepdims=True)
    nll = np.log(total).sum(dtype=float) - at_target.sum(dtype=float)
    z *= 1 / total
    z[rows, targets] -= 1
    return float(nll)


def weight_shapes(vocabulary_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
    """Return every weight's shape by its name in a run folder."""
    V, H = vocabulary_size, hidden_size
    return {
        "rnn.weight_ih_l0": (4 * H, V),
        "rnn.weight_hh_l0": (4 * H, H),
        "rnn.bias_ih_l0": (4 * H,),
        "rnn.bias_hh_l0": (4 * H,),
        "decoder.weight": (V, H),
        "decoder.bias": (V,),
    }


def initial_weights(vocabulary_size: int, hidden_size: int, seed: int) -> dict[str, Array]:
    """Draw float32 weights: W_ih and b uniform in ±1/√V, W_hh, D and e in ±1/√H; ``rnn.bias_hh_l0`` is zero."""
    V, H = vocabulary_size, hidden_size
    random = np.random.default_rng(seed)

    def uniform(width: int, *shape: int) -> Array:
        return random.uniform(-(width**-0.5), width**-0.5, shape).astype(np.float32)

    return {
        "rnn.weight_ih_l0": uniform(V, 4 * H, V),
        "rnn.weight_hh_l0": uniform(H, 4 * H, H),
        "rnn.bias_ih_l0": uniform(V, 4 * H),
        "rnn.bias_hh_l0": np.zeros(4 * H, np.float32),
        "decoder.weight": uniform(H, V, H),
        "decoder.bias": uniform(H, V),
    }
