"""A stack that runs one step at a time on weights packed once: a tensor interface to ``csrc/stream.hpp``.

A step of one row reads each weight once and is bound by memory bandwidth. Threads divide the units of each layer and
synchronize once per layer, which costs a few microseconds: a stack of less than about 512 KiB runs on one thread.
"""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from gatewise.engines.boundary import Ready, addresses, new, readable
from gatewise.engines.native.module import CELLS, name_of, native, why_not_built
from gatewise.runtime.model_file import STORED
from gatewise.spec import RecurrentSpec

S = TypeVar("S", bound=tuple[Tensor, ...])


def why_not(spec: RecurrentSpec, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return the reason why a stack cannot be streamed, or None."""
    if reason := why_not_built():
        return f"the native engine is not available: {reason}"
    if device.type != "cpu":
        return f"the weights are on {device}, but the native engine runs on the CPU only"
    if dtype != torch.float32:
        return f"the weights are {name_of(dtype)}; expected float32"
    if spec.cell not in CELLS:
        return f"cell {spec.cell} is not supported"
    if spec.bidirectional:
        return "it is bidirectional, but a step sees past inputs only"
    return "an output projection is not supported" if spec.proj_size else None


class Stream(Generic[S]):
    """A snapshot of the weights of a stack, and its step; the equations are those of ``gatewise.reference``.

    Later changes to the parameters do not affect it. Gradients are not supported. Several threads may use one stream.

    Args:
        spec: the stack; one direction, no projection.
        parameters: all parameters of the stack by name, float32 on the CPU.
        state: creates a state from its parts, (h, c) for an LSTM, (h,) for the other cells.
        table: (V, I), float32: the embedding of token ids; without it, ``step`` takes vectors.
        one_hot: token ids stand for one-hot vectors of size I; use instead of a table.
        decoder: weight (V, H) and bias (V,), float32: the linear layer that computes logits from the last layer's h.
        weights: how weights and table are stored, which determines the time of a step where memory bandwidth bounds it.
            ``fp32``; ``bf16``: rounded to bfloat16, half of the memory; ``int8``: a quarter of it, see below.
        threads: the maximum number of threads in a step.

    With ``int8``, each row w of a matrix, and of the table, becomes ``q s`` with ``s = max|w| / 127`` and
    ``q = round(w / s)`` (to even). Each vector x that a matrix multiplies, an input or an h, becomes ``p t`` with
    ``t = max|x| / 32767`` and ``p = round(x / t)``, anew in each step, so that ``W x = (Σ q p) t s``. The sums of
    integers are exact: they are the same on every processor, and the error is that of the weights: an x that is not
    finite makes all of its products NaN. (A maximum below 2⁻¹⁰⁰ counts as 2⁻¹⁰⁰.)

    Raises:
        ValueError: the stack cannot be streamed, ``weights`` is unknown, or a weight to be stored as ``int8`` is not
            finite; a one-line message gives the reason.

    Attributes:
        bytes: the size of the weights that a step reads.
    """

    def __init__(
        self,
        spec: RecurrentSpec,
        parameters: Mapping[str, Tensor],
        *,
        state: Callable[..., S],
        table: Tensor | None = None,
        one_hot: bool = False,
        decoder: tuple[Tensor, Tensor | None] | None = None,
        weights: str = "fp32",
        threads: int = 1,
    ) -> None:
        if weights not in STORED:
            raise ValueError(f"weights is {weights!r}; expected one of {', '.join(STORED)}")
        shapes = spec.parameters()
        like = parameters.get("weight_hh_l0")
        if isinstance(like, Tensor) and (reason := why_not(spec, like.device, like.dtype)):
            raise ValueError(f"this stack cannot be streamed: {reason}")
        if differ := sorted(set(parameters) ^ set(shapes)):
            raise ValueError(f"parameters differ from the stack's in {', '.join(differ)}; expected {', '.join(shapes)}")
        # Keep the tensors alive until the weights are packed.
        held = {name: _weight(name, parameters[name], *shape) for name, shape in shapes.items()}
        layers = [
            tuple(addresses(*(held.get(f"{kind}_{suffix}") for kind in _KINDS))) for _, _, suffix in spec.passes()
        ]
        H, gates, rows = spec.hidden_size, len(spec.gates), None
        if one_hot:
            rows = _weight("weight_ih_l0", held["weight_ih_l0"].t(), spec.input_size, gates * H)
            layers[0] = (0, *layers[0][1:])
        elif table is not None:
            rows = _weight("table", table, *_rows_of(table), spec.input_size)
        if rows is not None and not len(rows):
            raise ValueError("table has no rows; expected one for each token")
        weight, bias = decoder or (None, None)
        outputs = 0 if weight is None else sum(_rows_of(weight))
        top = None if weight is None else _weight("the decoder's weight", weight, outputs, H)
        top_bias = None if bias is None else _weight("the decoder's bias", bias, outputs)
        self._native: Any = native.Stream(
            native.Cell[spec.cell],
            native.Stored[weights],
            spec.input_size,
            H,
            outputs,
            layers,
            *addresses(top, top_bias, rows),
            0 if rows is None else len(rows),
            threads,
        )
        self._threads = threads
        self.bytes: int = self._native.bytes
        self._state, self._parts, self._outputs = state, len(spec.about.states), outputs
        self._shape = spec.num_layers, spec.hidden_size
        self._dtype, self._input, self._input_words = torch.int64, torch.Size(()), "(B,)"
        if rows is None:
            self._dtype, self._input = torch.float32, torch.Size((spec.input_size,))
            self._input_words = f"(B, {spec.input_size})"

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, S]:
        """Run one step of each row.

        Args:
            x: (B,) int64 token ids with a table or ``one_hot``, else (B, I) float32.
            state: each part (L, B, H) float32; not modified.

        Returns:
            The logits (B, V), or without a decoder the h of the last layer (B, H); and the new state.

        Raises:
            ValueError: a shape or dtype does not fit.
            IndexError: a token id is outside the table.
        """
        if not isinstance(x, Tensor) or x.dtype is not self._dtype or not x.dim() or x.shape[1:] != self._input:
            expected = f"{name_of(self._dtype)} of shape {self._input_words}"
            raise ValueError(f"the input is {_words(x)}; expected {expected}")
        B = x.shape[0]
        (L, H), parts = self._shape, len(state)
        for part in state:
            if not isinstance(part, Tensor) or part.shape != (L, B, H) or part.dtype is not torch.float32:
                parts = 0
        if parts != self._parts:
            found = ", ".join(map(_words, state))
            raise ValueError(f"the state is {found}; expected {self._parts} float32 tensors of shape {(L, B, H)}")
        # Names keep the tensors alive until the step is done: non-contiguous ones are copied.
        read = readable("the input", x, self._dtype, *x.shape)
        before = [readable("the state", part, torch.float32, L, B, H) for part in state]
        after = [new(torch.float32, L, B, H) for _ in state]
        logits = new(torch.float32, B, self._outputs) if self._outputs else None
        none = (None,) * (2 - parts)
        self._native.step(self._threads, B, *addresses(read, *before, *none, *after, *none, logits))
        return after[0][-1].clone() if logits is None else logits, self._state(*after)

    def read(self) -> None:
        """Read every weight without computing anything, to measure the memory time of a step."""
        self._native.read(self._threads)


def _rows_of(table: Any) -> tuple[int, ...]:
    """Return (rows,) of a tensor, () of anything else."""
    return tuple(table.shape[:1]) if isinstance(table, Tensor) else ()


def _weight(name: str, tensor: Tensor, *shape: int) -> Ready:
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} is {tensor!r:.40}; expected a tensor")
    if tensor.dtype is not torch.float32:
        raise ValueError(f"{name} is {name_of(tensor.dtype)}; expected float32")
    return readable(name, tensor, torch.float32, *shape)


_KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _words(tensor: Any) -> str:
    if not isinstance(tensor, Tensor):
        return f"{tensor!r:.40}"
    return f"{name_of(tensor.dtype)} of shape {tuple(tensor.shape)}"
