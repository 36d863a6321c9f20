"""A layer pass as one PyTorch operator, ``gatewise::layer_forward``, that autograd, compile and export understand.

The engine is named in the call. Derivatives of gradients go through ``differentiable_forward``, by themselves, and so
does every pass whose tensors no engine can be given (``contexts.is_plain``).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gatewise.kernels.boundary import check_devices, readable
from gatewise.kernels.contexts import is_plain, is_transformed, known_numbers, refuse_onnx, refuse_tracing
from gatewise.kernels.contract import (
    LayerInputs,
    LayerOptions,
    LayerOutputs,
    check_backward,
    check_layer,
    state_size,
    work_dtype,
)
from gatewise.kernels.differentiable import differentiable_forward, gradients_again
from gatewise.kernels.registry import ENGINES
from gatewise.spec import GATES

_INPUTS = (
    "Tensor x, Tensor h_0, Tensor? c_0, Tensor w_ih, Tensor w_hh, Tensor? b_ih, Tensor? b_hh, Tensor? w_hr, "
    "Tensor? h_mask, Tensor? lengths"
)
_OPTIONS = "str cell, bool reverse, ScalarType? products, bool save, bool trace, bool known_shapes, str engine"
_N_INPUTS, _N_OPTIONS = len(LayerInputs._fields), len(LayerOptions._fields)
_N_DIFFERENTIABLE = _N_INPUTS - 2  # all but the mask and the lengths
_NO_GRADIENTS = (None,) * (_N_INPUTS + _N_OPTIONS + 1 - _N_DIFFERENTIABLE)

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
    if torch.compiler.is_compiling() and not is_transformed():
        refuse_onnx("a gatewise layer")
        return LayerOutputs(*torch.ops.gatewise.layer_forward(*inputs, *options, engine))
    if torch.compiler.is_compiling() or not is_plain(inputs):
        refuse_tracing("a gatewise layer")
        check_layer(inputs, options)
        _check_known(inputs.lengths, inputs.x.shape[0])
        return differentiable_forward(inputs, options)
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
    y, h_n, c_n, saved, needs_dx, *arguments = rest
    inputs, _, _ = _unflatten(arguments)
    check_devices(dy, dh_n, dc_n, y, h_n, c_n, *saved, *inputs[:8])
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
    backward: Callable[..., Any] = torch.ops.gatewise.layer_backward,
) -> tuple[Any, ...]:
    kept = ctx.saved_tensors  # read once: each reading unpacks them anew
    given, (y, h_n, c_n, *saved) = kept[:_N_INPUTS], kept[_N_INPUTS:]
    upstream = [torch.zeros_like(t) if d is None else d for d, t in ((dy, y), (dh_n, h_n), (dc_n, c_n))]
    options, needed = LayerOptions(*ctx.options[:_N_OPTIONS]), ctx.needs_input_grad[:_N_DIFFERENTIABLE]
    # A backward of ours is an engine's own; the operator's finds its way by itself.
    if torch.is_grad_enabled() or (backward is _backward and not is_plain((*upstream, *kept))):
        again = options._replace(trace=False)
        found = gradients_again(lambda *t: differentiable_forward(LayerInputs(*t), again)[:3], given, needed, upstream)
    else:
        found = backward(*upstream, y, h_n, c_n, saved, needed[0], *given, *ctx.options)
    gradients = [d if n else None for d, n in zip(found, needed, strict=True)]
    return *gradients, *_NO_GRADIENTS


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


def _check_known(lengths: Tensor | None, T: int) -> None:
    """The same of a pass in PyTorch's operations, which need no lengths on the CPU.

    Raises:
        ValueError: one does not lie within the steps.
    """
    bad = [n for n in known_numbers(lengths) if not 0 <= n <= T]
    if bad:
        raise ValueError(f"lengths holds {bad[0]}; expected 0 to {T}, the number of steps of the input")
