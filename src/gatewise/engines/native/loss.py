"""The softmax cross-entropy of a linear layer, ``csrc/loss.hpp``."""

import torch

from gatewise.engines.boundary import addresses, new, readable
from gatewise.engines.contract import LossInputs, LossOptions, LossOutputs
from gatewise.engines.native.module import name_of, native, numbers_for

CHUNK_ROWS = 512
"""Rows of logits held at a time. Each chunk packs the weight again and reads and writes its gradient."""


def why_not(inputs: LossInputs, products: torch.dtype) -> str | None:
    """Return the reason why the loss of these tensors is not supported, or None."""
    x, weight, bias, _ = inputs
    dtypes = {t.dtype for t in (x, weight, bias)}
    if not all(t.device.type == "cpu" for t in (x, weight, bias)):
        return f"the tensors are on {x.device}"
    if dtypes == {torch.float64}:
        return None if products == torch.float64 else f"products in {products} are not supported"
    if not {*dtypes, products} <= {torch.float32, torch.bfloat16}:
        return f"the tensors are {', '.join(sorted(map(name_of, dtypes)))}"
    return None


def compute(inputs: LossInputs, options: LossOptions) -> LossOutputs:
    """Return the loss and the requested gradients; the rounding of sums over rows depends on the chunk size.

    Raises:
        IndexError: a target is not in 0 to V − 1.
        ValueError: a shape or dtype does not fit, or the chunk size is negative.
    """
    x, weight, bias, targets = inputs
    dtype, (N, H), V = torch.promote_types(x.dtype, torch.float32), x.shape, len(weight)
    given = [
        readable("x", x, dtype, N, H),
        readable("weight", weight, dtype, V, H),
        readable("bias", bias, dtype, V),
        readable("targets", targets, torch.int64, N),
    ]
    found = [new(dtype, *t.shape) if w else None for t, w in zip(given[:3], options.wanted, strict=True)]
    nll = native.linear_loss(
        numbers_for(dtype, options.high, options.products),
        options.threads,
        *(N, H, V),
        options.chunk or CHUNK_ROWS,
        *addresses(*given),
        options.scale,
        *addresses(*found),
    )
    gradients = (None if d is None else d.to(t.dtype) for d, t in zip(found, (x, weight, bias), strict=True))
    return LossOutputs(torch.tensor(nll, dtype=dtype, device=x.device), *gradients)
