"""Checks that every engine relies on: all tensors are present and their shapes agree.

Every failure is a one-line ``ValueError``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gatewise.engines.boundary import check_shape
from gatewise.engines.contract import LayerInputs, LayerOptions, LayerOutputs, LossInputs
from gatewise.spec import CELLS, CellSpec


def check_layer(inputs: LayerInputs, options: LayerOptions) -> None:
    """Check that exactly the tensors that the cell needs are given, and that their shapes agree.

    Raises:
        ValueError: a tensor is missing or superfluous, or a shape does not fit.
    """
    x, state, params, h_mask, lengths = inputs
    cell = CELLS.get(options.cell)
    if cell is None:
        raise ValueError(f"cell is {options.cell!r}; expected one of {', '.join(CELLS)}")
    if len(state) != len(cell.states) or len(params) != len(cell.parameters):
        raise ValueError(
            f"got {len(state)} states and {len(params)} parameters for {options.cell}; expected "
            f"{', '.join(f'{name}_0' for name in cell.states)} and {', '.join(cell.parameters)}"
        )
    for t in (x, *state, *(params[:-1] if cell.projection and params[-1] is None else params)):
        if not isinstance(t, Tensor):
            _check_presence(inputs, cell)
            break
    if x.dim() != 3 or state[0].dim() != 2:
        raise ValueError(f"x has shape {tuple(x.shape)}, h_0 {tuple(state[0].shape)}; expected (T, B, I) and (B, H)")
    (_, B, width), P, H = x.shape, state[0].shape[1], inputs.units
    for k, part in enumerate(state):
        if part.shape != (B, H if k else P):
            check_shape(f"{cell.states[k]}_0", part, (B, H if k else P))
    for (name, shape), param in zip(cell.shapes(width, H, P).items(), params, strict=True):
        if param is not None and param.shape != shape:
            check_shape(name, param, shape)
    if P != H and (cell.projection is None or params[-1] is None):
        raise ValueError(f"h_0 has {P} features, {cell.states[-1]}_0 has {H}; expected the same number, or weight_hr")
    if h_mask is not None and h_mask.shape != (B, P):
        check_shape("h_mask", h_mask, (B, P))
    if lengths is not None:
        if lengths.dtype is not torch.int64:
            raise ValueError(f"lengths is {lengths.dtype}; expected torch.int64: call .long()")
        check_shape("lengths", lengths, (B,))


def _check_presence(inputs: LayerInputs, cell: CellSpec) -> None:
    """Check that all are tensors; only the projection, and all biases together, may be None."""
    params = dict(zip(cell.parameters, inputs.params, strict=True))
    biased = any(param is not None for name, param in params.items() if name.startswith("bias"))
    states = zip((f"{name}_0" for name in cell.states), inputs.state, strict=True)
    for name, given in {"x": inputs.x, **dict(states), **params}.items():
        optional = name == cell.projection or (name.startswith("bias") and not biased)
        if not isinstance(given, Tensor) and not (given is None and optional):
            cure = ", or no biases at all: make the module with bias=False" if name.startswith("bias") else ""
            raise ValueError(
                f"{name} is {'missing' if given is None else type(given).__name__}; expected a tensor{cure}"
            )


def check_backward(inputs: LayerInputs, outputs: LayerOutputs, dy: Tensor, dstate: Sequence[Tensor], cell: str) -> None:
    """Check that the outputs of a forward pass and their gradients have the shapes that these inputs imply.

    Raises:
        ValueError: a shape does not fit, or there are too many or too few tensors.
    """
    (T, B), (P, H), spec = inputs.x.shape[:2], (inputs.state[0].shape[1], inputs.units), CELLS[cell]
    if not len(outputs.state) == len(dstate) == len(spec.states):
        raise ValueError(
            f"got {len(outputs.state)} final states and {len(dstate)} gradients; expected {len(spec.states)} of each"
        )
    shapes = {"y": (T, B, P)} | {f"{s}_n": (B, n) for s, n in zip(spec.states, spec.state_sizes(H, P), strict=True)}
    found = zip(shapes.items(), (outputs.y, *outputs.state), (dy, *dstate), strict=True)
    for (name, shape), output, gradient in found:
        check_shape(name, output, shape)
        check_shape(f"d{name}", gradient, shape)


def check_saved(saved: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], dtype: torch.dtype) -> None:
    """Check that the tensors that a forward pass saved are complete and unchanged in shape and dtype.

    Raises:
        ValueError: they are not.
    """
    if len(saved) != len(shapes):
        raise ValueError(f"saved holds {len(saved)} tensors; expected the {len(shapes)} that the forward pass returned")
    for k, (tensor, shape) in enumerate(zip(saved, shapes, strict=True)):
        check_shape(f"saved[{k}]", tensor, shape)
        if tensor.dtype != dtype:
            raise ValueError(f"saved[{k}] is {tensor.dtype}; expected {dtype}")


def check_loss(inputs: LossInputs) -> None:
    """Check the inputs of the loss.

    Raises:
        ValueError: a shape does not fit, or the targets are not integers.
    """
    for name, given in inputs._asdict().items():
        if not isinstance(given, Tensor):
            raise ValueError(f"{name} is {given!r:.40}; expected a tensor")
    x, weight, bias, targets = inputs
    if x.dim() != 2 or weight.dim() != 2 or weight.shape[1] != x.shape[1]:
        found = f"x has shape {tuple(x.shape)}, weight {tuple(weight.shape)}"
        raise ValueError(f"{found}; expected (N, H) and (V, H)")
    check_shape("bias", bias, weight.shape[:1])
    check_shape("targets", targets, x.shape[:1])
    if targets.dtype in _NO_NUMBERS or targets.is_floating_point() or targets.is_complex():
        raise ValueError(f"targets is {targets.dtype}; expected integers: call .long()")
    if len(x) and not len(weight):
        raise ValueError(f"weight has shape {tuple(weight.shape)}; expected a row for each possible target")


_NO_NUMBERS = (torch.bool, torch.uint16, torch.uint32, torch.uint64)  # PyTorch has few operations for the last three
