"""The loops of the cells over the steps, in tensor operations on packed rows; symbols and numbers as in the reference.

A cell without a loop here runs by its step function in ``gatewise.engines.steps``.

What does not depend on the previous step is computed for all steps at once, outside the loop: the product with the
input, and in the backward pass every factor that depends on the forward pass only. ``a`` and the saved tensors are
(N, …), N the sum of the counts; each step processes their next ``n`` rows and the first ``n`` rows of the state.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gatewise.engines.torch.packing import Packing

Params = Mapping[str, Tensor | None]
"""The parameters of the cell by name: weights in the dtype of products, biases in that of the gates."""


class Steps(NamedTuple):
    """The results of a forward loop."""

    y: Tensor
    """(N, P)"""
    others: list[Tensor]
    """The final states except h, with the rows in the order of the loop"""
    saved: list[Tensor]
    """The tensors that the backward loop reads"""
    trace: list[Tensor]
    """The cell's ``trace_parts``, (N, …), if they are kept"""


class Derivatives(NamedTuple):
    """The results of a backward loop; it replaces the gradients of the final states by those of the initial states."""

    da: Tensor
    """(N, G), with respect to W_ih x + b_ih"""
    du: Tensor
    """(N, G), with respect to W_hh h' + b_hh"""
    outer: dict[str, tuple[Tensor, Tensor]]
    """For each further weight, the factors of the outer products whose sum is its gradient"""


class Loop(NamedTuple):
    """The loops of a cell; ``kept`` returns the widths of the saved tensors, given H and whether it is projected."""

    forward: Callable[[Tensor, Sequence[Tensor], Params, Tensor | None, Packing, bool], Steps]
    backward: Callable[
        [Tensor, Sequence[Tensor], Sequence[Tensor], Tensor, Tensor, list[Tensor], Params, Tensor | None, Packing],
        Derivatives,
    ]
    kept: Callable[[int, bool], list[int]]


sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input


def lstm_forward(
    a: Tensor, state: Sequence[Tensor], params: Params, mask: Tensor | None, rows: Packing, keep: bool
) -> Steps:
    """Run the steps; ``a``, which holds W_ih x + b, becomes the gates. Saves the gates, c and, if projected, s."""
    (h, c_0), w_hh, w_hr = state, params["weight_hh"], params["weight_hr"]
    assert w_hh is not None
    c, H = c_0, c_0.shape[1]
    s_kept = keep and w_hr is not None
    y, s = a.new_empty(len(a), h.shape[1]), a.new_empty(len(a) if s_kept else len(c), H)
    c_kept = a.new_empty(len(a), H) if keep else c.clone()
    w_hh, w_hr = w_hh.t(), None if w_hr is None else w_hr.t()
    gates = [part.split_with_sizes(rows.counts) for part in (a, a[:, : 2 * H], *a.chunk(4, 1))]
    place = 0
    for a_t, i_f, i, f, g, o, y_t in zip(*gates, y.split_with_sizes(rows.counts), strict=True):
        n = len(a_t)
        c_t = c_kept[place : place + n] if keep else c_kept[:n]
        c_before = c[:n] if keep else c_t
        s_t = s[place : place + n] if s_kept else s[:n]
        add_product(a_t, masked(h[:n], mask), w_hh)  # (1)
        i_f.sigmoid_()  # (2), (3)
        g.tanh_()  # (4)
        o.sigmoid_()  # (5)
        torch.mul(f, c_before, out=c_t).addcmul_(i, g)  # (6)
        if w_hr is None:
            torch.tanh(c_t, out=y_t).mul_(o)  # (7), (8)
        else:
            torch.tanh(c_t, out=s_t).mul_(o)  # (7)
            set_product(y_t, s_t, w_hr)  # (8)
        h, c, place = y_t, c_t, place + n
    c_n = rows.at_end(c_kept, c_0) if keep else c_kept
    return Steps(y, [c_n], [a, c_kept, *([] if w_hr is None else [s])], [a, c_kept])


