"""A layer pass as one PyTorch operator, ``gatewise::layer_forward``, which works with autograd, compile and export.

An argument names the engine. Higher derivatives are computed by ``differentiable_forward``, as is every pass whose
tensors an engine cannot take (``contexts.is_plain``).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gatewise.engines.boundary import check_devices, readable
from gatewise.engines.checks import check_backward, check_layer
from gatewise.engines.contexts import is_plain, is_transformed, known_numbers, refuse_onnx, refuse_tracing
from gatewise.engines.contract import LayerInputs, LayerOptions, LayerOutputs, work_dtype
from gatewise.engines.differentiable import differentiable_forward, layer_gradients_again
from gatewise.engines.registry import ENGINES
from gatewise.engines.switches import as_switched

# A list that contains None would get no gradients: `there` says which of the cell's parameters are present.
_INPUTS = "Tensor x, Tensor[] state, Tensor[] params, Tensor? h_mask, Tensor? lengths, bool[] there"
_OPTIONS = (
    "str cell, bool reverse, ScalarType? products, bool high, int threads, bool save, bool trace, bool known_shapes, "
    "str engine"
)
_N_INPUTS, _N_OPTIONS = len(LayerInputs._fields) + 1, len(LayerOptions._fields)

torch.library.define(
    "gatewise::layer_forward",
    f"({_INPUTS}, {_OPTIONS}) -> (Tensor y, Tensor[] last, Tensor[] saved, Tensor[] trace)",
)
torch.library.define(
    "gatewise::layer_backward",
    f"(Tensor dy, Tensor[] dlast, Tensor y, Tensor[] last, Tensor[] saved, bool needs_dx, {_INPUTS}, {_OPTIONS}) "
    "-> Tensor[]",
)


def layer(inputs: LayerInputs, options: LayerOptions, engine: str) -> LayerOutputs:
    """Run one pass on the named engine, with autograd support; the trace is not differentiable."""
    if torch.compiler.is_compiling() and not is_transformed():
        refuse_onnx("a gatewise layer")
        y, last, saved, trace = torch.ops.gatewise.layer_forward(*flatten(inputs), *options, engine)
        return LayerOutputs(y, tuple(last), saved, trace)
    if torch.compiler.is_compiling() or not is_plain((*inputs[0:1], *inputs.state, *inputs.params, *inputs[3:])):
        refuse_tracing("a gatewise layer")
        check_layer(inputs, options)
        _check_known(inputs.lengths, inputs.x.shape[0])
        return differentiable_forward(inputs, options)
    if not options.save:
        return ENGINES[engine].forward(checked(inputs, options), options)
    tensors = (inputs.x, inputs.h_mask, inputs.lengths, *inputs.state, *inputs.params)
    y, *rest = _Pass.apply(options, engine, len(inputs.state), *tensors)  # type: ignore[no-untyped-call]
    return LayerOutputs(y, tuple(rest[: len(inputs.state)]), [], rest[len(inputs.state) :])


def flatten(inputs: LayerInputs) -> tuple[Any, ...]:
    """Return the inputs in the form that the operators take."""
    x, state, params, h_mask, lengths = inputs
    return x, [*state], [p for p in params if p is not None], h_mask, lengths, [p is not None for p in params]


def _forward(*arguments: Any) -> tuple[Any, ...]:
    inputs, options, engine = _unflatten(arguments)
    y, last, saved, trace = ENGINES[engine].forward(checked(inputs, options), options)
    return y, list(last), saved, trace


@torch.library.register_fake("gatewise::layer_forward")  # type: ignore[untyped-decorator]
def _fake_forward(*arguments: Any) -> tuple[Any, ...]:
    inputs, options, engine = _unflatten(arguments)
    check_devices(*inputs.floating)
    (T, B), h_0, cell = inputs.x.shape[:2], inputs.state[0], options.about
    saved = ENGINES[engine].saved_shapes(inputs, options) if options.save else []
    trace = [len(part) * inputs.units for part in cell.trace_parts] if options.trace else []
    return (
        h_0.new_empty(T, B, h_0.shape[-1]),
        [h_0.new_empty(B, part.shape[-1]) for part in inputs.state],
        [h_0.new_empty(shape, dtype=work_dtype(inputs)) for shape in saved],
        [h_0.new_empty(T, B, width) for width in trace],
    )


def _backward(dy: Tensor, dlast: Sequence[Tensor], *rest: Any) -> list[Tensor]:
    y, last, saved, needs_dx, *arguments = rest
    inputs, options, engine = _unflatten(arguments)
    found = _gradients(dy, dlast, LayerOutputs(y, tuple(last), saved, []), needs_dx, inputs, options, engine)
    return [dy.new_empty(0) if gradient is None else gradient for gradient in found]


def _gradients(
    dy: Tensor,
    dlast: Sequence[Tensor],
    outputs: LayerOutputs,
    needs_dx: bool,
    inputs: LayerInputs,
    options: LayerOptions,
    engine: str,
) -> list[Tensor | None]:
    """Return the gradients of x, of each state and of each parameter."""
    inputs = checked(inputs, options)
    check_backward(inputs, outputs, dy, dlast, options.cell)
    dx, dstate, dparams = ENGINES[engine].backward(inputs, outputs, dy, dlast, options, needs_dx)
    return [dx, *dstate, *dparams]


@torch.library.register_fake("gatewise::layer_backward")  # type: ignore[untyped-decorator]
def _fake_backward(dy: Tensor, dlast: Sequence[Tensor], *rest: Any) -> list[Tensor]:
    y, last, saved, needs_dx, *arguments = rest
    inputs, _, _ = _unflatten(arguments)
    check_devices(dy, *dlast, y, *last, *saved, *inputs.floating)
    wanted = [inputs.x if needs_dx else None, *inputs.state, *inputs.params]
    return [dy.new_empty(0) if t is None else t.new_empty(t.shape) for t in wanted]


def _differentiate(
    upstream: Sequence[Tensor | None],
    outputs: LayerOutputs,
    inputs: LayerInputs,
    needed: Sequence[bool],
    options: LayerOptions,
    backward: Callable[..., Sequence[Tensor | None]],
    plain: bool,
) -> list[Tensor | None]:
    """Return the gradients of x, of each state and of each parameter; None for those that are not needed.

    Args:
        upstream: the gradients of y and of each final state; None means zeros.
        outputs: the outputs of the forward pass.
        inputs: the inputs of the forward pass.
        needed: whether the gradient of x, of each state and of each parameter is needed.
        options: the options of the forward pass.
        backward: computes the gradients, given those of y and of the final state.
        plain: whether an engine can take the tensors.
    """
    known = [
        torch.zeros_like(t) if d is None else d for d, t in zip(upstream, outputs[0:1] + outputs.state, strict=True)
    ]
    if not torch.is_grad_enabled() and plain:
        found = backward(known[0], known[1:])
        return [d if n else None for d, n in zip(found, needed, strict=True)]
    return layer_gradients_again(inputs, options, needed, known)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    (x, state, params, h_mask, lengths, there), (y, last, saved, _) = inputs[:_N_INPUTS], output
    ctx.options, ctx.there, ctx.lists = inputs[_N_INPUTS:], there, (len(state), len(params))
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, *state, *params, h_mask, lengths, y, *last, *saved)


def _differentiate_operator(
    ctx: Any, dy: Tensor | None, dlast: Sequence[Tensor | None] | None, *_: Any
) -> tuple[Any, ...]:
    (states, count), options, there = ctx.lists, LayerOptions(*ctx.options[:_N_OPTIONS]), ctx.there
    x, *kept = ctx.saved_tensors  # read once: each access unpacks them again
    state, params, (h_mask, lengths, y, *rest) = kept[:states], kept[states : states + count], kept[states + count :]
    inputs = LayerInputs(x, tuple(state), _with_gaps(params, there), h_mask, lengths)
    outputs = LayerOutputs(y, tuple(rest[:states]), rest[states:], [])
    needs_x, needs_state, needs_params, *_ = ctx.needs_input_grad
    needed = [needs_x, *needs_state, *(bool(n) for n in _with_gaps(needs_params, there))]

    def backward(dy: Tensor, dlast: Sequence[Tensor]) -> Sequence[Tensor | None]:
        found: Sequence[Tensor] = torch.ops.gatewise.layer_backward(
            dy, dlast, y, rest[:states], outputs.saved, needs_x, *flatten(inputs), *ctx.options
        )
        return found

    # If the tensors are not plain, the operator itself falls back to PyTorch operations.
    upstream = (dy, *(dlast if dlast is not None else (None,) * states))
    dx, *found = _differentiate(upstream, outputs, inputs, needed, options, backward, plain=True)
    dparams = [d for d, is_there in zip(found[states:], there, strict=True) if is_there]
    return dx, found[:states], dparams, *(None,) * (_N_INPUTS - 3 + _N_OPTIONS + 1)


torch.library.impl("gatewise::layer_forward", "default", _forward)
torch.library.impl("gatewise::layer_backward", "default", _backward)
torch.library.register_autograd("gatewise::layer_forward", _differentiate_operator, setup_context=_setup_context)


class _Pass(torch.autograd.Function):
    """The operator outside compiled graphs: PyTorch's own autograd wrapper of an operator costs 1 ms per pass."""

    @staticmethod
    def forward(ctx: Any, options: LayerOptions, engine: str, states: int, *tensors: Any) -> tuple[Tensor, ...]:
        x, h_mask, lengths, *rest = tensors
        inputs = LayerInputs(x, tuple(rest[:states]), tuple(rest[states:]), h_mask, lengths)
        y, last, saved, trace = ENGINES[engine].forward(checked(inputs, options), options)
        ctx.how = options, engine, states
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, y, *last, *saved)
        ctx.mark_non_differentiable(*trace)
        return y, *last, *trace

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Any, ...]:
        options, engine, states = ctx.how
        kept = ctx.saved_tensors  # read once: each access unpacks them again
        x, h_mask, lengths, *rest = kept
        count = len(options.about.parameters)
        state, params, (y, *rest) = tuple(rest[:states]), tuple(rest[states : states + count]), rest[states + count :]
        inputs = LayerInputs(x, state, params, h_mask, lengths)
        outputs = LayerOutputs(y, tuple(rest[:states]), rest[states:], [])
        _, _, _, needs_x, _, _, *needs = ctx.needs_input_grad
        upstream = upstream[: 1 + states]
        dx, *found = _differentiate(
            upstream,
            outputs,
            inputs,
            [needs_x, *needs],
            options,
            lambda dy, dlast: _gradients(dy, dlast, outputs, needs_x, inputs, options, engine),
            plain=is_plain((*upstream, *kept)),
        )
        return None, None, None, dx, None, None, *found


