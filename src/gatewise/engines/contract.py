"""The contract of an engine: what it computes, and how it reports that it does not support something.

A *layer pass* is one direction of one layer over all steps, forward and backward. The equations and their symbols are
those of ``gatewise.reference``. An engine takes and returns plain tensors; it knows nothing of autograd, stacks or
random numbers. Dropout is passed in as masks, threads and precision as arguments.

*Aliasing*: inputs are not modified; no output shares memory with an input or with another output. *Scratch*: an engine
allocates its own; it returns what ``backward`` needs as ``saved``. *Layout*: time first; inputs may have any strides,
outputs are contiguous.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from gatewise.spec import CELLS, CellSpec, RecurrentSpec


class LayerInputs(NamedTuple):
    """The inputs of a pass. P is the size of h: the size of the projection if there is one, else H."""

    x: Tensor
    """(T, B, I)"""
    state: tuple[Tensor, ...]
    """The state before the first step, in the order of the cell's ``states``: h (B, P), whose dtype is that of all
    outputs, and the others (B, H)"""
    params: tuple[Tensor | None, ...]
    """In the order and with the shapes of the cell's ``parameters``; None for absent biases and an absent projection"""
    h_mask: Tensor | None
    """(B, P): multiplies h' in the recurrent product of every step"""
    lengths: Tensor | None
    """(B,) int64 on the CPU, each 0 to T: the steps of each row. x is not read past them"""

    @property
    def floating(self) -> list[Tensor]:
        """All inputs that have a gradient."""
        return [self.x, *self.state, *[p for p in self.params if p is not None]]

    @property
    def units(self) -> int:
        """H."""
        return self.state[-1].shape[-1]


class StackInputs(NamedTuple):
    """The inputs of a whole stack of layers, in one direction or two, without masks, dropout or a trace."""

    x: Tensor
    """(T, B, I)"""
    state: tuple[Tensor, ...]
    """One tensor (L·D, B, H) for each of the cell's states"""
    params: tuple[tuple[Tensor | None, ...], ...]
    """The parameters of each pass, as in ``LayerInputs``: layer by layer, forward before reverse"""
    lengths: Tensor | None = None
    """As in ``LayerInputs``"""
    bidirectional: bool = False

    @property
    def floating(self) -> list[Tensor]:
        """All inputs that have a gradient."""
        return [self.x, *self.state, *[p for params in self.params for p in params if p is not None]]

    @property
    def units(self) -> int:
        """H."""
        return self.state[-1].shape[-1]

    @property
    def layers(self) -> int:
        """L."""
        return len(self.params) // (2 if self.bidirectional else 1)


class LayerOptions(NamedTuple):
    """The options of a pass."""

    cell: str
    """A name in ``gatewise.spec.CELLS``."""
    reverse: bool = False
    """Read each row from its end; each output is at the position of its input."""
    products: torch.dtype | None = None
    """The dtype of the operands of matrix products; gates and states stay in float32 or wider. None: the dtype of h."""
    high: bool = False
    """Whether float32 products may be sums of bfloat16 products, as with ``training.precision = "high"``."""
    threads: int = 1
    """The maximum number of threads."""
    save: bool = False
    """Whether ``backward`` will be called."""
    trace: bool = False
    """Whether to return the gates."""
    known_shapes: bool = False
    """Whether ``saved`` must have the shapes of ``saved_shapes``, which a compiled graph relies on."""

    @property
    def about(self) -> CellSpec:
        """The entry of the cell in ``CELLS``."""
        return CELLS[self.cell]


class LayerOutputs(NamedTuple):
    """The outputs of a pass."""

    y: Tensor
    """(T, B, P), zero past the length of a row"""
    state: tuple[Tensor, ...]
    """The state after the last step of each row, in the shapes of the inputs; unchanged for a row without steps"""
    saved: list[Tensor]
    """Tensors for ``backward``; empty if ``save`` is false"""
    trace: list[Tensor]
    """If requested, the cell's ``trace_parts``, each (T, B, …); zero past the length of a row"""


