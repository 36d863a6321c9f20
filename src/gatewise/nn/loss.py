"""Softmax cross-entropy fused with the linear layer before it: one buffer of logits that becomes their gradient.

On the CPU the native engine computes it (``kernels/native_loss.py``), elsewhere torch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gatewise.kernels import engine_named, native_loss
from gatewise.kernels.contexts import is_plain, is_transformed, refuse_onnx, refuse_tracing
from gatewise.kernels.differentiable import differentiable_loss, gradients_again
from gatewise.nn.checks import autocast_dtype

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

    The gradients are computed together with the loss, chunk by chunk, those that are asked for: none under ``no_grad``.
    A factor is best given as ``scale``, which costs nothing, where the loss's own gradient costs a pass over them.
    Under autocast the three products take the reduced precision, the softmax stays in fp32. Derivatives of gradients,
    ``torch.func``'s transforms and the other contexts of ``gatewise.nn.Recurrent`` go by PyTorch's operations, which
    hold all N·V logits.

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
        RuntimeError: ``torch.jit`` or an export to ONNX would follow the call.
    """
    native_loss.check_loss(x, weight, bias, targets)
    engine_named(engine, x.device)
    dtype, how = autocast_dtype(x.device) or x.dtype, (x, weight, bias, targets, scale)
    native = native_loss.computes(engine, x, weight, bias, dtype)
    wanted = [torch.is_grad_enabled() and t.requires_grad for t in (x, weight, bias)]
    if (compiling := torch.compiler.is_compiling()) and native and not is_transformed():
        refuse_onnx("linear_cross_entropy")
        with torch.autocast(x.device.type, enabled=False):
            return native_loss.linear_loss_in_graph(*how, dtype, wanted, native_loss.CHUNK_ROWS)
    if compiling or not is_plain((x, weight, bias, targets)):
        refuse_tracing("linear_cross_entropy")
        return differentiable_loss(*how, dtype)
    with torch.autocast(x.device.type, enabled=False):
        if not any(wanted):  # within a Function each input would be said to need its gradient, under no_grad too
            return _loss_and_gradients(*how, dtype, wanted, native)[0]
        nll: Tensor = _LinearCrossEntropy.apply(*how, dtype, native)  # type: ignore[no-untyped-call]
        return nll


def _loss_and_gradients(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    scale: float,
    dtype: torch.dtype,
    wanted: Sequence[bool],
    native: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Return the loss and the gradients that are wanted, of x, weight and bias."""
    if native:
        return native_loss.linear_loss(x, weight, bias, targets, scale, dtype, wanted, native_loss.CHUNK_ROWS)
    w, b = weight.to(dtype), bias.to(dtype)
    nll = torch.zeros((), dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    dx = torch.empty_like(x) if wanted[0] else None
    dweight = torch.empty_like(weight) if wanted[1] else None
    dbias = torch.zeros_like(bias) if wanted[2] else None
    if dweight is not None and not len(x):  # else the first chunk overwrites it
        dweight.zero_()
    for start in range(0, len(x), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        x_rows, target = x[rows].to(dtype), targets[rows, None]
        z = torch.addmm(b, x_rows, w.t()).to(nll.dtype)
        z_largest, z_target = z.amax(1, keepdim=True), z.gather(1, target)
        p = torch.softmax(z, 1, out=z)
        # log Σ exp z = z_largest − log p_largest: that p is at least 1/V, where p_target may underflow.
        nll += (z_largest - p.amax(1, keepdim=True).log() - z_target).sum()
        if not any(wanted):
            continue
        dz = p.scatter_add_(1, target, p.new_full(target.shape, -1.0))
        if dbias is not None:
            dbias += dz.sum(0)
        dz = dz.to(dtype)
        in_place = dtype == weight.dtype  # beta 0 overwrites, whatever stands there
        if dx is not None and in_place:
            torch.addmm(dx[rows], dz, w, beta=0, alpha=scale, out=dx[rows])
        elif dx is not None:
            dx[rows] = scale * (dz @ w)
        if dweight is not None and in_place:
            torch.addmm(dweight, dz.t(), x_rows, beta=int(start > 0), alpha=scale, out=dweight)
        elif dweight is not None:
            dweight = scale * (dz.t() @ x_rows) + (dweight if start else 0)
    dweight = None if dweight is None else dweight.to(weight.dtype)
    return nll.mul_(scale), dx, dweight, None if dbias is None else dbias.mul_(scale)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        scale: float,
        dtype: torch.dtype,
        native: bool,
    ) -> Tensor:
        wanted = ctx.needs_input_grad[:3]
        nll, *gradients = _loss_and_gradients(x, weight, bias, targets, scale, dtype, wanted, native)
        ctx.how = scale, dtype
        ctx.save_for_backward(x, weight, bias, targets, *gradients)
        return nll

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        given, gradients = (kept := ctx.saved_tensors)[:4], kept[4:]  # read once: each reading unpacks them anew
        (dnll,), how = upstream, ctx.how
        if torch.is_grad_enabled():
            needed = ctx.needs_input_grad[:3]
            gradients = gradients_again(lambda *t: [differentiable_loss(*t, *how)], given, needed, upstream)
        # Handed over, not copied: the gradients may be as large as the model.
        elif not is_plain((dnll, *gradients)) or torch._C._autograd._get_current_graph_task_keep_graph():
            gradients = [None if g is None else (g * dnll).to(g.dtype) for g in gradients]
        elif dnll.device.type != "cpu" or bool(dnll != 1):
            gradients = [None if g is None else g.mul_(dnll) for g in gradients]
        return (*gradients, None, None, None, None)
