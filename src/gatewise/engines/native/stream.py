"""A stack that is run one step at a time, on weights packed once: ``csrc/stream.hpp``, called with tensors.

A step of one row reads each weight once and waits for memory. Threads share each layer's units and meet once a layer,
which costs a few microseconds: there is one for each 512 KiB of weights, up to ``threads``.
"""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from gatewise.engines.boundary import Ready, addresses, new, readable
from gatewise.engines.native.module import name_of, native, why_not_built
from gatewise.spec import RecurrentSpec

S = TypeVar("S", bound=tuple[Tensor, ...])

STORED = ("fp32", "bf16")
"""How weights may be kept; biases, products, sums and states are float32 with both."""


def why_not(spec: RecurrentSpec, device: torch.device, dtype: torch.dtype) -> str | None:
    """Say why a stack cannot be streamed; None where it can."""
    if reason := why_not_built():
        return f"the native engine is not there: {reason}"
    if device.type != "cpu":
        return f"the weights are on {device}, and the native engine computes on the CPU"
    if dtype != torch.float32:
        return f"the weights are {name_of(dtype)}; expected float32"
    if spec.cell not in native.Cell.__members__:
        return f"it has no cell {spec.cell}"
    if spec.bidirectional:
        return "the stack reads from both ends, and a step has only what came before"
    return "its output is projected" if spec.proj_size else None


class Stream(Generic[S]):
    """A stack's weights as they are now, and a step of it; the equations are those of ``gatewise.reference``.

    Changing the parameters afterwards changes nothing here. No gradient flows. A stream may be used by several threads.

    Args:
        spec: the stack; one direction, no projection.
        parameters: every parameter of the stack by its name, float32 on the CPU.
        state: makes a state of its parts, (h, c) of an LSTM, (h,) of the others.
        table: (V, I), float32: rows that token ids look up; without it x itself is given.
        one_hot: the ids are one-hot vectors of I numbers; in place of a table.
        decoder: weight (V, H) and bias (V,), float32: what makes logits of the last layer's h.
        weights: ``fp32``, or ``bf16``: weights and table rounded to bfloat16, half the memory and half the time where
            memory is what a step waits for.
        threads: at most so many share the work of a step.

    Raises:
        ValueError: the stack cannot be streamed, or ``weights`` is neither; in one line.

    Attributes:
        bytes: of weights that a step reads.
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
        # Kept until all is packed.
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
            weights == "bf16",
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
        """Read one step of each row.

        Args:
            x: (B,) int64 token ids where there is a table, else (B, I) float32.
            state: each part (L, B, H) float32; it is not changed.

        Returns:
            The logits (B, V), or without a decoder the last layer's h (B, H); and the new state.

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
            raise ValueError(f"the state is {found}; expected {self._parts} of float32 of shape {(L, B, H)}")
        # Held by names until the step is done: what has gaps is copied.
        read = readable("the input", x, self._dtype, *x.shape)
        before = [readable("the state", part, torch.float32, L, B, H) for part in state]
        after = [new(torch.float32, L, B, H) for _ in state]
        logits = new(torch.float32, B, self._outputs) if self._outputs else None
        none = (None,) * (2 - parts)
        self._native.step(self._threads, B, *addresses(read, *before, *none, *after, *none, logits))
        return after[0][-1].clone() if logits is None else logits, self._state(*after)

    def read(self) -> None:
        """Read every weight and compute nothing: what the memory alone takes of a step."""
        self._native.read(self._threads)


def _rows_of(table: Any) -> tuple[int, ...]:
    """(rows,), of what has rows."""
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
