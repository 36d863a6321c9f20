"""cuDNN's recurrent layers: any cell of PyTorch's, a whole stack in one call, forward and backward.

PyTorch's operators are called directly, so that the backward pass uses what the forward pass kept. In 16 bits, cuDNN
rounds h and c at each step; sums are float32. In float32, it uses TF32 if ``torch.backends.cudnn`` allows it. Rows of
different lengths, and reverse passes, are packed.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gatewise.engines.checks import check_saved
from gatewise.engines.contract import (
    LayerGradients,
    LayerInputs,
    LayerOptions,
    LayerOutputs,
    StackGradients,
    StackInputs,
)
from gatewise.engines.torch.packing import Packing

_FORWARD, _BACKWARD = torch.ops.aten._cudnn_rnn, torch.ops.aten._cudnn_rnn_backward

_MODES = {"rnn_relu": 0, "rnn_tanh": 1, "lstm": 2, "gru": 3}
"""cuDNN's codes of the cells."""

_KEPT: dict[tuple[Any, ...], list[int]] = {}
"""The sizes of what cuDNN keeps for its backward pass, which trusts them, by pass."""


def why_not(x: Tensor) -> str | None:
    """Return the reason why cuDNN cannot take tensors like x, or None."""
    if x.device.type != "cuda":
        return f"the tensors are on {x.device}"
    if not torch.backends.cudnn.is_acceptable(x):  # type: ignore[no-untyped-call]
        return f"cuDNN is not available for {x.dtype}"
    return None


def fits(inputs: LayerInputs, options: LayerOptions) -> bool:
    """Return whether cuDNN computes exactly this pass of one layer and direction."""
    return inputs.h_mask is None and not options.trace and fits_stack(_as_stack(inputs), options)


def fits_stack(inputs: StackInputs, options: LayerOptions) -> bool:
    """Return whether cuDNN computes exactly this stack."""
    x, state, dtypes = inputs.x, inputs.state, {t.dtype for t in inputs.floating}
    if options.cell not in _MODES or state[0].shape[-1] != state[-1].shape[-1] or x.numel() == 0:
        return False
    narrow = options.products in (torch.bfloat16, torch.float16) and torch.float64 not in dtypes
    return (narrow or (options.products is None and len(dtypes) == 1)) and why_not(x) is None


