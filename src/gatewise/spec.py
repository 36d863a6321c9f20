"""The cells, one row each, and a stack of one of them: names, sizes, and the parameters in their order.

All that differs between cells and is not their equations is declared here and nowhere else. Gate order and parameter
names are PyTorch's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_WEIGHTS = {"weight_ih": ("G", "I"), "weight_hh": ("G", "P"), "bias_ih": ("G",), "bias_hh": ("G",)}


@dataclass(frozen=True)
class CellSpec:
    """A recurrent cell: what it carries, what it learns, and what of it can be traced.

    Args:
        gates: the blocks of H rows in ``weight_ih``, ``weight_hh`` and the biases, in their order.
        states: what is carried from step to step; the first is the output.
        parameters: the shape of each parameter in letters: I the input's size, H the units, P the size of h (H unless
            the output is projected), G the rows of all gates. Names that begin with ``bias`` may be left out together.
        projection: the last parameter, if it projects h; it is there where P < H. None if h cannot be projected.
        traced: what of each step can be looked at: gates after their activation, and states.
        input_bias_apart: whether ``bias_hh`` must not be added to ``bias_ih``, because a gate acts on the recurrent
            product by itself.
        whole_row: whether the gates need all of a row's products at a time, as for a norm or a projection.
    """

    gates: tuple[str, ...]
    states: tuple[str, ...] = ("h",)
    parameters: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(_WEIGHTS))
    projection: str | None = None
    traced: tuple[str, ...] = ("h",)
    input_bias_apart: bool = False
    whole_row: bool = False

    def shapes(self, input_size: int, hidden_size: int, output_size: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter of one layer and direction by its name.

        Args:
            input_size: I.
            hidden_size: H.
            output_size: P.
        """
        sizes = {"I": input_size, "H": hidden_size, "P": output_size, "G": len(self.gates) * hidden_size}
        found = dict[str, tuple[int, ...]]()
        for (
            name,
            letters,
        ) in self.parameters.items():  # once a pass: written out, since generators take four times as long
            found[name] = (sizes[letters[0]], sizes[letters[1]]) if len(letters) == 2 else (sizes[letters[0]],)
        return found

    def state_sizes(self, hidden_size: int, output_size: int) -> tuple[int, ...]:
        """Return the numbers a row of each state: P of h, H of the others."""
        return output_size, *[hidden_size] * (len(self.states) - 1)

    @property
    def trace_parts(self) -> tuple[tuple[str, ...], ...]:
        """What an engine's trace consists of, tensor by tensor: the gates side by side, then each state but h."""
        gates = [self.gates] if set(self.gates) & set(self.traced[:-1]) else []
        return *gates, *((state,) for state in self.states[1:] if state in self.traced)


CELLS: dict[str, CellSpec] = {
    "lstm": CellSpec(
        ("i", "f", "g", "o"),
        ("h", "c"),
        {**_WEIGHTS, "weight_hr": ("P", "H")},
        projection="weight_hr",
        traced=("i", "f", "g", "o", "c", "h"),
    ),
    "gru": CellSpec(("r", "z", "n"), traced=("r", "z", "n", "h"), input_bias_apart=True),
    "rnn_tanh": CellSpec(("h",)),
    "rnn_relu": CellSpec(("h",)),
}
"""Every cell by its name."""


@dataclass(frozen=True)
class RecurrentSpec:
    """A stack of recurrent layers.

    Args:
        cell: a name in ``CELLS``.
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
        if not isinstance(self.cell, str) or self.cell not in CELLS:
            raise ValueError(f"cell is {self.cell!r}; expected one of {', '.join(CELLS)}")
        for name in ("input_size", "hidden_size", "num_layers"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a whole number, 1 or more")
        proj_size = self.proj_size
        if not isinstance(proj_size, int) or isinstance(proj_size, bool) or not 0 <= proj_size < self.hidden_size:
            raise ValueError(
                f"proj_size is {self.proj_size!r}; expected 0 (none) or a whole number smaller than hidden_size, "
                f"which is {self.hidden_size}"
            )
        if self.proj_size and not self.about.projection:
            able = " or ".join(name for name, cell in CELLS.items() if cell.projection)
            raise ValueError(
                f"proj_size is {self.proj_size}; only an {able} can be projected, found {self.cell}; use 0"
            )

    @property
    def about(self) -> CellSpec:
        """The cell's row of the table."""
        return CELLS[self.cell]

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates' names in the order of their blocks."""
        return self.about.gates

    @property
    def num_directions(self) -> int:
        """D: 2 where bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """The size of one direction's h: P of a projected LSTM, else H."""
        return self.proj_size or self.hidden_size

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The numbers a row of each state, in the order of the cell's ``states``."""
        return self.about.state_sizes(self.hidden_size, self.output_size)

    def layer_input_size(self, layer: int) -> int:
        """I of the first layer, D times the output size above it."""
        return self.num_directions * self.output_size if layer else self.input_size

    def passes(self) -> Iterator[tuple[int, bool, str]]:
        """Yield layer, whether it reads backwards, and its parameters' suffix, in the order of PyTorch's states."""
        for layer in range(self.num_layers):
            for reverse in (False, True)[: self.num_directions]:
                yield layer, reverse, f"l{layer}_reverse" if reverse else f"l{layer}"

    def kinds(self) -> tuple[str | None, ...]:
        """Return the parameters' names without a layer's suffix; None in the place of one that this stack lacks."""
        projection = self.about.projection
        return tuple(
            None if (kind == projection and not self.proj_size) or (kind.startswith("bias") and not self.bias) else kind
            for kind in self.about.parameters
        )

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Return every parameter's shape by its name, in the order of PyTorch's ``state_dict``."""
        found = dict[str, tuple[int, ...]]()
        for layer, _, suffix in self.passes():
            shapes = self.about.shapes(self.layer_input_size(layer), self.hidden_size, self.output_size)
            found |= {f"{kind}_{suffix}": shapes[kind] for kind in self.kinds() if kind}
        return found
