"""Softmax cross-entropy fused with the preceding linear layer: one buffer for the logits and then their gradient."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gatewise.engines import Engine, engine_for
from gatewise.engines.checks import check_loss
from gatewise.engines.contexts import is_plain, is_transformed, refuse_onnx, refuse_tracing
from gatewise.engines.contract import LossInputs, LossOptions
from gatewise.engines.differentiable import differentiable_loss, gradients_again
from gatewise.engines.loss_operator import linear_loss
from gatewise.engines.switches import switches
from gatewise.nn.checks import autocast_dtype


def linear_cross_entropy(
    x: Float[Tensor, "N H"],
    weight: Float[Tensor, "V H"],
    bias: Float[Tensor, " V"],
    targets: Int[Tensor, " N"],
    scale: float = 1.0,
    engine: str = "auto",
) -> Float[Tensor, ""]:
    """Sum the negative log-likelihood, in nats, of ``targets`` under ``softmax(x weightᵀ + bias)``, times ``scale``.

    ``nll = s Σₙ (log Σᵥ exp zₙᵥ) − zₙ,targetₙ`` with ``z = x weightᵀ + bias``, and the gradient
    ``dz = softmax(z) − onehot(target)``, ``dx = s dz weight``, ``dweight = s dzᵀ x``, ``dbias = s Σₙ dz``.

    The required gradients are computed together with the loss, chunk by chunk; none under ``no_grad``. Pass a constant
    factor as ``scale``, which is free; multiplying the loss costs an extra pass over the gradients. Under autocast the
    three products use the reduced precision, and the softmax stays in fp32. Higher derivatives, ``torch.func``
    transforms and the other contexts of ``gatewise.nn.Recurrent`` use PyTorch's operations, which hold all N·V logits.

    Args:
        x: the input of the linear layer.
        weight: its weight.
        bias: its bias.
        targets: the target class of each row, 0 to V − 1.
        scale: s.
        engine: ``auto`` uses ``native`` on the CPU if it was built and supports the dtypes, and falls back to
            ``torch``; ``native`` raises an error instead; any other engine uses ``torch``.

    Returns:
        A scalar in fp32 (fp64 if ``x`` is fp64).

    Raises:
        ValueError: a shape or dtype does not fit, or the engine does not support them.
        IndexError: a target is not in 0 to V − 1 (with the torch engine: RuntimeError).
        RuntimeError: under ``torch.jit`` tracing or export to ONNX, which are not supported.
    """
    inputs = LossInputs(x, weight, bias, targets)
    check_loss(inputs)
    products = autocast_dtype(x.device) or x.dtype
    chosen = engine_for(engine, x.device, lambda each: each.why_not_loss(inputs, products))
    wanted = [torch.is_grad_enabled() and t.requires_grad for t in (x, weight, bias)]
    threads, high = switches()
    options = LossOptions(scale, products, wanted, high, threads)
    if (compiling := torch.compiler.is_compiling()) and chosen.opaque_loss and not is_transformed():
        refuse_onnx("linear_cross_entropy")
        with torch.autocast(x.device.type, enabled=False):
            return linear_loss(inputs, options, chosen.name)
    if compiling or not is_plain(inputs):
        refuse_tracing("linear_cross_entropy")
        return differentiable_loss(inputs, scale, products)
    with torch.autocast(x.device.type, enabled=False):
        if not any(wanted):  # within a Function, every input would count as needing a gradient, even under no_grad
            return chosen.loss(inputs, options).nll
        nll: Tensor = _LinearCrossEntropy.apply(*inputs, options, chosen)  # type: ignore[no-untyped-call]
        return nll


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, options: LossOptions, engine: Engine
    ) -> Tensor:
        options = options._replace(wanted=ctx.needs_input_grad[:3])
        nll, *gradients = engine.loss(LossInputs(x, weight, bias, targets), options)
        ctx.how = options.scale, options.products
        ctx.save_for_backward(x, weight, bias, targets, *gradients)
        return nll

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        given, gradients = (kept := ctx.saved_tensors)[:4], kept[4:]  # read once: each access unpacks them again
        (dnll,), how = upstream, ctx.how
        if torch.is_grad_enabled():
            needed = ctx.needs_input_grad[:3]
            gradients = gradients_again(lambda *t: [differentiable_loss(LossInputs(*t), *how)], given, needed, upstream)
        # Passed on without a copy: the gradients may be as large as the model.
        elif not is_plain((dnll, *gradients)) or torch._C._autograd._get_current_graph_task_keep_graph():
            gradients = [None if g is None else (g * dnll).to(g.dtype) for g in gradients]
        elif dnll.device.type != "cpu" or bool(dnll != 1):
            gradients = [None if g is None else g.mul_(dnll) for g in gradients]
        return (*gradients, None, None, None)
