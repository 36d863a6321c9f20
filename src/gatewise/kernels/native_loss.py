"""The native engine's softmax cross-entropy of a linear layer, ``csrc/loss.hpp``; one operator in a compiled graph."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gatewise.kernels.differentiable import differentiable_loss, gradients_again
from gatewise.kernels.native_engine import _native, addresses, numbers_for, why_not_built

CHUNK_ROWS = 512
"""Rows of logits held at a time. Each chunk packs the weight anew and reads and writes its gradient."""

torch.library.define(
    "gatewise::linear_loss",
    "(Tensor x, Tensor weight, Tensor bias, Tensor targets, float scale, ScalarType products, bool[] wanted, "
    "int chunk) -> (Tensor nll, Tensor dx, Tensor dweight, Tensor dbias)",
)


def why_not(x: Tensor, weight: Tensor, bias: Tensor, products: torch.dtype) -> str | None:
    """Say why the loss of these tensors is left to torch; None where it is computed here."""
    if reason := why_not_built():
        return reason
    dtypes = {t.dtype for t in (x, weight, bias)}
    if not all(t.device.type == "cpu" for t in (x, weight, bias)):
        return f"the tensors are on {x.device}"
    if dtypes == {torch.float64}:
        return None if products == torch.float64 else f"products in {products} are asked for"
    if not {*dtypes, products} <= {torch.float32, torch.bfloat16}:
        return f"the tensors are {', '.join(sorted(str(d).removeprefix('torch.') for d in dtypes))}"
    return None


def linear_loss(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    scale: float,
    products: torch.dtype,
    wanted: Sequence[bool],
    chunk: int = CHUNK_ROWS,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Return the loss of ``gatewise.nn.linear_cross_entropy`` and the gradients that are wanted, each in its dtype.

    Args:
        x: (N, H), in float32, float64 or bfloat16, as all that follow.
        weight: (V, H).
        bias: (V,).
        targets: (N,), whole numbers from 0 to V − 1.
        scale: multiplies all.
        products: the dtype of the products' factors.
        wanted: whether the gradients of x, weight and bias are.
        chunk: rows whose logits are held at a time, at most (1 or more); sums over rows are rounded differently.

    Raises:
        IndexError: a target is not one of the V.
        ValueError: chunks have no rows.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    given = [t.detach().to(dtype).contiguous() for t in (x, weight, bias)]
    targets = targets.to(torch.int64).contiguous()
    found = [torch.empty_like(t) if w else None for t, w in zip(given, wanted, strict=True)]
    nll = _native.linear_loss(
        numbers_for(dtype, products),
        torch.get_num_threads(),
        *x.shape,
        weight.shape[0],
        chunk,
        *addresses(*given, targets),
        scale,
        *addresses(*found),
    )
    dx, dweight, dbias = (None if d is None else d.to(t.dtype) for d, t in zip(found, (x, weight, bias), strict=True))
    return torch.tensor(nll, dtype=dtype, device=x.device), dx, dweight, dbias


def linear_loss_in_graph(*arguments: Any) -> Tensor:
    """The same as one operator, seen by autograd and compile; the arguments are those of ``linear_loss``."""
    nll: Tensor = torch.ops.gatewise.linear_loss(*arguments)[0]
    return nll


def _loss(*arguments: Any) -> tuple[Tensor, ...]:
    nll, *gradients = linear_loss(*arguments)
    return nll, *(nll.new_empty(0) if g is None else g for g in gradients)


@torch.library.register_fake("gatewise::linear_loss")  # type: ignore[untyped-decorator]
def _fake_loss(*arguments: Any) -> tuple[Tensor, ...]:
    x, *_, wanted, _ = arguments
    nll = x.new_empty((), dtype=torch.promote_types(x.dtype, torch.float32))
    return nll, *(t.new_empty(t.shape) if w else nll.new_empty(0) for t, w in zip(arguments, wanted, strict=False))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.how = inputs[4:6]
    ctx.save_for_backward(*inputs[:4], *output[1:])


def _differentiate(ctx: Any, dnll: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    given, gradients = (kept := ctx.saved_tensors)[:4], kept[4:]
    needed, how = ctx.needs_input_grad[:3], ctx.how
    if torch.is_grad_enabled():
        found = gradients_again(lambda *t: [differentiable_loss(*t, *how)], given, needed, [dnll])
    else:
        found = [g * dnll.to(g.dtype) if n else None for g, n in zip(gradients, needed, strict=True)]
    return *found, *(None,) * 5


torch.library.impl("gatewise::linear_loss", "default", _loss)
torch.library.register_autograd("gatewise::linear_loss", _differentiate, setup_context=_setup_context)
