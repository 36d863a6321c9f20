"""A layer pass as one PyTorch operator, ``gatewise::layer_forward``, that autograd, compile and export understand.

The engine is named in the call. Derivatives of gradients go through ``differentiable_forward``, by themselves.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gatewise.kernels.boundary import check_devices, readable
from gatewise.kernels.contract import (
    LayerInputs,
    LayerOptions,
    LayerOutputs,
    check_backward,
    check_layer,
    state_size,
    work_dtype,
)
from gatewise.kernels.differentiable import differentiable_forward
from gatewise.kernels.registry import ENGINES
from gatewise.spec import GATES

_INPUTS = (
    "Tensor x, Tensor h_0, Tensor? c_0, Tensor w_ih, Tensor w_hh, Tensor? b_ih, Tensor? b_hh, Tensor? w_hr, "
    "Tensor? h_mask, Tensor? lengths"
)
_OPTIONS = "str cell, bool reverse, ScalarType? products, bool save, bool trace, bool known_shapes, str engine"
_N_INPUTS, _N_OPTIONS = len(LayerInputs._fields), len(LayerOptions._fields)

torch.library.define(
    "gatewise::layer_forward",
    f"({_INPUTS}, {_OPTIONS}) -> (Tensor y, Tensor h_n, Tensor c_n, Tensor[] saved, Tensor[] trace)",
)
torch.library.define(
    "gatewise::layer_backward",
    f"(Tensor dy, Tensor dh_n, Tensor dc_n, Tensor y, Tensor h_n, Tensor c_n, Tensor[] saved, bool needs_dx, "
    f"{_INPUTS}, {_OPTIONS}) -> Tensor[]",
)


def layer(inputs: LayerInputs, options: LayerOptions, engine: str) -> LayerOutputs:
    """Run one pass of the contract on the named engine, seen by autograd; the trace is not differentiated."""
    if torch.compiler.is_compiling():
        return LayerOutputs(*torch.ops.gatewise.layer_forward(*inputs, *options, engine))
    if not options.save:
        return ENGINES[engine].forward(_checked(inputs, options), options)
    y, h_n, c_n, *trace = _Pass.apply(*inputs, *options, engine)  # type: ignore[no-untyped-call]
    return LayerOutputs(y, h_n, c_n, [], trace)


def _forward(*arguments: Any) -> tuple[Any, ...]:
    inputs, options, engine = _unflatten(arguments)
    return tuple(ENGINES[engine].forward(_checked(inputs, options), options))


@torch.library.register_fake("gatewise::layer_forward")  # type: ignore[untyped-decorator]
def _fake_forward(*arguments: Any) -> tuple[Any, ...]:
    inputs, options, engine = _unflatten(arguments)
    check_devices(*inputs[:8])
    (T, B), (P, H), h_0 = inputs.x.shape[:2], (inputs.h_0.shape[-1], state_size(inputs)), inputs.h_0
    c_n = h_0.new_empty(0) if inputs.c_0 is None else h_0.new_empty(B, H)
    saved = ENGINES[engine].saved_shapes(inputs, options) if options.save else []
    gates = len(GATES[options.cell])
    trace = {"lstm": [gates * H, H], "gru": [gates * H]}.get(options.cell, []) if options.trace else []
    return (
        h_0.new_empty(T, B, P),
        h_0.new_empty(B, P),
        c_n,
        [h_0.new_empty(shape, dtype=work_dtype(inputs)) for shape in saved],
        [h_0.new_empty(T, B, width) for width in trace],
    )


def _backward(dy: Tensor, dh_n: Tensor, dc_n: Tensor, *rest: Any) -> list[Tensor]:
    y, h_n, c_n, saved, needs_dx, *arguments = rest
    inputs, options, engine = _unflatten(arguments)
    outputs = LayerOutputs(y, h_n, c_n, saved, [])
    inputs = _checked(inputs, options)
    check_backward(inputs, outputs, (dy, dh_n, dc_n), options)
    found = ENGINES[engine].backward(inputs, outputs, dy, dh_n, dc_n, options, needs_dx)
    return [dy.new_empty(0) if gradient is None else gradient for gradient in found]


@torch.library.register_fake("gatewise::layer_backward")  # type: ignore[untyped-decorator]
def _fake_backward(dy: Tensor, dh_n: Tensor, dc_n: Tensor, *rest: Any) -> list[Tensor]:
    y, h_n, c_n, _, needs_dx, *arguments = rest
    inputs, _, _ = _unflatten(arguments)
    check_devices(dy, dh_n, dc_n, y, h_n, c_n, *inputs[:8])
    wanted = [inputs.x if needs_dx else None, *inputs[1:8]]
    return [dy.new_empty(0) if t is None else t.new_empty(t.shape) for t in wanted]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    y, h_n, c_n, saved, _ = output
    ctx.options = inputs[_N_INPUTS:]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:_N_INPUTS], y, h_n, c_n, *saved)


def _differentiate(
    ctx: Any,
    dy: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    *_: Any,
    backward: Callable[..., list[Tensor]] = torch.ops.gatewise.layer_backward,
) -> tuple[Any, ...]:
    *given, y, h_n, c_n = ctx.saved_tensors[: _N_INPUTS + 3]
    saved = list(ctx.saved_tensors[_N_INPUTS + 3 :])
    upstream = [torch.zeros_like(t) if d is None else d for d, t in ((dy, y), (dh_n, h_n), (dc_n, c_n))]
    inputs, options = LayerInputs(*given), LayerOptions(*ctx.options[:_N_OPTIONS])
    found: Sequence[Tensor | None]
    if torch.is_grad_enabled():
        found = _differentiable_gradients(inputs, options, upstream, ctx.needs_input_grad[:8])
    else:
        needs_dx = ctx.needs_input_grad[0]
        found = backward(*upstream, y, h_n, c_n, saved, needs_dx, *inputs, *ctx.options)
    kept = [d if needed else None for d, needed in zip(found, ctx.needs_input_grad, strict=False)]
    return (*kept, *(None,) * (_N_INPUTS + _N_OPTIONS + 1 - len(kept)))


def _differentiable_gradients(
    inputs: LayerInputs, options: LayerOptions, upstream: list[Tensor], needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """The same gradients through operations that can be differentiated again."""
    # Views, so that each input counts for itself where one tensor was given twice.
    own = [t.view_as(t) if t is not None and n else t for t, n in zip(inputs, (*needed, False, False), strict=True)]
    outputs = differentiable_forward(LayerInputs(*own), options)  # type: ignore[arg-type]
    pairs = [(o, d) for o, d in zip(outputs, upstream, strict=True) if o.requires_grad]
    wanted = [t for t, n in zip(own, needed, strict=False) if n and t is not None]
    found = iter(
        torch.autograd.grad([o for o, _ in pairs], wanted, [d for _, d in pairs], create_graph=True, allow_unused=True)
    )
    return [next(found) if n else None for n in needed]


torch.library.impl("gatewise::layer_forward", "default", _forward)
torch.library.impl("gatewise::layer_backward", "default", _backward)
torch.library.register_autograd("gatewise::layer_forward", _differentiate, setup_context=_setup_context)


class _Pass(torch.autograd.Function):
    """The operator outside of compiled graphs: what PyTorch does around an operator's derivative costs 1 ms a pass."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        outputs = LayerOutputs(*_forward(*arguments))
        _setup_context(ctx, arguments, outputs)
        ctx.mark_non_differentiable(*outputs.trace)
        return outputs.y, outputs.h_n, outputs.c_n, *outputs.trace

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Any, ...]:
        dy, dh_n, dc_n, *_ = upstream
        return _differentiate(ctx, dy, dh_n, dc_n, backward=_backward)


def _unflatten(arguments: Any) -> tuple[LayerInputs, LayerOptions, str]:
    return (
        LayerInputs(*arguments[:_N_INPUTS]),
        LayerOptions(*arguments[_N_INPUTS : _N_INPUTS + _N_OPTIONS]),
        arguments[-1],
    )


def _checked(inputs: LayerInputs, options: LayerOptions) -> LayerInputs:
    """See that shapes agree; bring the lengths to the CPU, where the loops need them, and see that they are in range.

    Raises:
        ValueError: a shape does not fit, or a length does not lie within the steps.
    """
    check_layer(inputs, options)
    if inputs.lengths is None:
        return inputs
    lengths, T = readable("lengths", inputs.lengths.cpu(), torch.int64, inputs.x.shape[1]), inputs.x.shape[0]
    if len(lengths) and not 0 <= int(lengths.min()) <= int(lengths.max()) <= T:
        bad = next(int(n) for n in lengths if not 0 <= n <= T)
        raise ValueError(f"lengths holds {bad}; expected 0 to {T}, the number of steps of the input")
    return inputs._replace(lengths=lengths)