def _unflatten(arguments: Any) -> tuple[LayerInputs, LayerOptions, str]:
    x, state, params, h_mask, lengths, there = arguments[:_N_INPUTS]
    options = as_switched(LayerOptions(*arguments[_N_INPUTS : _N_INPUTS + _N_OPTIONS]))
    if sum(there) != len(params):
        raise ValueError(f"there lists {sum(there)} parameters, but params has {len(params)}; expected the same number")
    return LayerInputs(x, tuple(state), _with_gaps(params, there), h_mask, lengths), options, arguments[-1]


def _with_gaps(params: Sequence[Any], there: Sequence[bool]) -> tuple[Any, ...]:
    """Insert None for each absent parameter."""
    found = iter(params)
    return tuple(next(found) if is_there else None for is_there in there)


def checked(inputs: LayerInputs, options: LayerOptions) -> LayerInputs:
    """Check the shapes, copy the lengths to the CPU, where the loops need them, and check their range.

    Raises:
        ValueError: a shape does not fit, or a length is out of range.
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
    """Check the range of the lengths of a pass in PyTorch operations, which do not need them on the CPU.

    Raises:
        ValueError: a length is out of range.
    """
    bad = [n for n in known_numbers(lengths) if not 0 <= n <= T]
    if bad:
        raise ValueError(f"lengths holds {bad[0]}; expected 0 to {T}, the number of steps of the input")
