"""What an engine computes: one direction of one layer, over all steps, forward and backward.

The equations are those of ``gatewise.reference``, letter by letter. An engine is given plain tensors and returns plain
tensors; it knows nothing of autograd, of stacks, of random numbers. Dropout comes as masks.

*Aliasing*: nothing given is changed; nothing returned shares memory with what was given, nor with anything else that
is returned. *Scratch*: an engine allocates what it needs; what it wants to see again in ``backward`` it returns as
``saved``. *Layout*: time first; inputs may be strided as they like, outputs are contiguous.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gatewise.kernels.boundary import check_shape
from gatewise.spec import GATES


class LayerInputs(NamedTuple):
    """What goes into a pass. P is the size of h: that of the projection where there is one, else H."""

    x: Tensor
    """(T, B, I)"""
    h_0: Tensor
    """(B, P); its dtype is that of y, h_n and c_n"""
    c_0: Tensor | None
    """(B, H), of an LSTM"""
    w_ih: Tensor
    """(gates·H, I), the gates in the order of ``gatewise.spec.GATES``"""
    w_hh: Tensor
    """(gates·H, P)"""
    b_ih: Tensor | None
    """(gates·H,)"""
    b_hh: Tensor | None
    """(gates·H,); there where b_ih is"""
    w_hr: Tensor | None
    """(P, H), of a projected LSTM"""
    h_mask: Tensor | None
    """(B, P): multiplies h' in the recurrent product of every step"""
    lengths: Tensor | None
    """(B,) int64 on the CPU, each 0 to T: the steps of each row. What x holds past them is not read"""


class LayerOptions(NamedTuple):
    """How a pass is to be run."""

    cell: str
    """A key of ``gatewise.spec.GATES``."""
    reverse: bool = False
    """Read each row from its own end; outputs stand where their inputs stand."""
    products: torch.dtype | None = None
    """The dtype of the matrix products' factors; gates and states stay in float32 or wider. None: that of h_0."""
    save: bool = False
    """Whether ``backward`` will be called."""
    trace: bool = False
    """Whether the gates are wanted."""
    known_shapes: bool = False
    """Whether ``saved`` must have the shapes of ``saved_shapes``, since a compiled graph counts on them."""


class LayerOutputs(NamedTuple):
    """What comes out of a pass."""

    y: Tensor
    """(T, B, P), zero past a row's length"""
    h_n: Tensor
    """(B, P), after each row's last step; h_0 of a row without steps"""
    c_n: Tensor
    """(B, H), likewise; of other cells than the LSTM empty, (0,)"""
    saved: list[Tensor]
    """For ``backward``; empty where ``save`` is false"""
    trace: list[Tensor]
    """Where asked for: the gates after their activation (T, B, gates·H), an LSTM's c (T, B, H); zero past a row's
    length. A plain RNN has neither: its h is y."""


class LayerGradients(NamedTuple):
    """The derivative of the loss by each input, in its shape and dtype; None where the input is None."""

    x: Tensor | None
    """None too where it was not asked for"""
    h_0: Tensor
    c_0: Tensor | None
    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor | None
    b_hh: Tensor | None
    w_hr: Tensor | None


