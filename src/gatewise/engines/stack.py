"""A whole stack in one call of an engine, with autograd support; ``layer_operator.py`` is for single passes.

There is no operator for it: in compiled graphs and transforms, a stack is run pass by pass.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gatewise.engines.contexts import is_plain
from gatewise.engines.contract import LayerInputs, LayerOptions, LayerOutputs, StackInputs
from gatewise.engines.differentiable import differentiable_forward, gradients_again
from gatewise.engines.layer_operator import checked
from gatewise.engines.registry import ENGINES


def stack(inputs: StackInputs, options: LayerOptions, engine: str) -> LayerOutputs:
    """Run a stack on the named engine, which supports it (``Engine.why_not_stack``).

    Raises:
        ValueError: a shape does not fit, or a length is out of range.
    """
    inputs = _checked(inputs, options)
    if not options.save:
        return ENGINES[engine].stack(inputs, options)
    tensors = [inputs.x, *inputs.state, *[p for params in inputs.params for p in params]]
    shape = inputs.bidirectional, len(inputs.state), len(inputs.params)
    y, *last = _Stack.apply(options, engine, shape, inputs.lengths, *tensors)  # type: ignore[no-untyped-call]
    return LayerOutputs(y, tuple(last), [], [])


def _checked(inputs: StackInputs, options: LayerOptions) -> StackInputs:
    (T, B, _), x, lengths, directions = inputs.x.shape, inputs.x, inputs.lengths, 2 if inputs.bidirectional else 1
    for k, params in enumerate(inputs.params):
        if k == directions:
            x = torch.empty(T, B, directions * inputs.units, device="meta")
        given = checked(LayerInputs(x, tuple(part[k] for part in inputs.state), params, None, lengths), options)
        lengths = given.lengths
    return inputs._replace(lengths=lengths)


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, options: LayerOptions, engine: str, shape: tuple[bool, int, int], lengths: Tensor | None, *t: Any
    ) -> Any:
        y, last, saved, _ = ENGINES[engine].stack(_inputs(t, shape, lengths), options)
        ctx.how = options, engine, shape, lengths, len(t)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*t, y, *last, *saved)
        return y, *last

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Any, ...]:
        options, engine, shape, lengths, count = ctx.how
        kept, states, needed = ctx.saved_tensors, shape[1], ctx.needs_input_grad[4:]
        given, (y, *rest) = kept[:count], kept[count:]
        outputs = LayerOutputs(y, tuple(rest[:states]), rest[states:], [])
        known = [torch.zeros_like(t) if d is None else d for d, t in zip(upstream, (y, *outputs.state), strict=True)]
        if torch.is_grad_enabled() or not is_plain((*known, *kept)):
            found: Sequence[Tensor | None] = gradients_again(
                lambda *t: _pass_by_pass(_inputs(t, shape, lengths), options), given, needed, known
            )
        else:
            dx, dstate, dparams = ENGINES[engine].stack_backward(
                _inputs(given, shape, lengths), outputs, known[0], known[1:], options, needed[0]
            )
            every = [dx, *dstate, *[d for params in dparams for d in params]]
            found = [d if n else None for d, n in zip(every, needed, strict=True)]
        return None, None, None, None, *found


def _inputs(tensors: Sequence[Any], shape: tuple[bool, int, int], lengths: Tensor | None) -> StackInputs:
    bidirectional, states, passes = shape
    x, state, params = tensors[0], tensors[1 : 1 + states], tensors[1 + states :]
    each = len(params) // passes
    own = tuple(tuple(params[k * each : (k + 1) * each]) for k in range(passes))
    return StackInputs(x, tuple(state), own, lengths, bidirectional)


def _pass_by_pass(inputs: StackInputs, options: LayerOptions) -> list[Tensor]:
    """Run a stack in PyTorch's operations; return y and the final states."""
    x, directions = inputs.x, 2 if inputs.bidirectional else 1
    last = []
    for layer in range(inputs.layers):
        y = []
        for k in range(layer * directions, (layer + 1) * directions):
            given = LayerInputs(x, tuple(part[k] for part in inputs.state), inputs.params[k], None, inputs.lengths)
            out = differentiable_forward(given, options._replace(reverse=k % directions > 0))
            y.append(out.y)
            last.append(out.state)
        x = torch.cat(y, -1)
    return [x, *(torch.stack(parts) for parts in zip(*last, strict=True))]
