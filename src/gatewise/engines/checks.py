"""What every engine may count on: each tensor there, and all shapes in agreement.

Failures are a ``ValueError`` of one line.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gatewise.engines.boundary import check_shape
from gatewise.engines.contract import LayerInputs, LayerOptions, LayerOutputs, LossInputs
from gatewise.spec import CELLS, CellSpec


def check_layer(inputs: LayerInputs, options: LayerOptions) -> None:
    """Check that there is what the cell needs and nothing else, and that all shapes agree.

    Raises:
        ValueError: they do not.
    """
    x, state, params, h_mask, lengths = inputs
    cell = CELLS.get(options.cell)
    if cell is None:
        raise ValueError(f"cell is {options.cell!r}; expected one of {', '.join(CELLS)}")
    if len(state) != len(cell.states) or len(params) != len(cell.parameters):
        raise ValueError(
            f"{len(state)} states and {len(params)} parameters are given to {options.cell}; expected "
            f"{', '.join(f'{name}_0' for name in cell.states)} and {', '.join(cell.parameters)}"
        )
    for t in (x, *state, *(params[:-1] if cell.projection and params[-1] is None else params)):
        if not isinstance(t, Tensor):
            _check_presence(inputs, cell)
            break
    if x.dim() != 3 or state[0].dim() != 2:
        raise ValueError(f"x is of shape {tuple(x.shape)}, h_0 {tuple(state[0].shape)}; expected (T, B, I) and (B, H)")
    (_, B, width), P, H = x.shape, state[0].shape[1], inputs.units
    for k, part in enumerate(state):
        if part.shape != (B, H if k else P):
            check_shape(f"{cell.states[k]}_0", part, (B, H if k else P))
    for (name, shape), param in zip(cell.shapes(width, H, P).items(), params, strict=True):
        if param is not None and param.shape != shape:
            check_shape(name, param, shape)
    if P != H and (cell.projection is None or params[-1] is None):
        raise ValueError(f"h_0 has {P} numbers a row, {cell.states[-1]}_0 {H}; expected equally many, or weight_hr")
    if h_mask is not None and h_mask.shape != (B, P):
        check_shape("h_mask", h_mask, (B, P))
    if lengths is not None:
        if lengths.dtype is not torch.int64:
            raise ValueError(f"lengths is {lengths.dtype}; expected torch.int64: call .long()")
        check_shape("lengths", lengths, (B,))


def _check_presence(inputs: LayerInputs, cell: CellSpec) -> None:
    """Check that nothing but the biases, both of them, and the projection is None, and that all else is a tensor."""
    params = dict(zip(cell.parameters, inputs.params, strict=True))
    biased = any(param is not None for name, param in params.items() if name.startswith("bias"))
    states = zip((f"{name}_0" for name in cell.states), inputs.state, strict=True)
    for name, given in {"x": inputs.x, **dict(states), **params}.items():
        optional = name == cell.projection or (name.startswith("bias") and not biased)
        if not isinstance(given, Tensor) and not (given is None and optional):
            cure = " or neither bias: make the module with bias=False" if name.startswith("bias") else ""
            raise ValueError(
                f"{name} is {'missing' if given is None else type(given).__name__}; expected a tensor{cure}"
            )


def check_backward(inputs: LayerInputs, outputs: LayerOutputs, dy: Tensor, dstate: Sequence[Tensor], cell: str) -> None:
    """Check that a forward pass's outputs and their gradients are of the shapes that these inputs lead to.

    Raises:
        ValueError: they are not.
    """
    (T, B), (P, H), spec = inputs.x.shape[:2], (inputs.state[0].shape[1], inputs.units), CELLS[cell]
    if not len(outputs.state) == len(dstate) == len(spec.states):
        raise ValueError(
            f"{len(outputs.state)} last states and {len(dstate)} gradients; expected {len(spec.states)} each"
        )
    shapes = {"y": (T, B, P)} | {f"{s}_n": (B, n) for s, n in zip(spec.states, spec.state_sizes(H, P), strict=True)}
    found = zip(shapes.items(), (outputs.y, *outputs.state), (dy, *dstate), strict=True)
    for (name, shape), output, gradient in found:
        check_shape(name, output, shape)
        check_shape(f"d{name}", gradient, shape)


def check_saved(saved: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], dtype: torch.dtype) -> None:
    """Check that what a forward pass kept is all there, and as it was.

    Raises:
        ValueError: it is not.
    """
    if len(saved) != len(shapes):
        raise ValueError(f"saved holds {len(saved)} tensors; expected the {len(shapes)} that the forward pass returned")
    for k, (tensor, shape) in enumerate(zip(saved, shapes, strict=True)):
        check_shape(f"saved[{k}]", tensor, shape)
        if tensor.dtype != dtype:
            raise ValueError(f"saved[{k}] is {tensor.dtype}; expected {dtype}")


def check_loss(inputs: LossInputs) -> None:
    """Check what comes into the loss.

    Raises:
        ValueError: a shape does not fit, or the targets are no whole numbers.
    """
    for name, given in inputs._asdict().items():
        if not isinstance(given, Tensor):
            raise ValueError(f"{name} is {given!r:.40}; expected a tensor")
    x, weight, bias, targets = inputs
    if x.dim() != 2 or weight.dim() != 2 or weight.shape[1] != x.shape[1]:
        found = f"x is of shape {tuple(x.shape)}, weight {tuple(weight.shape)}"
        raise ValueError(f"{found}; expected (N, H) and (V, H)")
    check_shape("bias", bias, weight.shape[:1])
    check_shape("targets", targets, x.shape[:1])
    if targets.dtype in _NO_NUMBERS or targets.is_floating_point() or targets.is_complex():
        raise ValueError(f"targets is {targets.dtype}; expected whole numbers: call .long()")
    if len(x) and not len(weight):
        raise ValueError(f"weight is of shape {tuple(weight.shape)}; expected a row for each possible target")


_NO_NUMBERS = (torch.bool, torch.uint16, torch.uint32, torch.uint64)  # the last three have hardly an operation