class LayerGradients(NamedTuple):
    """The gradient of the loss with respect to each input, in its shape and dtype; None where the input is None."""

    x: Tensor | None
    """Also None if it was not requested"""
    state: tuple[Tensor, ...]
    params: tuple[Tensor | None, ...]


class StackGradients(NamedTuple):
    """The gradient of the loss with respect to each input of a stack, as in ``LayerGradients``."""

    x: Tensor | None
    state: tuple[Tensor, ...]
    params: tuple[tuple[Tensor | None, ...], ...]


class LossInputs(NamedTuple):
    """The inputs of the softmax cross-entropy of a linear layer."""

    x: Tensor
    """(N, H)"""
    weight: Tensor
    """(V, H)"""
    bias: Tensor
    """(V,)"""
    targets: Tensor
    """(N,), integers from 0 to V − 1"""


class LossOptions(NamedTuple):
    """The options of the loss."""

    scale: float = 1.0
    """A factor of the loss and all gradients."""
    products: torch.dtype = torch.float32
    """The dtype of the operands of products."""
    wanted: Sequence[bool] = (True, True, True)
    """Whether to compute the gradients of x, weight and bias."""
    high: bool = False
    """As in ``LayerOptions``."""
    threads: int = 1
    """The maximum number of threads."""
    chunk: int = 0
    """The maximum number of rows whose logits are held at a time; 0 lets the engine choose."""


class LossOutputs(NamedTuple):
    """The loss, a scalar, and the requested gradients, each in the dtype of its tensor."""

    nll: Tensor
    dx: Tensor | None
    dweight: Tensor | None
    dbias: Tensor | None