def lstm_backward(
    dy: Tensor,
    dstate: Sequence[Tensor],
    state: Sequence[Tensor],
    y: Tensor,
    h_before: Tensor,
    saved: list[Tensor],
    params: Params,
    mask: Tensor | None,
    rows: Packing,
) -> Derivatives:
    """Run the steps in reverse."""
    (dh, dc), (_, c_0), w_hh, w_hr = dstate, state, params["weight_hh"], params["weight_hr"]
    assert w_hh is not None
    a, c = saved[:2]
    H = c.shape[1]
    i, f, g, o = a.chunk(4, 1)
    tanh_c = c.tanh()
    # da starts as the factor of dc, and for o of ds, in (7) and (6) and then in (5) to (2).
    da = torch.empty_like(a)
    da_i, da_f, da_g, da_o = da.chunk(4, 1)
    sigmoid_backward(g, i, grad_input=da_i)
    sigmoid_backward(rows.step_before(c, c_0), f, grad_input=da_f)
    tanh_backward(i, g, grad_input=da_g)
    sigmoid_backward(tanh_c, o, grad_input=da_o)
    beside_ds = tanh_backward(o, tanh_c, grad_input=tanh_c)  # in (7); tanh_c is not read again
    dh_kept = dy if w_hr is None else torch.empty_like(dy)
    parts = (dy, dh_kept, da, da.view(len(da), 4, H)[:, :3], da_o, f, beside_ds)
    steps = zip(*(part.split_with_sizes(rows.counts) for part in parts), strict=True)
    for dy_t, dh_t, da_t, da_ifg, da_o_t, f_t, beside_ds_t in reversed(list(steps)):
        n = len(dy_t)
        dh_n, dc_n = dh[:n], dc[:n]
        dh_n.add_(dy_t)
        ds = dh_n
        if w_hr is not None:
            dh_t.copy_(dh_n)
            ds = set_product(torch.empty_like(dc_n), dh_n, w_hr)  # (8)
        dc_n.addcmul_(ds, beside_ds_t)  # (7)
        da_o_t.mul_(ds)  # (7), (5)
        da_ifg.mul_(dc_n.unsqueeze(1))  # (6), (4), (3), (2)
        dc_n.mul_(f_t)  # (6)
        set_product(dh_n, da_t, w_hh)  # (1)
        if mask is not None:
            dh_n.mul_(mask[:n])  # (1)
    return Derivatives(da, da, {} if w_hr is None else {"weight_hr": (dh_kept, saved[2])})  # (8)


def gru_forward(
    a: Tensor, state: Sequence[Tensor], params: Params, mask: Tensor | None, rows: Packing, keep: bool
) -> Steps:
    """Run the steps; ``a``, which holds W_ih x + b_ih, becomes the gates. Saves the gates and W_hn h' + b_hn."""
    (h,), w_hh, b_hh = state, params["weight_hh"], params["bias_hh"]
    assert w_hh is not None
    H = h.shape[1]
    y, u_n = a.new_empty(len(a), H), a.new_empty(len(a) if keep else 0, H)
    u = a.new_empty(len(h), 3 * H)
    w_hh = w_hh.t()
    place = 0
    for a_t, y_t in zip(a.split_with_sizes(rows.counts), y.split_with_sizes(rows.counts), strict=True):
        n = len(a_t)
        u_t, h_before = u[:n], h[:n]
        set_product(u_t, masked(h_before, mask), w_hh)  # (2)
        if b_hh is not None:
            u_t.add_(b_hh)  # (2)
        a_t[:, : 2 * H].add_(u_t[:, : 2 * H]).sigmoid_()  # (3), (4)
        r, z, n_ = a_t.chunk(3, 1)
        n_.addcmul_(r, u_t[:, 2 * H :]).tanh_()  # (5)
        torch.lerp(n_, h_before, z, out=y_t)  # (6)
        if keep:
            u_n[place : place + n] = u_t[:, 2 * H :]
        h, place = y_t, place + n
    return Steps(y, [], [a, u_n], [a])


