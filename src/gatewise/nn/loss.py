"""Softmax cross-entropy fused with the linear layer before it: one buffer of logits that becomes their gradient.

On the CPU the native engine computes it (``kernels/native_loss.py``), elsewhere torch.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gatewise.kernels import engine_named, native_loss

# Rows of logits that torch's part holds, in one buffer that becomes their gradient (PyTorch holds them three times
# over: logits, log-softmax, gradient). Fewer rows would read and write the decoder's gradient more often: 256 cost 3%
# of a training step of ptb-medium.
CHUNK_ROWS = 1024


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

    The gradients are computed together with the loss, chunk by chunk: the result can be differentiated once. A
    factor is best given as ``scale``, which costs nothing, where the loss's own gradient costs a pass over them.
    Under autocast the three products take the reduced precision, the softmax stays in fp32.

    Args:
        x: what the linear layer reads.
        weight: its weight.
        bias: its bias.
        targets: which of the V each row should be.
        scale: s.
        engine: ``auto`` computes on the CPU in C++, where that was built and has the dtypes; else, and for any other
            engine but ``native``, torch does.

    Returns:
        A scalar in fp32 (fp64 where ``x`` is fp64).

    Raises:
        ValueError: a shape or dtype does not fit, or the engine cannot compute it; in one line.
        IndexError: a target is not one of the V (from torch: RuntimeError).
    """
    native_loss.check_loss(x, weight, bias, targets)
    engine_named(engine, x.device)
    dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
    native = native_loss.computes(engine, x, weight, bias, dtype)
    with torch.autocast(x.device.type, enabled=False):
        if native and torch.compiler.is_compiling():
            wanted = [torch.is_grad_enabled() and t.requires_grad for t in (x, weight, bias)]
            return native_loss.linear_loss_in_graph(
                x, weight, bias, targets, scale, dtype, wanted, native_loss.CHUNK_ROWS
            )
        function = _NativeLinearCrossEntropy if native else _LinearCrossEntropy
        nll: Tensor = function.apply(x, weight, bias, targets, scale, dtype)  # type: ignore[no-untyped-call]
        return nll


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, scale: float, dtype: torch.dtype
    ) -> Tensor:
        needs_gradient = any(ctx.needs_input_grad[:3])
        w, b = weight.to(dtype), bias.to(dtype)
        nll = torch.zeros((), dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        if needs_gradient:
            dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.zeros_like(bias)
            if not len(x):  # else the first chunk overwrites it
                dweight.zero_()
        for start in range(0, len(x), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            x_rows, target = x[rows].to(dtype), targets[rows, None]
            z = torch.addmm(b, x_rows, w.t()).to(nll.dtype)
            z_largest, z_target = z.amax(1, keepdim=True), z.gather(1, target)
            p = torch.softmax(z, 1, out=z)
            # log Σ exp z = z_largest − log p_largest: that p is at least 1/V, where p_target may underflow.
            nll += (z_largest - p.amax(1, keepdim=True).log() - z_target).sum()
            if needs_gradient:
                dz = p.scatter_add_(1, target, p.new_full(target.shape, -1.0))
                dbias += dz.sum(0)
                dz = dz.to(dtype)
                if dtype == weight.dtype:  # beta 0 overwrites, whatever stands there
                    torch.addmm(dx[rows], dz, w, beta=0, alpha=scale, out=dx[rows])
                    torch.addmm(dweight, dz.t(), x_rows, beta=int(start > 0), alpha=scale, out=dweight)
                else:
                    dx[rows] = scale * (dz @ w)
                    dweight = scale * (dz.t() @ x_rows) + (dweight if start else 0)
        if needs_gradient:
            ctx.gradients = dx, dweight.to(weight.dtype), dbias.mul_(scale)
        return nll.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError(
                "linear_cross_entropy was differentiated twice; its gradients are computed once: call it again"
            )
        # Handed over, not copied: the gradients may be as large as the model.
        (dnll,), gradients, ctx.gradients = upstream, ctx.gradients, None
        one = dnll.device.type == "cpu" and bool(dnll == 1)
        return (*(g if one or g is None else g.mul_(dnll) for g in gradients), None, None, None)


class _NativeLinearCrossEntropy(_LinearCrossEntropy):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, scale: float, dtype: torch.dtype
    ) -> Tensor:
        wanted = ctx.needs_input_grad[:3]
        nll, *ctx.gradients = native_loss.linear_loss(
            x, weight, bias, targets, scale, dtype, wanted, native_loss.CHUNK_ROWS
        )
        return nll
