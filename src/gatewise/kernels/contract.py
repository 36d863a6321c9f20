"""What an engine computes: one direction of one layer, over all steps, forward and backward.

The equations are those of ``gatewise.reference``, letter by letter. An engine is given plain tensors and returns plain
tensors; it knows nothing of autograd, of stacks, of random numbers. Dropout comes as masks.

*Aliasing*: nothing given is changed; nothing returned shares memory with what was given, nor with anything else that
is returned. *Scratch*: an engine allocates what it needs; what it wants to see again in ``backward`` it returns as
``saved``. *Layout*: time first; inputs may be strided as they like, outputs are contiguous.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


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


def state_size(inputs: LayerInputs) -> int:
    """H."""
    return inputs.h_0.shape[-1] if inputs.c_0 is None else inputs.c_0.shape[-1]


def work_dtype(inputs: LayerInputs) -> torch.dtype:
    """Gates and states are computed in this: the dtype of h_0, or float32 where that is narrower."""
    return torch.promote_types(inputs.h_0.dtype, torch.float32)
