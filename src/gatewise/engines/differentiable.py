"""The pass and the loss in PyTorch operations, which can be differentiated any number of times and transformed.

Used for higher derivatives, and wherever an engine cannot take the tensors (``contexts.is_plain``).

Symbols and step numbers are those of the reference. A row keeps its state past its length; a reverse pass begins with
the rows that reach the last step.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from gatewise.engines.contract import LayerInputs, LayerOptions, LayerOutputs, LossInputs, work_dtype
from gatewise.engines.steps import STEPS


def gradients_again(
    function: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    upstream: Sequence[Tensor],
) -> list[Tensor | None]:
    """Rerun ``function`` and differentiate it; in grad mode, the result can be differentiated again.

    Args:
        function: a function of all inputs, in PyTorch operations.
        inputs: its arguments.
        needed: for each of the first inputs, whether its gradient is needed; None is returned for one that is not.
        upstream: the gradient of the loss with respect to each output.
    """
    again = torch.is_grad_enabled()
    wanted = [n and t is not None for n, t in zip(needed, inputs, strict=False)]
    with torch.enable_grad():
        # Views, so that a tensor given twice counts as two inputs.
        own = [t.view_as(t) if n and t is not None else t for t, n in zip(inputs, wanted, strict=False)]
        pairs = [(o, d) for o, d in zip(function(*own, *inputs[len(own) :]), upstream, strict=True) if o.requires_grad]
    leaves = [t for t, n in zip(own, wanted, strict=True) if n and t is not None]
    outputs, weights = [o for o, _ in pairs], [d for _, d in pairs]
    found = iter(torch.autograd.grad(outputs, leaves, weights, create_graph=again, allow_unused=True))
    return [next(found) if n else None for n in wanted]


def layer_gradients_again(
    inputs: LayerInputs, options: LayerOptions, needed: Sequence[bool], upstream: Sequence[Tensor]
) -> list[Tensor | None]:
    """Rerun a pass by the step function of the cell and differentiate it, as ``gradients_again`` does.

    Args:
        inputs: the inputs of the pass.
        options: its options.
        needed: whether the gradient of x, of each state and of each parameter is needed.
        upstream: the gradients of y and of each final state.
    """
    states = len(inputs.state)

    def run(x: Tensor, *rest: Tensor) -> list[Tensor]:
        again = inputs._replace(x=x, state=rest[:states], params=rest[states:])
        y, last, _, _ = differentiable_forward(again, options._replace(trace=False))
        return [y, *last]

    return gradients_again(run, (inputs.x, *inputs.state, *inputs.params), needed, upstream)


def differentiable_forward(inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
    """Run one pass by the step function of the cell; ``saved`` is empty."""
    x, state, params, h_mask, lengths = inputs
    spec, T, dtype = options.about, len(x), work_dtype(inputs)
    out, factors = state[0].dtype, options.products or state[0].dtype
    step, names = STEPS[options.cell], list(spec.parameters)
    named = {
        n: p.to(dtype) if p is not None and n.startswith("bias") else p for n, p in zip(names, params, strict=True)
    }

    def product(left: Tensor, right: Tensor) -> Tensor:
        return (left.to(factors) @ right.to(factors).t()).to(dtype)

    def affine(left: Tensor, weight: str, bias: str) -> Tensor:
        w, b = named[weight], named[bias]
        assert w is not None
        return product(left, w) if b is None else product(left, w) + b

    at_work = None if lengths is None else torch.arange(T, device=x.device)[:, None] < lengths.to(x.device)
    if at_work is not None:  # x may be NaN past a length, and 0 · NaN would reach the weight gradients
        x = torch.where(at_work[..., None], x, 0)
    a = affine(x, "weight_ih", "bias_ih")
    now: Sequence[Tensor] = [part.to(dtype) for part in state]
    h_mask = None if h_mask is None else h_mask.to(dtype)
    y, traced = [now[0]] * T, [[now[0]] * T for _ in spec.trace_parts]
    for t in reversed(range(T)) if options.reverse else range(T):
        u = affine(now[0] if h_mask is None else now[0] * h_mask, "weight_hh", "bias_hh")
        before = now
        now, gates = step(a[t], u, before, named, product)
        y[t] = now[0]
        if options.trace:
            for steps, part in zip(traced, spec.trace_parts, strict=True):
                steps[t] = torch.cat(gates, 1) if part == spec.gates else now[spec.states.index(part[0])]
        if at_work is not None:
            active = at_work[t][:, None]
            y[t] = torch.where(active, y[t], 0)
            now = [torch.where(active, s, s_before) for s, s_before in zip(now, before, strict=True)]

    def stacked(steps: list[Tensor], width: int) -> Tensor:
        return (torch.stack(steps) if T else x.new_zeros(0, x.shape[1], width)).to(out)

    trace = []
    if options.trace:
        trace = [stacked(s, len(p) * inputs.units) for s, p in zip(traced, spec.trace_parts, strict=True)]
        if at_work is not None:
            trace = [torch.where(at_work[..., None], t, 0) for t in trace]
    return LayerOutputs(stacked(y, now[0].shape[-1]), tuple(s.to(out) for s in now), [], trace)


def differentiable_loss(inputs: LossInputs, scale: float, products: torch.dtype) -> Tensor:
    """Return the loss of ``gatewise.nn.linear_cross_entropy``; holds all logits at once."""
    x, weight, bias, targets = inputs
    z = F.linear(x.to(products), weight.to(products), bias.to(products))
    z = z.to(torch.promote_types(x.dtype, torch.float32))
    return (z.logsumexp(1) - z.gather(1, targets.long()[:, None])[:, 0]).sum() * scale
