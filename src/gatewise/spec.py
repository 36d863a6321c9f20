"""What a recurrent stack is made of: its cell, its sizes, and the names, shapes and order of its parameters.

The gate order is said here and nowhere else. It is PyTorch's, as are the parameters' names.
"""

from collections.abc import Iterator
from dataclasses import dataclass

GATES = {
    "lstm": ("i", "f", "g", "o"),
    "gru": ("r", "z", "n"),
    "rnn_tanh": ("h",),
    "rnn_relu": ("h",),
}
"""The blocks of H rows in ``weight_ih``, ``weight_hh`` and the biases, in their order."""

TRACED = {
    "lstm": ("i", "f", "g", "o", "c", "h"),
    "gru": ("r", "z", "n", "h"),
    "rnn_tanh": ("h",),
    "rnn_relu": ("h",),
}
"""What of each step can be looked at."""


@dataclass(frozen=True)
class RecurrentSpec:
    """A stack of recurrent layers.

    Args:
        cell: ``lstm``, ``gru``, ``rnn_tanh`` or ``rnn_relu``.
        input_size: I, numbers in each step of the input.
        hidden_size: H, units of a layer.
        num_layers: L, one above the other.
        bias: whether ``bias_ih`` and ``bias_hh`` are there.
        bidirectional: a second set of weights reads from the end; D = 2, and the outputs stand side by side.
        proj_size: P, of an LSTM whose output is projected, ``h = W_hr (o·tanh(c))`` (Sak et al. 2014,
            arXiv 1402.1128); 0 for none.

    Raises:
        ValueError: an option is out of its range; in one line.
    """

    cell: str
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    proj_size: int = 0

    def __post_init__(self) -> None:
        if self.cell not in GATES:
            raise ValueError(f"cell is {self.cell!r}; expected one of {', '.join(GATES)}")
        for name in ("input_size", "hidden_size", "num_layers"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a whole number, 1 or more")
        if not isinstance(self.proj_size, int) or not 0 <= self.proj_size < self.hidden_size:
            raise ValueError(
                f"proj_size is {self.proj_size!r}; expected 0 (none) or a whole number smaller than hidden_size, "
                f"which is {self.hidden_size}"
            )
        if self.proj_size and self.cell != "lstm":
            raise ValueError(f"proj_size is {self.proj_size}; only an lstm can be projected, found {self.cell}; use 0")

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates' names in the order of their blocks."""
        return GATES[self.cell]

    @property
    def num_directions(self) -> int:
        """D: 2 where bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """The size of one direction's h: P of a projected LSTM, else H."""
        return self.proj_size or self.hidden_size

    def layer_input_size(self, layer: int) -> int:
        """I of the first layer, D times the output size above it."""
        return self.num_directions * self.output_size if layer else self.input_size

    def passes(self) -> Iterator[tuple[int, bool, str]]:
        """Yield layer, whether it reads backwards, and its parameters' suffix, in the order of PyTorch's states."""
        for layer in range(self.num_layers):
            for reverse in (False, True)[: self.num_directions]:
                yield layer, reverse, f"l{layer}_reverse" if reverse else f"l{layer}"

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Return every parameter's shape by its name, in the order of PyTorch's ``state_dict``."""
        rows, shapes = len(self.gates) * self.hidden_size, dict[str, tuple[int, ...]]()
        for layer, _, suffix in self.passes():
            shapes[f"weight_ih_{suffix}"] = (rows, self.layer_input_size(layer))
            shapes[f"weight_hh_{suffix}"] = (rows, self.output_size)
            if self.bias:
                shapes[f"bias_ih_{suffix}"] = (rows,)
                shapes[f"bias_hh_{suffix}"] = (rows,)
            if self.proj_size:
                shapes[f"weight_hr_{suffix}"] = (self.proj_size, self.hidden_size)
        return shapes
