"""The pass, and the loss, once more: out of operations that PyTorch can differentiate as often as asked, and transform.

For derivatives of gradients, and wherever no engine can be given the tensors (``contexts.is_plain``).

Letters and numbers as in the reference. Rows that are past their length keep their state; a pass from the end begins
with the rows that reach it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from gatewise.kernels.contract import LayerInputs, LayerOptions, LayerOutputs, work_dtype


def gradients_again(
    function: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    upstream: Sequence[Tensor],
) -> list[Tensor | None]:
    """Differentiate ``function``, run once more; the result has a graph of its own where grad mode is on.

    Args:
        function: of all inputs; made of PyTorch's operations.
        inputs: what it reads.
        needed: of the first inputs, whether their gradients are asked for; None is returned of those that are not.
        upstream: the derivative of the loss by each of its outputs.
    """
    again = torch.is_grad_enabled()
    wanted = [n and t is not None for n, t in zip(needed, inputs, strict=False)]
    with torch.enable_grad():
        # Views, so that each input counts for itself where one tensor was given twice.
        own = [t.view_as(t) if n and t is not None else t for t, n in zip(inputs, wanted, strict=False)]
        pairs = [(o, d) for o, d in zip(function(*own, *inputs[len(own) :]), upstream, strict=True) if o.requires_grad]
    leaves = [t for t, n in zip(own, wanted, strict=True) if n and t is not None]
    outputs, weights = [o for o, _ in pairs], [d for _, d in pairs]
    found = iter(torch.autograd.grad(outputs, leaves, weights, create_graph=again, allow_unused=True))
    return [next(found) if n else None for n in wanted]


def differentiable_forward(inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
    """Return what the contract says; there is nothing to be saved."""
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
    traced = [list(y), list(y)]  # the gates, an LSTM's c
    for t in reversed(range(T)) if options.reverse else range(T):
        h_masked = h if h_mask is None else h * h_mask.to(dtype)
        u = product(h_masked, w_hh)  # (1), of the GRU (2)
        h_before, c_before = h, c
        if options.cell == "lstm":
            a_i, a_f, a_g, a_o = (a[t] + u).chunk(4, 1)
            i, f, g, o = a_i.sigmoid(), a_f.sigmoid(), a_g.tanh(), a_o.sigmoid()  # (2), (3), (4), (5)
            c = f * c_before + i * g  # (6)
            h = o * c.tanh()  # (7)
            gates = [i, f, g, o]
            if w_hr is not None:
                h = product(h, w_hr)  # (8)
        elif options.cell == "gru":
            u_r, u_z, u_n = (u if b_hh is None else u + b_hh.to(dtype)).chunk(3, 1)
            a_r, a_z, a_n = a[t].chunk(3, 1)
            r, z = (a_r + u_r).sigmoid(), (a_z + u_z).sigmoid()  # (3), (4)
            n = (a_n + r * u_n).tanh()  # (5)
            h = (1 - z) * n + z * h_before  # (6)
            gates = [r, z, n]
        else:
            h = (a[t] + u).tanh() if options.cell == "rnn_tanh" else (a[t] + u).relu()  # (2)
            gates = []
        y[t] = h
        if options.trace and gates:
            traced[0][t], traced[1][t] = torch.cat(gates, 1), c
        if at_work is not None:
            active = at_work[t][:, None]
            y[t] = torch.where(active, h, 0)
            h = torch.where(active, h, h_before)
            c = torch.where(active, c, c_before) if c_0 is not None else c
    out = h_0.dtype

    def stacked(steps: list[Tensor], width: int) -> Tensor:
        return (torch.stack(steps) if T else h.new_zeros(0, len(h), width)).to(out)

    trace = []
    if options.trace and options.cell in ("lstm", "gru"):
        trace = [stacked(traced[0], len(w_ih))] + ([stacked(traced[1], c.shape[-1])] if c_0 is not None else [])
        if at_work is not None:
            trace = [torch.where(at_work[..., None], t, 0) for t in trace]
    return LayerOutputs(stacked(y, h.shape[-1]), h.to(out), c.to(out), [], trace)


def differentiable_loss(
    x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, scale: float, products: torch.dtype
) -> Tensor:
    """Return what ``gatewise.nn.linear_cross_entropy`` does; all logits are held at a time."""
    z = F.linear(x.to(products), weight.to(products), bias.to(products))
    z = z.to(torch.promote_types(x.dtype, torch.float32))
    return (z.logsumexp(1) - z.gather(1, targets.long()[:, None])[:, 0]).sum() * scale
