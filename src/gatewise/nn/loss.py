"""Softmax cross-entropy fused with the linear layer before it, so that the logits are never all in memory."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Rows of logits held at a time. With 10,000 words that is 10 MB in fp32, where the whole of a 20x35 window is 28 MB,
# three times over in PyTorch (logits, log-softmax and gradient).
CHUNK_ROWS = 256


def linear_cross_entropy(
    x: Float[Tensor, "N H"],
    weight: Float[Tensor, "V H"],
    bias: Float[Tensor, " V"],
    targets: Int[Tensor, " N"],
) -> Float[Tensor, ""]:
    """Sum the negative log-likelihood, in nats, of ``targets`` under ``softmax(x weightᵀ + bias)``.

    ``nll = Σₙ (log Σᵥ exp zₙᵥ) − zₙ,targetₙ`` with ``z = x weightᵀ + bias``, and the gradient
    ``dz = softmax(z) − onehot(target)``, ``dx = dz weight``, ``dweight = dzᵀ x``, ``dbias = Σₙ dz``.

    The gradients are computed together with the loss, chunk by chunk, and scaled when the loss's own gradient is
    known: the result can be differentiated once. Under autocast the three products take the reduced precision, the
    softmax stays in fp32.

    Returns:
        A scalar in fp32 (fp64 where ``x`` is fp64).
    """
    dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
    with torch.autocast(x.device.type, enabled=False):
        nll: Tensor = _LinearCrossEntropy.apply(x, weight, bias, targets, dtype)  # type: ignore[no-untyped-call]
        return nll


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        needs_gradient = any(ctx.needs_input_grad[:3])
        w, b = weight.to(dtype), bias.to(dtype)
        nll = torch.zeros((), dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        if needs_gradient:
            dx, dweight, dbias = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        for start in range(0, len(x), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            x_rows, target = x[rows].to(dtype), targets[rows, None]
            z = torch.addmm(b, x_rows, w.t()).to(nll.dtype)
            largest = z.amax(1, keepdim=True)
            z_target = z.gather(1, target)
            total = z.sub_(largest).exp_().sum(1, keepdim=True)
            nll += (total.log() + largest - z_target).sum()
            if needs_gradient:
                dz = z.div_(total).scatter_add_(1, target, z.new_full(target.shape, -1.0))
                dbias += dz.sum(0)
                dz = dz.to(dtype)
                dx[rows] = dz @ w
                if dtype == weight.dtype:
                    dweight.addmm_(dz.t(), x_rows)
                else:
                    dweight += dz.t() @ x_rows
        if needs_gradient:
            ctx.gradients = dx, dweight, dbias
        return nll

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError(
                "linear_cross_entropy was differentiated twice; its gradients are computed once: call it again"
            )
        # Handed over, not copied: the gradients may be as large as the model.
        (dnll,), gradients, ctx.gradients = upstream, ctx.gradients, None
        return (*(g if dnll.device.type == "cpu" and dnll == 1 else g.mul_(dnll) for g in gradients), None, None)
