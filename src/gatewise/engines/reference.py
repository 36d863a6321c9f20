"""The reference as an engine: slow, in NumPy, step by step; in float64 if the tensors are float64."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.engines.contract import LayerGradients, LayerInputs, LayerOptions, LayerOutputs, work_dtype
from gatewise.engines.torch.engine import TorchEngine
from gatewise.reference import Array, stack


class ReferenceEngine(TorchEngine):
    """Runs a pass on ``gatewise.reference``; ``backward`` reruns the forward pass, so that nothing is saved.

    Everything else falls back to PyTorch.
    """

    name = "reference"

    def why_not(self, device: torch.device) -> str | None:
        """Return the reason why the engine is not available: NumPy runs on the CPU only."""
        return None if device.type == "cpu" else f"it uses NumPy on the CPU, but the tensors are on {device}"

    def hardware(self, device: torch.device) -> str:
        """Return the name of the library."""
        return "NumPy"

    def forward(self, inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
        """Run one pass."""
        y, state, runs, _ = _forward(inputs, options)
        trace = []
        if options.trace:
            way = slice(None, None, -1 if options.reverse else 1)
            for names in options.about.trace_parts:
                padded = np.zeros((*inputs.x.shape[:2], len(names) * inputs.units), y.dtype)
                for run in runs:
                    kept = np.concatenate([getattr(run.tape, name) for name in names], -1)
                    padded[: run.steps, run.rows] = kept[way]
                trace.append(padded)
        y_t, *back = (torch.from_numpy(np.ascontiguousarray(a)).to(inputs.state[0].dtype) for a in (y, *state, *trace))
        return LayerOutputs(y_t, tuple(back[: len(state)]), [], back[len(state) :])

    def backward(
        self,
        inputs: LayerInputs,
        outputs: LayerOutputs,
        dy: Tensor,
        dstate: Sequence[Tensor],
        options: LayerOptions,
        needs_dx: bool,
    ) -> LayerGradients:
        """Return the gradients of the inputs."""
        _, _, runs, (weights, h_mask) = _forward(inputs, options)
        dtype = work_dtype(inputs)
        dx, dbefore, dweights = stack.layer_backward(
            options.cell,
            _array(dy, dtype),
            tuple(_array(d, dtype) for d in dstate),
            runs,
            weights,
            reverse=options.reverse,
            h_mask=h_mask,
        )
        return LayerGradients(
            torch.from_numpy(dx).to(inputs.x.dtype) if needs_dx and dx is not None else None,
            tuple(torch.from_numpy(d).to(s.dtype) for d, s in zip(dbefore, inputs.state, strict=True)),
            tuple(
                None if d is None or p is None else torch.from_numpy(d).to(p.dtype)
                for d, p in zip(dweights, inputs.params, strict=False)
            ),
        )

    def saved_shapes(self, inputs: LayerInputs, options: LayerOptions) -> list[tuple[int, ...]]:
        """Return an empty list: nothing is saved."""
        return []


def _forward(inputs: LayerInputs, options: LayerOptions) -> tuple[Array, stack.State, list[stack.Run], Any]:
    dtype, x, params = work_dtype(inputs), inputs.x, dict(zip(options.about.parameters, inputs.params, strict=True))
    if options.products is not None:  # the closest NumPy gets: it has no bfloat16 products
        x = x.to(options.products)
        params |= {
            name: p.to(options.products) for name in ("weight_ih", "weight_hh") if (p := params[name]) is not None
        }
    w_ih = params["weight_ih"]
    assert w_ih is not None
    no_bias = w_ih.new_zeros(len(w_ih))
    weights = stack.CELLS[options.cell].weights(
        *(
            None if p is None and not name.startswith("bias") else _array(no_bias if p is None else p, dtype)
            for name, p in params.items()
        )
    )
    mask = 1.0 if inputs.h_mask is None else _array(inputs.h_mask, dtype)
    y, state, runs = stack.layer_forward(
        options.cell,
        _array(x, dtype),
        tuple(_array(s, dtype) for s in inputs.state),
        weights,
        reverse=options.reverse,
        lengths=None if inputs.lengths is None else inputs.lengths.tolist(),
        h_mask=mask,
    )
    return y, state, runs, (weights, mask)


def _array(tensor: Tensor, dtype: torch.dtype) -> Array:
    array: Array = tensor.detach().to(dtype).resolve_neg().numpy()
    return array