class Engine(Protocol):
    """Something that computes layer passes."""

    def forward(self, inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
        """Run one pass."""

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
        """Return the gradients of the inputs, from those of y, h_n and c_n; what dy holds past a length is not read."""

    def saved_shapes(self, inputs: LayerInputs, options: LayerOptions) -> list[tuple[int, ...]]:
        """Return the shapes of ``saved``, each of y's dtype or of float32 where y's is narrower."""


def check_layer(inputs: LayerInputs, options: LayerOptions) -> None:
    """Check that there is what the cell needs and nothing else, and that all shapes agree.

    Raises:
        ValueError: they do not; in one line.
    """
    x, h_0, c_0, w_ih, w_hh, b_ih, b_hh, w_hr, h_mask, lengths = inputs
    cell = options.cell
    if cell not in GATES:
        raise ValueError(f"cell is {cell!r}; expected one of {', '.join(GATES)}")
    for name, given in (("x", x), ("h_0", h_0), ("weight_ih", w_ih), ("weight_hh", w_hh)):
        if not isinstance(given, Tensor):  # an operator hands on None
            raise ValueError(f"{name} is {type(given).__name__}; expected a tensor")
    if x.dim() != 3 or h_0.dim() != 2:
        raise ValueError(f"x is of shape {tuple(x.shape)}, h_0 {tuple(h_0.shape)}; expected (T, B, I) and (B, H)")
    if (c_0 is not None) != (cell == "lstm"):
        raise ValueError(f"c_0 is {'missing' if c_0 is None else 'given'}; an lstm needs one, no other cell has one")
    if w_hr is not None and cell != "lstm":
        raise ValueError(f"weight_hr is given to {cell}; expected an lstm, which alone can be projected")
    if (b_ih is None) != (b_hh is None):
        missing = "bias_ih" if b_ih is None else "bias_hh"
        raise ValueError(f"{missing} is missing; expected both biases, or neither: make the module with bias=False")
    (_, B, width), P, H = x.shape, h_0.shape[1], state_size(inputs)
    rows = len(GATES[cell]) * H
    if h_0.shape != (B, P):
        check_shape("h_0", h_0, (B, P))
    if c_0 is not None and c_0.shape != (B, H):
        check_shape("c_0", c_0, (B, H))
    if w_ih.shape != (rows, width):
        check_shape("weight_ih", w_ih, (rows, width))
    if w_hh.shape != (rows, P):
        check_shape("weight_hh", w_hh, (rows, P))
    if b_ih is not None and b_hh is not None and not b_ih.shape == b_hh.shape == (rows,):
        check_shape("bias_ih", b_ih, (rows,))
        check_shape("bias_hh", b_hh, (rows,))
    if w_hr is not None:
        check_shape("weight_hr", w_hr, (P, H))
    elif P != H:
        raise ValueError(f"h_0 has {P} numbers a row, c_0 {H}; expected equally many, or weight_hr, which projects h")
    if h_mask is not None and h_mask.shape != (B, P):
        check_shape("h_mask", h_mask, (B, P))
    if lengths is not None:
        if lengths.dtype is not torch.int64:
            raise ValueError(f"lengths is {lengths.dtype}; expected torch.int64: call .long()")
        check_shape("lengths", lengths, (B,))


def check_backward(
    inputs: LayerInputs, outputs: LayerOutputs, upstream: tuple[Tensor, Tensor, Tensor], options: LayerOptions
) -> None:
    """Check that a forward pass's outputs and their gradients are of the shapes that these inputs lead to.

    Raises:
        ValueError: they are not; in one line.
    """
    (T, B), P, H = inputs.x.shape[:2], inputs.h_0.shape[1], state_size(inputs)
    shapes = (T, B, P), (B, P), (0,) if inputs.c_0 is None else (B, H)
    for name, shape, output, gradient in zip(("y", "h_n", "c_n"), shapes, outputs, upstream, strict=False):
        check_shape(name, output, shape)
        check_shape(f"d{name}", gradient, shape)


def check_saved(saved: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], dtype: torch.dtype) -> None:
    """Check that what a forward pass kept is all there, and as it was.

    Raises:
        ValueError: it is not; in one line.
    """
    if len(saved) != len(shapes):
        raise ValueError(f"saved holds {len(saved)} tensors; expected the {len(shapes)} that the forward pass returned")
    for k, (tensor, shape) in enumerate(zip(saved, shapes, strict=True)):
        check_shape(f"saved[{k}]", tensor, shape)
        if tensor.dtype != dtype:
            raise ValueError(f"saved[{k}] is {tensor.dtype}; expected {dtype}")


def packed_rows(inputs: LayerInputs, options: LayerOptions) -> int:
    """Return how many steps all rows have together, or, where a graph counts on known shapes, could have."""
    if inputs.lengths is None or options.known_shapes:
        return inputs.x.shape[0] * inputs.x.shape[1]
    return int(inputs.lengths.sum())


def state_size(inputs: LayerInputs) -> int:
    """H."""
    return inputs.h_0.shape[-1] if inputs.c_0 is None else inputs.c_0.shape[-1]


def work_dtype(inputs: LayerInputs) -> torch.dtype:
    """Gates and states are computed in this: the dtype of h_0, or float32 where that is narrower."""
    return torch.promote_types(inputs.h_0.dtype, torch.float32)
