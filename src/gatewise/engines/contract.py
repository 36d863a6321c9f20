"""What an engine computes, and for each capability how it says that it cannot.

A *layer pass* is one direction of one layer over all steps, forward and backward. The equations are those of
``gatewise.reference``, letter by letter. An engine is given plain tensors and returns plain tensors; it knows nothing
of autograd, of stacks, of random numbers. Dropout comes as masks, threads and precision as arguments.

*Aliasing*: nothing given is changed; nothing returned shares memory with what was given, nor with anything else that
is returned. *Scratch*: an engine allocates what it needs; what it wants to see again in ``backward`` it returns as
``saved``. *Layout*: time first; inputs may be strided as they like, outputs are contiguous.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from gatewise.spec import CELLS, CellSpec, RecurrentSpec


class LayerInputs(NamedTuple):
    """What goes into a pass. P is the size of h: that of the projection where there is one, else H."""

    x: Tensor
    """(T, B, I)"""
    state: tuple[Tensor, ...]
    """Before the first step, in the order of the cell's ``states``: h (B, P), whose dtype is that of all outputs, and
    the others (B, H)"""
    params: tuple[Tensor | None, ...]
    """In the order and of the shapes of the cell's ``parameters``; None of biases and of a projection that are not
    there"""
    h_mask: Tensor | None
    """(B, P): multiplies h' in the recurrent product of every step"""
    lengths: Tensor | None
    """(B,) int64 on the CPU, each 0 to T: the steps of each row. What x holds past them is not read"""

    @property
    def floating(self) -> list[Tensor]:
        """Everything that has a gradient."""
        return [self.x, *self.state, *[p for p in self.params if p is not None]]

    @property
    def units(self) -> int:
        """H."""
        return self.state[-1].shape[-1]


class LayerOptions(NamedTuple):
    """How a pass is to be run."""

    cell: str
    """A name in ``gatewise.spec.CELLS``."""
    reverse: bool = False
    """Read each row from its own end; outputs stand where their inputs stand."""
    products: torch.dtype | None = None
    """The dtype of the matrix products' factors; gates and states stay in float32 or wider. None: that of h."""
    high: bool = False
    """Whether float32 products may be sums of products of bfloat16, as ``training.precision = "high"`` says."""
    threads: int = 1
    """How many the engine may use."""
    save: bool = False
    """Whether ``backward`` will be called."""
    trace: bool = False
    """Whether the gates are wanted."""
    known_shapes: bool = False
    """Whether ``saved`` must have the shapes of ``saved_shapes``, since a compiled graph counts on them."""

    @property
    def about(self) -> CellSpec:
        """The cell's row of the table."""
        return CELLS[self.cell]


class LayerOutputs(NamedTuple):
    """What comes out of a pass."""

    y: Tensor
    """(T, B, P), zero past a row's length"""
    state: tuple[Tensor, ...]
    """After each row's last step, shaped as it was given; what was given of a row without steps"""
    saved: list[Tensor]
    """For ``backward``; empty where ``save`` is false"""
    trace: list[Tensor]
    """Where asked for, the cell's ``trace_parts``, each (T, B, …); zero past a row's length"""


class LayerGradients(NamedTuple):
    """The derivative of the loss by each input, in its shape and dtype; None where the input is None."""

    x: Tensor | None
    """None too where it was not asked for"""
    state: tuple[Tensor, ...]
    params: tuple[Tensor | None, ...]


class LossInputs(NamedTuple):
    """What goes into the softmax cross-entropy of a linear layer."""

    x: Tensor
    """(N, H)"""
    weight: Tensor
    """(V, H)"""
    bias: Tensor
    """(V,)"""
    targets: Tensor
    """(N,), whole numbers from 0 to V − 1"""


class LossOptions(NamedTuple):
    """How the loss is to be computed."""

    scale: float = 1.0
    """Multiplies all."""
    products: torch.dtype = torch.float32
    """The dtype of the products' factors."""
    wanted: Sequence[bool] = (True, True, True)
    """Whether the gradients of x, weight and bias are."""
    high: bool = False
    """As in ``LayerOptions``."""
    threads: int = 1
    """How many the engine may use."""
    chunk: int = 0
    """Rows whose logits are held at a time, at most; 0 for the engine's own choice."""


class LossOutputs(NamedTuple):
    """The loss, a scalar, and the gradients that were wanted, each in its tensor's dtype."""

    nll: Tensor
    dx: Tensor | None
    dweight: Tensor | None
    dbias: Tensor | None


