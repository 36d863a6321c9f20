"""One step of each cell in PyTorch operations, which can be differentiated, transformed and traced.

Symbols and step numbers are those of the reference.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

Product = Callable[[Tensor, Tensor], Tensor]
"""``x Wᵀ``, with operands in the compute type of the pass."""

Step = Callable[
    [Tensor, Tensor, Sequence[Tensor], dict[str, Tensor | None], Product], tuple[Sequence[Tensor], list[Tensor]]
]
"""Takes ``a = W_ih x + b_ih`` and ``u = W_hh (m·h') + b_hh``, both (B, G), the previous state, the parameters by name
and the product; returns the next state and the gates after their activation."""


def lstm(
    a: Tensor, u: Tensor, state: Sequence[Tensor], params: dict[str, Tensor | None], product: Product
) -> tuple[Sequence[Tensor], list[Tensor]]:
    """Run one step of an LSTM."""
    a_i, a_f, a_g, a_o = (a + u).chunk(4, 1)  # (1)
    i, f, g, o = a_i.sigmoid(), a_f.sigmoid(), a_g.tanh(), a_o.sigmoid()  # (2), (3), (4), (5)
    c = f * state[1] + i * g  # (6)
    h = o * c.tanh()  # (7)
    w_hr = params["weight_hr"]
    return (h if w_hr is None else product(h, w_hr), c), [i, f, g, o]  # (8)


def gru(
    a: Tensor, u: Tensor, state: Sequence[Tensor], params: dict[str, Tensor | None], product: Product
) -> tuple[Sequence[Tensor], list[Tensor]]:
    """Run one step of a GRU."""
    (a_r, a_z, a_n), (u_r, u_z, u_n) = a.chunk(3, 1), u.chunk(3, 1)  # (1), (2)
    r, z = (a_r + u_r).sigmoid(), (a_z + u_z).sigmoid()  # (3), (4)
    n = (a_n + r * u_n).tanh()  # (5)
    return ((1 - z) * n + z * state[0],), [r, z, n]  # (6)


def rnn_tanh(
    a: Tensor, u: Tensor, state: Sequence[Tensor], params: dict[str, Tensor | None], product: Product
) -> tuple[Sequence[Tensor], list[Tensor]]:
    """Run one step of a plain RNN with tanh."""
    h = (a + u).tanh()  # (1), (2)
    return (h,), [h]


def rnn_relu(
    a: Tensor, u: Tensor, state: Sequence[Tensor], params: dict[str, Tensor | None], product: Product
) -> tuple[Sequence[Tensor], list[Tensor]]:
    """Run one step of a plain RNN with relu."""
    h = (a + u).relu()  # (1), (2)
    return (h,), [h]


STEPS: dict[str, Step] = {"lstm": lstm, "gru": gru, "rnn_tanh": rnn_tanh, "rnn_relu": rnn_relu}
"""The step function of each cell by name."""
