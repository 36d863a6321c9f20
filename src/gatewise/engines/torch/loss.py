"""The softmax cross-entropy of a linear layer, in one buffer that holds the logits and then their gradient."""

import torch
from torch import Tensor

from gatewise.engines.contract import LossInputs, LossOptions, LossOutputs

# Rows of logits in the buffer (PyTorch holds three such buffers: logits, log-softmax, gradient). With fewer rows, the
# decoder's gradient is read and written more often: 256 cost 3% of a training step of ptb-medium.
CHUNK_ROWS = 1024


def compute(inputs: LossInputs, options: LossOptions) -> LossOutputs:
    """Return the loss and the requested gradients of x, weight and bias."""
    (x, weight, bias, targets), scale, dtype, wanted = inputs, options.scale, options.products, options.wanted
    w, b = weight.to(dtype), bias.to(dtype)
    nll = torch.zeros((), dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    dx = torch.empty_like(x) if wanted[0] else None
    dweight: Tensor | None = torch.empty_like(weight) if wanted[1] else None
    dbias = torch.zeros_like(bias) if wanted[2] else None
    if dweight is not None and not len(x):  # else the first chunk overwrites it
        dweight.zero_()
    chunk = options.chunk or CHUNK_ROWS
    for start in range(0, len(x), chunk):
        rows = slice(start, start + chunk)
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
        in_place = dtype == weight.dtype  # beta 0 overwrites the output, even NaN
        if dx is not None and in_place:
            torch.addmm(dx[rows], dz, w, beta=0, alpha=scale, out=dx[rows])
        elif dx is not None:
            dx[rows] = scale * (dz @ w)
        if dweight is not None and in_place:
            torch.addmm(dweight, dz.t(), x_rows, beta=int(start > 0), alpha=scale, out=dweight)
        elif dweight is not None:
            dweight = scale * (dz.t() @ x_rows) + (dweight if start else 0)
    dweight = None if dweight is None else dweight.to(weight.dtype)
    return LossOutputs(nll.mul_(scale), dx, dweight, None if dbias is None else dbias.mul_(scale))
