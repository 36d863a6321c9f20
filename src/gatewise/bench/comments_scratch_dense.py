"""The peer of ``comments-scratch``: an LSTM in dense algebra, step by step in a Python loop, with four faults.

It follows a well-known tutorial: one matrix per gate, words as vectors of V numbers, every gradient a dense matrix
accumulated at every step, every matrix updated in full. Each of the tutorial's faults can be disabled, to verify that
the rest is correct; with all disabled, the gradients are the true ones.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from gatewise.reference import Array
from gatewise.spec import CELLS

FAULTS = {
    "hidden": "no gradient flows back through the gates to the earlier hidden state",
    "forget": "the cell's gradient is propagated back without the forget gate",
    "outer": "the recurrent matrices receive an elementwise product instead of an outer product",
    "columns": "the input matrices' gradient is multiplied by the word's id and added to every column",
}
"""The tutorial's faults: a short name and a description."""

_GATES = CELLS["lstm"].gates


class DenseLSTM:
    """The language model of ``gatewise.scratch`` in float64, as dense algebra.

    Args:
        weights: arrays by their names in a run folder.
        faults: the names of the faults to include.
    """

    def __init__(self, weights: Mapping[str, Array], faults: Collection[str] = tuple(FAULTS)) -> None:
        self.faults = frozenset(faults)
        cut = {name: np.array_split(weights[f"rnn.{name}_l0"].astype(float), 4) for name in _RNN}
        self.w = {gate: cut["weight_ih"][k] for k, gate in enumerate(_GATES)}
        self.u = {gate: cut["weight_hh"][k] for k, gate in enumerate(_GATES)}
        self.b = {gate: cut["bias_ih"][k] for k, gate in enumerate(_GATES)}
        self.d = weights["decoder.weight"].astype(float)
        self.e = weights["decoder.bias"].astype(float)

    @property
    def weights(self) -> dict[str, Array]:
        """Return the weights by their names in a run folder."""
        return _named(self.w, self.u, self.b, self.d, self.e)

    def forward(self, sentence: Sequence[int]) -> tuple[float, list[dict[str, Array]]]:
        """Read a sentence from its start token on; return the summed nll of the tokens after it, and every step."""
        V, H = self.d.shape
        h, c, loss, steps = np.zeros(H), np.zeros(H), 0.0, []
        for word, target in pairwise(sentence):
            x = np.zeros(V)
            x[word] = 1
            a = {gate: self.w[gate] @ x + self.u[gate] @ h + self.b[gate] for gate in _GATES}
            step = {gate: np.tanh(a[gate]) if gate == "g" else 1 / (1 + np.exp(-a[gate])) for gate in _GATES}
            step |= {"x": x, "h_before": h, "c_before": c}
            c = step["f"] * c + step["i"] * step["g"]
            h = step["o"] * np.tanh(c)
            z = self.d @ h + self.e
            p = np.exp(z - z.max())
            p /= p.sum()
            loss -= float(np.log(p[target]))
            steps.append({**step, "c": c, "h": h, "p": p})
        return loss, steps

    def gradients(self, sentence: Sequence[int]) -> tuple[float, dict[str, Array]]:
        """Return the loss and its gradients by the names of the weights, including faults."""
        loss, steps = self.forward(sentence)
        dw, du, db = ({gate: np.zeros_like(m) for gate, m in part.items()} for part in (self.w, self.u, self.b))
        dd, de = np.zeros_like(self.d), np.zeros_like(self.e)
        dh_after, dc_after = np.zeros(self.d.shape[1]), np.zeros(self.d.shape[1])
        for t in reversed(range(len(steps))):
            s = steps[t]
            dz = s["p"].copy()
            dz[sentence[t + 1]] -= 1
            dd += np.outer(dz, s["h"])
            de += dz
            dh = self.d.T @ dz + dh_after
            tanh_c = np.tanh(s["c"])
            dc = dh * s["o"] * (1 - tanh_c**2) + dc_after
            da = {
                "i": dc * s["g"] * s["i"] * (1 - s["i"]),
                "f": dc * s["c_before"] * s["f"] * (1 - s["f"]),
                "g": dc * s["i"] * (1 - s["g"] ** 2),
                "o": dh * tanh_c * s["o"] * (1 - s["o"]),
            }
            for gate in _GATES:
                column = da[gate][:, None]
                dw[gate] += column * (sentence[t] if "columns" in self.faults else s["x"])
                du[gate] += column * (s["h_before"][:, None] if "outer" in self.faults else s["h_before"])
                db[gate] += da[gate]
            dc_after = dc if "forget" in self.faults else dc * s["f"]
            if "hidden" not in self.faults:
                dh_after = sum((self.u[gate].T @ da[gate] for gate in _GATES), np.zeros_like(dh))
        return loss, _named(dw, du, db, dd, de)

    def step(self, sentence: Sequence[int], learning_rate: float) -> float:
        """Do one SGD step; return the loss before it."""
        loss, gradients = self.gradients(sentence)
        for name, part in _RNN.items():
            for k, gate in enumerate(_GATES):
                H = self.d.shape[1]
                getattr(self, part)[gate] -= learning_rate * gradients[f"rnn.{name}_l0"][k * H : (k + 1) * H]
        self.d -= learning_rate * gradients["decoder.weight"]
        self.e -= learning_rate * gradients["decoder.bias"]
        return loss


_RNN = {"weight_ih": "w", "weight_hh": "u", "bias_ih": "b"}


def _named(
    w: Mapping[str, Array], u: Mapping[str, Array], b: Mapping[str, Array], d: Array, e: Array
) -> dict[str, Any]:
    """Stack the gates' blocks in the order of the spec, under the names of a run folder."""
    parts = {"weight_ih": w, "weight_hh": u, "bias_ih": b}
    rnn = {f"rnn.{name}_l0": np.concatenate([part[gate] for gate in _GATES]) for name, part in parts.items()}
    return {**rnn, "decoder.weight": d, "decoder.bias": e}
