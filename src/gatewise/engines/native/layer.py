"""Whole layer passes in C++, without tensor operations in between; ``csrc/passes.hpp`` documents them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gatewise.engines.boundary import Ready, addresses, new, readable
from gatewise.engines.checks import check_saved
from gatewise.engines.contract import (
    LayerGradients,
    LayerInputs,
    LayerOptions,
    LayerOutputs,
    packed_rows,
    work_dtype,
)
from gatewise.engines.native.module import CELLS, name_of, native, numbers_for

NOT_COMPUTED = "projected LSTMs, fp16, mixed dtypes, tensors on a GPU"
"""The cases in which ``auto`` falls back to the torch engine."""


def why_not_cell(cell: str, projected: bool) -> str | None:
    """Return the reason why a cell is not supported, or None."""
    if cell not in CELLS:
        return f"cell {cell} is not supported"
    return "an output projection is not supported" if projected else None


def why_not(inputs: LayerInputs, options: LayerOptions) -> str | None:
    """Return the reason why a pass is not supported, or None."""
    if reason := why_not_cell(options.cell, len(inputs.params) > 4 and inputs.params[4] is not None):
        return reason
    if inputs.x.device.type != "cpu":
        return f"the tensors are on {inputs.x.device}"
    dtypes, products = {t.dtype for t in inputs.floating}, options.products
    if not dtypes <= {torch.float32, torch.bfloat16} and dtypes != {torch.float64}:
        return f"the tensors are {', '.join(sorted(map(name_of, dtypes)))}"
    if products not in (None, torch.bfloat16, inputs.state[0].dtype) or (
        products == torch.bfloat16 and torch.float64 in dtypes
    ):
        return f"products in {name_of(products)} are not supported"
    return None


def forward(inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
    """Run one pass."""
    dtype, out, spec = work_dtype(inputs), inputs.state[0].dtype, options.about
    given = _in_memory(inputs, options, dtype)
    (T, B), H, gates = inputs.x.shape[:2], inputs.units, len(spec.gates)
    saved = [new(dtype, *shape) for shape in kept_shapes(inputs, options)] if options.save else []
    if options.known_shapes and inputs.lengths is not None:  # rows past every length: the same at every call
        for t in saved:
            t.zero_()
    y, state = new(dtype, T, B, H), [new(dtype, B, H) for _ in spec.states]
    parts = spec.trace_parts if options.trace else ()
    trace = {len(part): new(dtype, T, B, len(part) * H) for part in parts}  # the gates; for an LSTM also c
    native.forward(
        _describe(given, options, inputs),
        options.threads,
        *addresses(y, *state, *(None,) * (2 - len(state)), *(saved or (None, None)), trace.get(gates), trace.get(1)),
    )
    return LayerOutputs(y.to(out), tuple(s.to(out) for s in state), list(saved), [t.to(out) for t in trace.values()])


def backward(
    inputs: LayerInputs,
    outputs: LayerOutputs,
    dy: Tensor,
    dstate: Sequence[Tensor],
    options: LayerOptions,
    needs_dx: bool,
) -> LayerGradients:
    """Return the gradients of the inputs."""
    dtype, (T, B), H = work_dtype(inputs), inputs.x.shape[:2], inputs.units
    given = _in_memory(inputs, options, dtype)
    kept = kept_shapes(inputs, options)
    check_saved(outputs.saved, kept, dtype)
    saved = [readable(f"saved[{k}]", outputs.saved[k], dtype, *shape) for k, shape in enumerate(kept)]
    none = (None,) * (2 - len(dstate))
    upstream = [readable(f"d{name}_n", d, dtype, B, H) for name, d in zip(options.about.states, dstate, strict=True)]
    given_back = (
        readable("y", outputs.y, dtype, T, B, H),
        *(saved or (None, None)),
        readable("dy", dy, dtype, T, B, H),
        *upstream,
        *none,
    )
    dx = new(dtype, *inputs.x.shape) if needs_dx else None
    before = [new(dtype, B, H) for _ in inputs.state]
    params = [None if p is None else new(dtype, *p.shape) for p in inputs.params]
    native.backward(
        _describe(given, options, inputs),
        options.threads,
        *addresses(*given_back, dx, *before, *none, *params[:4]),
    )
    return LayerGradients(
        None if dx is None else dx.to(inputs.x.dtype),
        tuple(d.to(s.dtype) for d, s in zip(before, inputs.state, strict=True)),
        tuple(None if d is None or p is None else d.to(p.dtype) for d, p in zip(params, inputs.params, strict=True)),
    )


def kept_shapes(inputs: LayerInputs, options: LayerOptions) -> list[tuple[int, ...]]:
    """Return the shapes of the saved tensors: the gates of all packed rows, and c or ``W_hn h' + b_hn``."""
    rows, H, gates = packed_rows(inputs, options), inputs.units, len(options.about.gates)
    return [(rows, gates * H), (rows, H)] if gates > 1 else []


_Given = tuple[Ready | None, ...]
"""The tensors that C++ reads; they must stay alive while their addresses are used."""


def _in_memory(inputs: LayerInputs, options: LayerOptions, dtype: torch.dtype) -> _Given:
    """Return x, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh, h_mask and lengths for C++ (``Given``)."""
    (T, B, width), H, spec = inputs.x.shape, inputs.units, options.about
    w_ih, w_hh, b_ih, b_hh, *_ = inputs.params  # of every cell here
    if (b_ih is None) != (b_hh is None):
        raise ValueError(f"{'bias_ih' if b_ih is None else 'bias_hh'} is missing; expected both biases, or neither")
    rows = len(spec.gates) * H
    state = [readable(f"{name}_0", s, dtype, B, H) for name, s in zip(spec.states, inputs.state, strict=True)]
    h_mask, lengths = inputs.h_mask, inputs.lengths
    return (
        readable("x", inputs.x, dtype, T, B, width),
        *state,
        *(None,) * (2 - len(state)),
        readable("weight_ih", w_ih, dtype, rows, width),  # type: ignore[arg-type]
        readable("weight_hh", w_hh, dtype, rows, H),  # type: ignore[arg-type]
        None if b_ih is None else readable("bias_ih", b_ih, dtype, rows),
        None if b_hh is None else readable("bias_hh", b_hh, dtype, rows),
        None if h_mask is None else readable("h_mask", h_mask, dtype, B, H),
        None if lengths is None else readable("lengths", lengths, torch.int64, B),
    )


def _describe(given: _Given, options: LayerOptions, inputs: LayerInputs) -> Any:
    *numbers, lengths = given
    return native.Given(
        native.Cell[options.cell],
        numbers_for(work_dtype(inputs), options.high, options.products, inputs.state[0].dtype),
        *(*inputs.x.shape, inputs.units),
        options.reverse,
        *addresses(lengths, *numbers),
    )