def gru_backward(
    dy: Tensor,
    dstate: Sequence[Tensor],
    state: Sequence[Tensor],
    y: Tensor,
    h_before: Tensor,
    saved: list[Tensor],
    params: Params,
    mask: Tensor | None,
    rows: Packing,
) -> Derivatives:
    """Run the steps in reverse."""
    (dh,), w_hh = dstate, params["weight_hh"]
    assert w_hh is not None
    a, u_n = saved
    H = dh.shape[1]
    r, z, n = a.chunk(3, 1)
    # du starts as the factor of dh in (6) and then in (4) and (5), and for r of da_n in (5) and then in (3).
    du, da_n = torch.empty_like(a), torch.empty_like(n)
    du_r, du_z, du_n = du.chunk(3, 1)
    sigmoid_backward(u_n, r, grad_input=du_r)
    sigmoid_backward(h_before - n, z, grad_input=du_z)
    tanh_backward(1 - z, n, grad_input=du_n)
    parts = (dy, da_n, du, du_r, du_z, du_n, r, z)
    steps = zip(*(part.split_with_sizes(rows.counts) for part in parts), strict=True)
    for dy_t, da_n_t, du_t, du_r_t, du_z_t, du_n_t, r_t, z_t in reversed(list(steps)):
        dh_n = dh[: len(dy_t)]
        dh_n.add_(dy_t)
        torch.mul(du_n_t, dh_n, out=da_n_t)  # (6), (5)
        torch.mul(da_n_t, r_t, out=du_n_t)  # (5)
        du_r_t.mul_(da_n_t)  # (5), (3)
        du_z_t.mul_(dh_n)  # (6), (4)
        dh_n.mul_(z_t)  # (6)
        if mask is None:
            add_product(dh_n, du_t, w_hh)  # (2)
        else:
            dh_n.addcmul_(set_product(torch.empty_like(dh_n), du_t, w_hh), mask[: len(dh_n)])  # (2)
    return Derivatives(torch.cat([du[:, : 2 * H], da_n], 1), du, {})


def rnn_forward(
    a: Tensor,
    state: Sequence[Tensor],
    params: Params,
    mask: Tensor | None,
    rows: Packing,
    keep: bool,
    *,
    nonlinearity: str,
) -> Steps:
    """Run the steps; ``a``, which holds W_ih x + b, becomes y; the backward loop reads nothing else."""
    (h,), w_hh = state, params["weight_hh"]
    assert w_hh is not None
    w_hh = w_hh.t()
    for a_t in a.split_with_sizes(rows.counts):
        add_product(a_t, masked(h[: len(a_t)], mask), w_hh)  # (1)
        h = a_t.tanh_() if nonlinearity == "tanh" else a_t.relu_()  # (2)
    return Steps(a, [], [], [])


def rnn_backward(
    dy: Tensor,
    dstate: Sequence[Tensor],
    state: Sequence[Tensor],
    y: Tensor,
    h_before: Tensor,
    saved: list[Tensor],
    params: Params,
    mask: Tensor | None,
    rows: Packing,
    *,
    nonlinearity: str,
) -> Derivatives:
    """Run the steps in reverse."""
    (dh,), w_hh = dstate, params["weight_hh"]
    assert w_hh is not None
    slope = 1 - y * y if nonlinearity == "tanh" else (~(y <= 0)).to(y.dtype)  # (2), propagates NaN
    da = torch.empty_like(y)
    steps = zip(*(part.split_with_sizes(rows.counts) for part in (dy, da, slope)), strict=True)
    for dy_t, da_t, slope_t in reversed(list(steps)):
        dh_n = dh[: len(dy_t)]
        dh_n.add_(dy_t)
        torch.mul(dh_n, slope_t, out=da_t)  # (2)
        set_product(dh_n, da_t, w_hh)  # (1)
        if mask is not None:
            dh_n.mul_(mask[: len(dh_n)])  # (1)
    return Derivatives(da, da, {})


LOOPS = {
    "lstm": Loop(lstm_forward, lstm_backward, lambda H, projected: [4 * H, H, *([H] if projected else [])]),
    "gru": Loop(gru_forward, gru_backward, lambda H, projected: [3 * H, H]),
    **{
        f"rnn_{kind}": Loop(
            partial(rnn_forward, nonlinearity=kind), partial(rnn_backward, nonlinearity=kind), lambda H, projected: []
        )
        for kind in ("tanh", "relu")
    },
}
"""The loops of each cell by name."""


def masked(h: Tensor, mask: Tensor | None) -> Tensor:
    """Return ``m·h``."""
    return h if mask is None else h * mask[: len(h)]


def add_product(into: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Add the product a b, with operands in the dtype of b."""
    return into.addmm_(a, b) if into.dtype == a.dtype == b.dtype else into.add_(torch.mm(a.to(b.dtype), b))


def set_product(into: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Overwrite with the product a b, with operands in the dtype of b."""
    return torch.mm(a, b, out=into) if into.dtype == a.dtype == b.dtype else into.copy_(torch.mm(a.to(b.dtype), b))
