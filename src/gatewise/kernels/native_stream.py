"""A stack that is run one step at a time, on weights packed once: ``csrc/stream.hpp``, called with tensors.

A step of one row reads each weight once and waits for memory. Threads share each layer's units and meet once a layer,
which costs a few microseconds: there is one for each 512 KiB of weights, up to ``torch.get_num_threads()``.
"""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from gatewise.kernels.native_engine import _native, why_not_built
from gatewise.spec import RecurrentSpec

S = TypeVar("S", bound=tuple[Tensor, ...])

STORED = ("fp32", "bf16")
"""How weights may be kept; biases, products, sums and states are float32 with both."""


def why_no_stream(spec: RecurrentSpec, device: torch.device, dtype: torch.dtype) -> str | None:
    """Say why a stack cannot be streamed; None where it can."""
    if reason := why_not_built():
        return f"the native engine is not there: {reason}"
    if device.type != "cpu":
        return f"the weights are on {device}, and the native engine computes on the CPU"
    if dtype != torch.float32:
        return f"the weights are {_name(dtype)}; expected float32"
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
    ) -> None:
        if weights not in STORED:
            raise ValueError(f"weights is {weights!r}; expected one of {', '.join(STORED)}")
        like = parameters["weight_hh_l0"]
        if reason := why_no_stream(spec, like.device, like.dtype):
            raise ValueError(f"this stack cannot be streamed: {reason}")
        # Kept until all is packed.
        held = {name: p.detach().contiguous() for name, p in parameters.items()}
        layers = [
            tuple(held[f"{kind}_{suffix}"].data_ptr() if f"{kind}_{suffix}" in held else 0 for kind in _KINDS)
            for _, _, suffix in spec.passes()
        ]
        if one_hot:
            table = held["weight_ih_l0"].t()
            layers[0] = (0, *layers[0][1:])
        rows = None if table is None else table.detach().contiguous()
        weight, bias = (None if p is None else p.detach().contiguous() for p in decoder or (None, None))
        outputs = 0 if weight is None else len(weight)
        self._native: Any = _native.Stream(
            _native.Cell[spec.cell],
            weights == "bf16",
            spec.input_size,
            spec.hidden_size,
            outputs,
            layers,
            0 if weight is None else weight.data_ptr(),
            0 if bias is None else bias.data_ptr(),
            0 if rows is None else rows.data_ptr(),
            0 if rows is None else len(rows),
            torch.get_num_threads(),
        )
        self.bytes: int = self._native.bytes
        self._state, self._parts, self._outputs = state, 2 if spec.cell == "lstm" else 1, outputs
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
        if x.dtype is not self._dtype or x.shape[1:] != self._input:
            expected = f"{_name(self._dtype)} of shape {self._input_words}"
            raise ValueError(f"the input is {_words(x)}; expected {expected}")
        B = x.shape[0]
        (L, H), parts = self._shape, len(state)
        for part in state:
            if part.shape != (L, B, H) or part.dtype is not torch.float32:
                parts = 0
        if parts != self._parts:
            found = ", ".join(map(_words, state))
            raise ValueError(f"the state is {found}; expected {self._parts} of float32 of shape {(L, B, H)}")
        # Held by names until the step is done: what has gaps is copied.
        x, h, c = x.contiguous(), state[0].contiguous(), state[-1].contiguous()
        after = [torch.empty(L, B, H, dtype=torch.float32, device="cpu") for _ in state]
        logits = torch.empty(B, self._outputs, dtype=torch.float32, device="cpu") if self._outputs else None
        self._native.step(
            torch.get_num_threads(),
            B,
            x.data_ptr(),
            h.data_ptr(),
            c.data_ptr() if parts > 1 else 0,
            after[0].data_ptr(),
            after[1].data_ptr() if parts > 1 else 0,
            0 if logits is None else logits.data_ptr(),
        )
        return after[0][-1].clone() if logits is None else logits, self._state(*after)

    def read(self) -> None:
        """Read every weight and compute nothing: what the memory alone takes of a step."""
        self._native.read(torch.get_num_threads())


_KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _words(tensor: Tensor) -> str:
    return f"{_name(tensor.dtype)} of shape {tuple(tensor.shape)}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
