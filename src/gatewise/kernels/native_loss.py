"""The native engine's softmax cross-entropy of a linear layer, ``csrc/loss.hpp``; one operator in a compiled graph."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gatewise.kernels.boundary import addresses, check_devices, check_shape, new, readable
from gatewise.kernels.differentiable import differentiable_loss, gradients_again
from gatewise.kernels.native_engine import _native, numbers_for, refusal, why_not_built

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


def computes(engine: str, x: Tensor, weight: Tensor, bias: Tensor, products: torch.dtype) -> bool:
    """Whether the loss of these tensors is computed here, where an engine is asked for.

    Raises:
        ValueError: ``native`` is asked for and cannot compute it; the reason in one line.
    """
    if engine not in ("auto", "native"):
        return False
    reason = why_not(x, weight, bias, products)
    if reason and engine == "native" and not x.is_meta:
        raise ValueError(refusal(reason))
    return reason is None


def check_loss(x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> None:
    """Check what comes into the loss, on whatever engine.

    Raises:
        ValueError: a shape does not fit, or the targets are no whole numbers; in one line.
    """
    for name, given in (("x", x), ("weight", weight), ("bias", bias), ("targets", targets)):
        if not isinstance(given, Tensor):
            raise ValueError(f"{name} is {given!r:.40}; expected a tensor")
    if x.dim() != 2 or weight.dim() != 2 or weight.shape[1] != x.shape[1]:
        found = f"x is of shape {tuple(x.shape)}, weight {tuple(weight.shape)}"
        raise ValueError(f"{found}; expected (N, H) and (V, H)")
    check_shape("bias", bias, weight.shape[:1])
    check_shape("targets", targets, x.shape[:1])
    if targets.dtype in _NO_NUMBERS or targets.is_floating_point() or targets.is_complex():
        raise ValueError(f"targets is {targets.dtype}; expected whole numbers: call .long()")
    if len(x) and not len(weight):
        raise ValueError(f"weight is of shape {tuple(weight.shape)}; expected a row for each possible target")


_NO_NUMBERS = (torch.bool, torch.uint16, torch.uint32, torch.uint64)  # the last three have hardly an operation


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
        ValueError: a shape or dtype does not fit, or chunks have no rows.
    """
    check_loss(x, weight, bias, targets)
    if reason := why_not(x, weight, bias, products):
        raise ValueError(refusal(reason))
    if len(wanted) != 3:
        raise ValueError(f"wanted holds {len(wanted)} flags; expected 3, of x, weight and bias")
    dtype, (N, H), V = torch.promote_types(x.dtype, torch.float32), x.shape, len(weight)
    given = [
        readable("x", x, dtype, N, H),
        readable("weight", weight, dtype, V, H),
        readable("bias", bias, dtype, V),
        readable("targets", targets, torch.int64, N),
    ]
    found = [new(dtype, *t.shape) if w else None for t, w in zip(given[:3], wanted, strict=True)]
    nll = _native.linear_loss(
        numbers_for(dtype, products),
        torch.get_num_threads(),
        *(N, H, V),
        chunk,
        *addresses(*given),
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
    check_devices(*arguments[:4])
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