class Engine(ABC):
    """Base class of the engines.

    Each capability has a ``why_not_…`` method that returns the reason why the engine does not support it, in a few
    words, or None if it does.
    """

    name: ClassVar[str]
    opaque_loss: ClassVar[bool] = False
    """Whether the loss is a single operator in a compiled graph instead of PyTorch's operations."""
    has_fp16: ClassVar[bool] = True
    """Whether float16 products are supported."""
    row_gradients: ClassVar[bool] = False
    """Whether an update supports sparse gradients, such as those of an embedding."""

    @abstractmethod
    def why_not(self, device: torch.device) -> str | None:
        """Return the reason why the engine is not available on a device, or None."""

    @abstractmethod
    def hardware(self, device: torch.device) -> str:
        """Return the name of what computes on a device: an instruction set, a GPU or a library."""

    def has_high(self, device: torch.device) -> bool:
        """Return whether the precision ``high`` is supported on a device.

        On the CPU, a float32 product is the sum of bfloat16 products; on a GPU, it is computed in TF32.
        """
        return False

    def fast_high(self, device: torch.device) -> bool:
        """Return whether ``high`` is faster than fp32 on a device."""
        return False

    @abstractmethod
    def why_not_cell(self, cell: str, projected: bool) -> str | None:
        """Return the reason why a cell is not supported, whatever the tensors, or None."""

    @abstractmethod
    def why_not_layer(self, inputs: LayerInputs, options: LayerOptions) -> str | None:
        """Return the reason why a pass is not supported, or None."""

    @abstractmethod
    def forward(self, inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
        """Run one pass.

        Raises:
            ValueError: the pass is not supported; a one-line message gives the reason.
        """

    @abstractmethod
    def backward(
        self,
        inputs: LayerInputs,
        outputs: LayerOutputs,
        dy: Tensor,
        dstate: Sequence[Tensor],
        options: LayerOptions,
        needs_dx: bool,
    ) -> LayerGradients:
        """Return the gradients of the inputs, given those of y and of the final state.

        dy is not read past the length of a row.
        """

    @abstractmethod
    def saved_shapes(self, inputs: LayerInputs, options: LayerOptions) -> list[tuple[int, ...]]:
        """Return the shapes of ``saved``; each tensor has the dtype of y, or float32 if that is wider."""

    def why_not_stack(self, inputs: StackInputs, options: LayerOptions) -> str | None:
        """Return the reason why a stack cannot be run as a whole, or None."""
        return "stacks are run pass by pass"

    def stack(self, inputs: StackInputs, options: LayerOptions) -> LayerOutputs:
        """Run a stack that ``why_not_stack`` does not refuse; y is (T, B, D·H), the trace empty."""
        raise NotImplementedError

    def stack_backward(
        self,
        inputs: StackInputs,
        outputs: LayerOutputs,
        dy: Tensor,
        dstate: Sequence[Tensor],
        options: LayerOptions,
        needs_dx: bool,
    ) -> StackGradients:
        """Return the gradients of the inputs of a stack, given those of y and of the final state."""
        raise NotImplementedError

    @abstractmethod
    def why_not_loss(self, inputs: LossInputs, products: torch.dtype) -> str | None:
        """Return the reason why the loss of these tensors is not supported, or None."""

    @abstractmethod
    def loss(self, inputs: LossInputs, options: LossOptions) -> LossOutputs:
        """Return the loss of ``gatewise.nn.linear_cross_entropy`` and its gradients."""

    @abstractmethod
    def why_not_mask(self, like: Tensor) -> str | None:
        """Return the reason why masks like a tensor are not supported, or None."""

    @abstractmethod
    def mask(self, like: Tensor, seed: Tensor, kept: int, scale: float, threads: int) -> Tensor:
        """Return the dropout mask of a seed: 32-bit random integers from SplitMix64, compared with a bound.

        Args:
            like: a tensor with the shape, dtype and device of the mask.
            seed: (1,) int64 on the CPU.
            kept: the bound, from −2³¹ to 2³¹ − 1; the mask is ``scale`` where the random integer is below it, else 0.
            scale: the value of the elements that are kept.
            threads: the maximum number of threads.
        """

    def masked(self, x: Tensor, seed: Tensor, kept: int, scale: float, threads: int) -> Tensor:
        """Return the product of a tensor and the mask of a seed."""
        return x * self.mask(x, seed, kept, scale, threads)

    @abstractmethod
    def why_not_update(self, optimizer: torch.optim.Optimizer, scaled: bool) -> str | None:
        """Return the reason why a step of an optimizer is not supported, or None; ``scaled`` if the loss is scaled."""

    @abstractmethod
    def gradient_norm(self, parameters: Iterable[Tensor], threads: int) -> float:
        """Return ``√ Σ g²`` over the gradients of all parameters."""

    @abstractmethod
    def update(
        self,
        optimizer: torch.optim.Optimizer,
        norm: float,
        max_norm: float,
        threads: int,
        scaler: torch.amp.GradScaler,
    ) -> None:
        """Perform ``optimizer.step()`` with clipped gradients: ``g · min(1, max_norm / (norm + 1e-6))``.

        Args:
            optimizer: the optimizer.
            norm: the norm of all gradients.
            max_norm: its limit; 0 for none.
            threads: the maximum number of threads.
            scaler: the loss scaler, whose scale has been removed from the gradients; it may be disabled.
        """

    @abstractmethod
    def why_not_stream(self, spec: RecurrentSpec, device: torch.device, dtype: torch.dtype) -> str | None:
        """Return the reason why a stack cannot be streamed (run step by step on packed weights), or None."""

    @abstractmethod
    def stream(self, spec: RecurrentSpec, parameters: Any, **options: Any) -> Any:
        """Pack the weights of a stack; see ``gatewise.engines.native.stream.Stream`` for the arguments."""


def packed_rows(inputs: LayerInputs, options: LayerOptions) -> int:
    """Return the total number of steps of all rows; with ``known_shapes``, its upper bound."""
    if inputs.lengths is None or options.known_shapes:
        return inputs.x.shape[0] * inputs.x.shape[1]
    return int(inputs.lengths.sum())


def work_dtype(inputs: LayerInputs) -> torch.dtype:
    """Return the dtype of gates and states: that of h, or float32 if that is wider."""
    return torch.promote_types(inputs.state[0].dtype, torch.float32)


def cannot_run(name: str, reason: str) -> str:
    """Return the error message for a request that the named engine does not support."""
    return f"engine {name!r} cannot run this: {reason}; use engine='auto' or 'torch'"