class Engine(ABC):
    """Something that computes. Each capability has a ``why_not``: a few words, or None where it is computed."""

    name: ClassVar[str]
    opaque_loss: ClassVar[bool] = False
    """Whether the loss is one operator in a compiled graph, instead of PyTorch's operations."""
    has_high: ClassVar[bool] = False
    """Whether ``high`` is known, products of float32 that are sums of products of bfloat16."""
    has_fp16: ClassVar[bool] = True
    """Whether products in float16 are."""
    row_gradients: ClassVar[bool] = False
    """Whether an update reads sparse gradients, of some rows of an embedding."""

    @abstractmethod
    def why_not(self, device: torch.device) -> str | None:
        """Say why nothing at all is computed on a device."""

    @abstractmethod
    def hardware(self, device: torch.device) -> str:
        """Name what computes on a device: instructions, a GPU, a library."""

    def fast_high(self) -> bool:
        """Whether ``high`` is faster than fp32 on this processor."""
        return False

    @abstractmethod
    def why_not_cell(self, cell: str, projected: bool) -> str | None:
        """Say why no pass of a cell is computed, whatever the tensors."""

    @abstractmethod
    def why_not_layer(self, inputs: LayerInputs, options: LayerOptions) -> str | None:
        """Say why a pass is not."""

    @abstractmethod
    def forward(self, inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
        """Run one pass.

        Raises:
            ValueError: it is not computed here; the reason in one line.
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
        """Return the gradients of the inputs, from those of y and of the last state.

        What dy holds past a row's length is not read.
        """

    @abstractmethod
    def saved_shapes(self, inputs: LayerInputs, options: LayerOptions) -> list[tuple[int, ...]]:
        """Return the shapes of ``saved``, each of y's dtype or of float32 where y's is narrower."""

    @abstractmethod
    def why_not_loss(self, inputs: LossInputs, products: torch.dtype) -> str | None:
        """Say why the loss of these tensors is not."""

    @abstractmethod
    def loss(self, inputs: LossInputs, options: LossOptions) -> LossOutputs:
        """Return the loss of ``gatewise.nn.linear_cross_entropy`` and its gradients."""

    @abstractmethod
    def why_not_mask(self, like: Tensor) -> str | None:
        """Say why masks like a tensor are not."""

    @abstractmethod
    def mask(self, like: Tensor, seed: Tensor, kept: int, scale: float, threads: int) -> Tensor:
        """Return the dropout mask of a seed: SplitMix64's numbers, each 32 bits, against a bound.

        Args:
            like: has the mask's shape, dtype and device.
            seed: (1,) int64 on the CPU.
            kept: the scale stands where a number is below this, one from −2³¹ to 2³¹ − 1.
            scale: the value of the numbers that are kept.
            threads: how many may be used.
        """

    @abstractmethod
    def why_not_update(self, optimizer: torch.optim.Optimizer, scaled: bool) -> str | None:
        """Say why an optimiser's step is not, of gradients that may be those of a scaled loss."""

    @abstractmethod
    def gradient_norm(self, parameters: Iterable[Tensor], threads: int) -> float:
        """Return ``√ Σ g²`` over the gradients of all parameters."""

    @abstractmethod
    def update(self, optimizer: torch.optim.Optimizer, clip: float, threads: int) -> None:
        """Do what ``optimizer.step()`` does, once the gradients were multiplied by ``clip``."""

    @abstractmethod
    def why_not_stream(self, spec: RecurrentSpec, device: torch.device, dtype: torch.dtype) -> str | None:
        """Say why a stack is not run one step at a time on packed weights."""

    @abstractmethod
    def stream(self, spec: RecurrentSpec, parameters: Any, **options: Any) -> Any:
        """Pack a stack's weights; see ``gatewise.engines.native.stream.Stream`` for the arguments."""


def packed_rows(inputs: LayerInputs, options: LayerOptions) -> int:
    """Return how many steps all rows have together, or, where a graph counts on known shapes, could have."""
    if inputs.lengths is None or options.known_shapes:
        return inputs.x.shape[0] * inputs.x.shape[1]
    return int(inputs.lengths.sum())


def work_dtype(inputs: LayerInputs) -> torch.dtype:
    """Gates and states are computed in this: the dtype of h, or float32 where that is narrower."""
    return torch.promote_types(inputs.state[0].dtype, torch.float32)


def cannot_run(name: str, reason: str) -> str:
    """Return the line for something that the engine that was named does not compute."""
    return f"engine {name!r} cannot run this: {reason}; use engine='auto' or 'torch'"
