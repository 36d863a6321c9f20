"""The reference behind the contract: slow, in NumPy, step by step; float64 where the tensors are."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.kernels.contract import LayerGradients, LayerInputs, LayerOptions, LayerOutputs, work_dtype
from gatewise.reference import Array, Weights, stack
from gatewise.spec import GATES


class ReferenceEngine:
    """Hands a pass to ``gatewise.reference`` and back; backward runs forward again, so that nothing is saved."""

    def forward(self, inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
        """Run one pass."""
        y, state_n, runs, _ = _forward(inputs, options)
        trace = []
        if options.trace:
            way = slice(None, None, -1 if options.reverse else 1)
            for names in _traced(options.cell):
                padded = np.zeros((*inputs.x.shape[:2], len(names) * state_n[-1].shape[-1]), y.dtype)
                for run in runs:
                    kept = np.concatenate([getattr(run.tape, name) for name in names], -1)
                    padded[: run.steps, run.rows] = kept[way]
                trace.append(padded)
        back = [torch.from_numpy(np.ascontiguousarray(a)).to(inputs.h_0.dtype) for a in (y, *state_n, *trace)]
        y_t, h_n, c_n = (*back[:2], back[2] if options.cell == "lstm" else back[0].new_empty(0))
        return LayerOutputs(y_t, h_n, c_n, [], back[1 + len(state_n) :])

    def backward(
        self,
        inputs: LayerInputs,
        outputs: LayerOutputs,
        dy: Tensor,
        dh_n: Tensor,
        dc_n: Tensor,
        options: LayerOptions,
        needs_dx: bool,
    ) -> LayerGradients:
        """Return the gradients of the inputs."""
        _, _, runs, (weights, h_mask) = _forward(inputs, options)
        dtype = work_dtype(inputs)
        dstate_n = tuple(_array(d, dtype) for d in ((dh_n, dc_n) if options.cell == "lstm" else (dh_n,)))
        dx, dstate, dweights = stack.layer_backward(
            options.cell, _array(dy, dtype), dstate_n, runs, weights, reverse=options.reverse, h_mask=h_mask
        )
        arrays = (dx if needs_dx else None, dstate[0], *(dstate[1:] or (None,)), *dweights)
        return LayerGradients(
            *(  # type: ignore[arg-type]
                None if array is None or of is None else torch.from_numpy(array).to(of.dtype)
                for array, of in zip(arrays, inputs[:8], strict=True)
            )
        )

    def saved_shapes(self, inputs: LayerInputs, options: LayerOptions) -> list[tuple[int, ...]]:
        """Nothing is saved."""
        return []


def _traced(cell: str) -> list[tuple[str, ...]]:
    """The tape's fields that the contract's trace is made of, tensor by tensor."""
    return {"lstm": [GATES["lstm"], ("c",)], "gru": [GATES["gru"]]}.get(cell, [])


def _forward(inputs: LayerInputs, options: LayerOptions) -> tuple[Array, stack.State, list[stack.Run], Any]:
    dtype = work_dtype(inputs)
    x, h_0, c_0, w_ih, w_hh, b_ih, b_hh, w_hr, h_mask, _ = inputs
    if options.products is not None:  # as near as NumPy comes: it has no 16-bit products
        x, w_ih, w_hh = (t.to(options.products) for t in (x, w_ih, w_hh))
    no_bias = w_ih.new_zeros(len(w_ih))
    weights = Weights(
        _array(w_ih, dtype),
        _array(w_hh, dtype),
        _array(no_bias if b_ih is None else b_ih, dtype),
        _array(no_bias if b_hh is None else b_hh, dtype),
        None if w_hr is None else _array(w_hr, dtype),
    )
    mask = 1.0 if h_mask is None else _array(h_mask, dtype)
    y, state_n, runs = stack.layer_forward(
        options.cell,
        _array(x, dtype),
        tuple(_array(s, dtype) for s in (h_0, c_0) if s is not None),
        weights,
        reverse=options.reverse,
        lengths=None if inputs.lengths is None else inputs.lengths.tolist(),
        h_mask=mask,
    )
    return y, state_n, runs, (weights, mask)


def _array(tensor: Tensor, dtype: torch.dtype) -> Array:
    array: Array = tensor.detach().to(dtype).resolve_neg().numpy()
    return array
