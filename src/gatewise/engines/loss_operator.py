"""The softmax cross-entropy of a linear layer as one PyTorch operator, for compiled graphs."""

from typing import Any

import torch
from torch import Tensor

from gatewise.engines.boundary import check_devices
from gatewise.engines.checks import check_loss
from gatewise.engines.contract import LossInputs, LossOptions
from gatewise.engines.differentiable import differentiable_loss, gradients_again
from gatewise.engines.registry import ENGINES
from gatewise.engines.switches import as_switched

_N_INPUTS, _N_OPTIONS = len(LossInputs._fields), len(LossOptions._fields)

torch.library.define(
    "gatewise::linear_loss",
    "(Tensor x, Tensor weight, Tensor bias, Tensor targets, float scale, ScalarType products, bool[] wanted, "
    "bool high, int threads, int chunk, str engine) -> (Tensor nll, Tensor dx, Tensor dweight, Tensor dbias)",
)


def linear_loss(inputs: LossInputs, options: LossOptions, engine: str) -> Tensor:
    """Compute the loss as one operator, with autograd and compile support."""
    nll: Tensor = torch.ops.gatewise.linear_loss(*inputs, *options, engine)[0]
    return nll


def _loss(*arguments: Any) -> tuple[Tensor, ...]:
    inputs, options = LossInputs(*arguments[:_N_INPUTS]), LossOptions(*arguments[_N_INPUTS:-1])
    check_loss(inputs)
    if len(options.wanted) != 3:
        raise ValueError(f"wanted holds {len(options.wanted)} flags; expected 3, for x, weight and bias")
    nll, *gradients = ENGINES[arguments[-1]].loss(inputs, as_switched(options))
    return nll, *(nll.new_empty(0) if g is None else g for g in gradients)


@torch.library.register_fake("gatewise::linear_loss")  # type: ignore[untyped-decorator]
def _fake_loss(*arguments: Any) -> tuple[Tensor, ...]:
    x, wanted = arguments[0], LossOptions(*arguments[_N_INPUTS:-1]).wanted
    check_devices(*arguments[:_N_INPUTS])
    nll = x.new_empty((), dtype=torch.promote_types(x.dtype, torch.float32))
    return nll, *(t.new_empty(t.shape) if w else nll.new_empty(0) for t, w in zip(arguments, wanted, strict=False))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.how = inputs[_N_INPUTS : _N_INPUTS + 2]
    ctx.save_for_backward(*inputs[:_N_INPUTS], *output[1:])


def _differentiate(ctx: Any, dnll: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    given, gradients = (kept := ctx.saved_tensors)[:_N_INPUTS], kept[_N_INPUTS:]
    needed, how = ctx.needs_input_grad[:3], ctx.how
    if torch.is_grad_enabled():
        found = gradients_again(lambda *t: [differentiable_loss(LossInputs(*t), *how)], given, needed, [dnll])
    else:
        found = [g * dnll.to(g.dtype) if n else None for g, n in zip(gradients, needed, strict=True)]
    return *found, *(None,) * (_N_INPUTS - 3 + _N_OPTIONS + 1)


torch.library.impl("gatewise::linear_loss", "default", _loss)
torch.library.register_autograd("gatewise::linear_loss", _differentiate, setup_context=_setup_context)