def forward(inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
    """Run one pass."""
    out = stack_forward(_as_stack(inputs), options)
    return out._replace(state=tuple(part[0] for part in out.state))


def backward(
    inputs: LayerInputs,
    outputs: LayerOutputs,
    dy: Tensor,
    dstate: Sequence[Tensor],
    options: LayerOptions,
    needs_dx: bool,
) -> LayerGradients:
    """Return the gradients of the inputs of one pass."""
    found = stack_backward(_as_stack(inputs), outputs, dy, [d[None] for d in dstate], options, needs_dx)
    return LayerGradients(found.x, tuple(d[0] for d in found.state), found.params[0])


def stack_forward(inputs: StackInputs, options: LayerOptions) -> LayerOutputs:
    """Run a stack; ``saved`` is cuDNN's reserve and the weights in one piece, or nothing if shapes must be known."""
    call = _Call.of(inputs, options)
    if not call.rows.total:
        y = inputs.x.new_zeros(*inputs.x.shape[:2], len(inputs.params) // inputs.layers * inputs.units)
        return LayerOutputs(y.to(inputs.state[0].dtype), tuple(part.clone() for part in inputs.state), [], [])
    y, h_n, c_n, *kept = _FORWARD(
        *(call.x, call.weights, call.each, None, *call.state, *call.how, options.save, inputs.bidirectional),
        *(call.sizes, None),
    )
    if options.save:
        if len(_KEPT) >= 4096:
            _KEPT.clear()
        _KEPT[call.key] = [t.numel() for t in kept]
    (T, B), dtype, rows = inputs.x.shape[:2], inputs.state[0].dtype, call.rows
    return LayerOutputs(
        rows.unpack(y.flatten(0, -2), T, B).to(dtype),
        tuple(_unsorted(part.to(dtype), before, rows) for part, before in zip((h_n, c_n), inputs.state, strict=False)),
        kept if options.save and not options.known_shapes else [],
        [],
    )


def stack_backward(
    inputs: StackInputs,
    outputs: LayerOutputs,
    dy: Tensor,
    dstate: Sequence[Tensor],
    options: LayerOptions,
    needs_dx: bool,
) -> StackGradients:
    """Return the gradients of x, of the states and of the parameters of each pass."""
    call = _Call.of(inputs, options)
    if not call.rows.total:
        params = tuple(tuple(None if p is None else torch.zeros_like(p) for p in own) for own in inputs.params)
        return StackGradients(torch.zeros_like(inputs.x), tuple(d.clone() for d in dstate), params)
    rows, dtype, (T, B) = call.rows, call.x.dtype, inputs.x.shape[:2]
    saved = outputs.saved
    if not saved or call.key not in _KEPT:
        again = stack_forward(inputs, options._replace(save=True, known_shapes=False)).saved
        saved = saved or again
    reserve_size, size = _KEPT[call.key]
    check_saved(saved[:1], [(reserve_size,)], torch.uint8)
    check_saved(saved[1:], [(size,)], dtype)
    reserve, flat = saved
    if torch._C._autograd._get_current_graph_task_keep_graph():  # cuDNN's backward pass overwrites it
        reserve = reserve.clone()
    y, dy = (rows.pack(t).to(dtype).reshape(*call.x.shape[:-1], -1).contiguous() for t in (outputs.y, dy))
    upstream = [_sorted(d.to(dtype), rows) for d in dstate] + [None] * (2 - len(dstate))
    dx, dh, dc, dweights = _BACKWARD(
        *(call.x, call.weights, call.each, flat, *call.state, y, dy, *upstream, *call.how, True, inputs.bidirectional),
        *(call.sizes, None, reserve, [needs_dx, True, len(dstate) > 1, True]),
    )
    found = iter(dweights)
    return StackGradients(
        rows.unpack(dx.flatten(0, -2), T, B).to(inputs.x.dtype) if needs_dx else None,
        tuple(
            _unsorted(d.to(s.dtype), after, rows) for d, s, after in zip((dh, dc), inputs.state, dstate, strict=False)
        ),
        tuple(tuple(None if p is None else next(found).to(p.dtype) for p in params) for params in inputs.params),
    )


class _Call(NamedTuple):
    """The arguments of PyTorch's operators."""

    x: Tensor
    """(T, B, I), or packed (N, I)"""
    state: list[Tensor | None]
    """h_0 and c_0, sorted, of the rows that have a step"""
    weights: list[Tensor]
    each: int
    """the number of weights of one pass"""
    how: tuple[Any, ...]
    """mode, H, no projection, L, time first, no dropout"""
    sizes: Sequence[int]
    """the number of rows of each step, if x is packed"""
    rows: Packing
    key: tuple[Any, ...]

    @classmethod
    def of(cls, inputs: StackInputs, options: LayerOptions) -> "_Call":
        dtype, (T, B, width), lengths = options.products or inputs.state[0].dtype, inputs.x.shape, inputs.lengths
        rows = Packing.plan(T, B, lengths, options.reverse, inputs.x.device)
        x = rows.pack(inputs.x).to(dtype)
        state: list[Tensor | None] = [_sorted(part.to(dtype), rows) for part in inputs.state]
        weights = [p.to(dtype) for p in chain(*inputs.params) if p is not None]
        how = (_MODES[options.cell], inputs.units, 0, inputs.layers, False, 0.0)
        sizes = () if lengths is None else tuple(rows.counts)
        return cls(
            x.view(T, B, width).contiguous() if lengths is None else x,
            state + [None] * (2 - len(state)),
            weights,
            len(weights) // len(inputs.params),
            how,
            sizes,
            rows,
            (*inputs.x.shape, sizes, how, inputs.bidirectional, len(weights), dtype, inputs.x.device),
        )


def _as_stack(inputs: LayerInputs) -> StackInputs:
    return StackInputs(inputs.x, tuple(part[None] for part in inputs.state), (inputs.params,), inputs.lengths)


def _sorted(part: Tensor, rows: Packing) -> Tensor:
    """Return (L·D, B, H) in the order of the rows that have a step, contiguous."""
    return part.contiguous() if rows.order is None else part.index_select(1, _working(rows.order, rows))


def _unsorted(part: Tensor, before: Tensor, rows: Packing) -> Tensor:
    """Return (L·D, B, H) in the order of the batch, with ``before`` for the rows without steps."""
    return part if rows.order is None else before.index_copy(1, _working(rows.order, rows), part)


def _working(order: Tensor, rows: Packing) -> Tensor:
    return order[: rows.counts[0] if rows.counts else 0]
