"""The pass once more, out of operations that PyTorch can differentiate as often as asked: for derivatives of gradients.

Letters and numbers as in the reference. Rows that are past their length keep their state; a pass from the end begins
with the rows that reach it.
"""

import torch
from torch import Tensor

from gatewise.kernels.contract import LayerInputs, LayerOptions, work_dtype


def differentiable_forward(inputs: LayerInputs, options: LayerOptions) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, h_n and c_n as the contract says."""
    x, h_0, c_0, w_ih, w_hh, b_ih, b_hh, w_hr, h_mask, lengths = inputs
    T, dtype, factors = len(x), work_dtype(inputs), options.products or h_0.dtype

    def product(left: Tensor, right: Tensor) -> Tensor:
        return (left.to(factors) @ right.to(factors).t()).to(dtype)

    at_work = None if lengths is None else torch.arange(T, device=x.device)[:, None] < lengths.to(x.device)
    if at_work is not None:  # what stands past a length may be NaN, and 0 · NaN would reach the weights' gradients
        x = torch.where(at_work[..., None], x, 0)
    biased = b_ih is not None and b_hh is not None
    a = product(x, w_ih)
    if biased:
        a = a + (b_ih if options.cell == "gru" else b_ih + b_hh).to(dtype)  # type: ignore[operator,union-attr]
    h, c = h_0.to(dtype), h_0.new_empty(0, dtype=dtype) if c_0 is None else c_0.to(dtype)
    y: list[Tensor] = [h] * T
    for t in reversed(range(T)) if options.reverse else range(T):
        h_masked = h if h_mask is None else h * h_mask.to(dtype)
        u = product(h_masked, w_hh)  # (1), of the GRU (2)
        h_before, c_before = h, c
        if options.cell == "lstm":
            a_i, a_f, a_g, a_o = (a[t] + u).chunk(4, 1)
            c = a_f.sigmoid() * c_before + a_i.sigmoid() * a_g.tanh()  # (2), (3), (4), (6)
            h = a_o.sigmoid() * c.tanh()  # (5), (7)
            if w_hr is not None:
                h = product(h, w_hr)  # (8)
        elif options.cell == "gru":
            u_r, u_z, u_n = (u if b_hh is None else u + b_hh.to(dtype)).chunk(3, 1)
            a_r, a_z, a_n = a[t].chunk(3, 1)
            r, z = (a_r + u_r).sigmoid(), (a_z + u_z).sigmoid()  # (3), (4)
            n = (a_n + r * u_n).tanh()  # (5)
            h = (1 - z) * n + z * h_before  # (6)
        else:
            h = (a[t] + u).tanh() if options.cell == "rnn_tanh" else (a[t] + u).relu()  # (2)
        y[t] = h
        if at_work is not None:
            active = at_work[t][:, None]
            y[t] = torch.where(active, h, 0)
            h = torch.where(active, h, h_before)
            c = torch.where(active, c, c_before) if c_0 is not None else c
    out = h_0.dtype
    stacked = torch.stack(y) if T else h.new_zeros(0, *h.shape)
    return stacked.to(out), h.to(out), c.to(out)
