"""The table of cells, and the description of a stack: names, sizes, and parameters in their order.

Everything that differs between cells, except their equations, is declared here only. Gate order and parameter names are
PyTorch's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_WEIGHTS = {"weight_ih": ("G", "I"), "weight_hh": ("G", "P"), "bias_ih": ("G",), "bias_hh": ("G",)}


@dataclass(frozen=True)
class CellSpec:
    """A recurrent cell: its states, its parameters, and the values that can be traced.

    Args:
        gates: the blocks of H rows in ``weight_ih``, ``weight_hh`` and the biases, in order.
        states: the states carried from step to step; the first is the output.
        parameters: the shape of each parameter in symbols: I the input size, H the number of units, P the size of h (H
            unless the output is projected), G the number of rows of all gates. The parameters whose names begin with
            ``bias`` are optional, all together.
        projection: the last parameter, if it projects h; present if P < H; None if the cell supports no projection.
        traced: the values of each step that can be traced: gates after their activation, and states.
        input_bias_apart: whether ``bias_hh`` must not be added to ``bias_ih``, because a gate multiplies the recurrent
            product alone.
    """

    gates: tuple[str, ...]
    states: tuple[str, ...] = ("h",)
    parameters: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(_WEIGHTS))
    projection: str | None = None
    traced: tuple[str, ...] = ("h",)
    input_bias_apart: bool = False

    def shapes(self, input_size: int, hidden_size: int, output_size: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter of one layer and direction by name.

        Args:
            input_size: I.
            hidden_size: H.
            output_size: P.
        """
        sizes = {"I": input_size, "H": hidden_size, "P": output_size, "G": len(self.gates) * hidden_size}
        found: dict[str, tuple[int, ...]] = {}  # not dict[…](), which a compiler cannot follow
        # Called once per pass; written as a loop, because generator expressions take four times as long.
        for name, letters in self.parameters.items():
            found[name] = (sizes[letters[0]], sizes[letters[1]]) if len(letters) == 2 else (sizes[letters[0]],)
        return found

    def state_sizes(self, hidden_size: int, output_size: int) -> tuple[int, ...]:
        """Return the size of each state per row: P for h, H for the others."""
        return output_size, *[hidden_size] * (len(self.states) - 1)

    @property
    def trace_parts(self) -> tuple[tuple[str, ...], ...]:
        """The parts of an engine's trace, one tensor each: the gates, concatenated, then each state except h."""
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
"""Every cell by name."""


@dataclass(frozen=True)
class RecurrentSpec:
    """A stack of recurrent layers.

    Args:
        cell: a name in ``CELLS``.
        input_size: I, the size of the input at each step.
        hidden_size: H, the number of units of a layer.
        num_layers: L, the number of layers.
        bias: whether the layers have ``bias_ih`` and ``bias_hh``.
        bidirectional: adds a second direction, which reads from the end; D = 2, and the outputs are concatenated.
        proj_size: P, the output size of an LSTM with a projection, ``h = W_hr (o·tanh(c))`` (Sak et al. 2014,
            arXiv 1402.1128); 0 for none.

    Raises:
        ValueError: an option is out of range; a one-line message says which.
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
                raise ValueError(f"{name} is {value!r}; expected an integer, 1 or more")
        proj_size = self.proj_size
        if not isinstance(proj_size, int) or isinstance(proj_size, bool) or not 0 <= proj_size < self.hidden_size:
            raise ValueError(
                f"proj_size is {self.proj_size!r}; expected 0 (none) or an integer smaller than hidden_size, "
                f"which is {self.hidden_size}"
            )
        if self.proj_size and not self.about.projection:
            able = " or ".join(name for name, cell in CELLS.items() if cell.projection)
            raise ValueError(
                f"proj_size is {self.proj_size}; only an {able} supports a projection, found {self.cell}; use 0"
            )

    @property
    def about(self) -> CellSpec:
        """The entry of the cell in ``CELLS``."""
        return CELLS[self.cell]

    @property
    def gates(self) -> tuple[str, ...]:
        """The names of the gates in the order of their blocks."""
        return self.about.gates

    @property
    def num_directions(self) -> int:
        """D: 2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """The size of h of one direction: P for a projected LSTM, else H."""
        return self.proj_size or self.hidden_size

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The size of each state per row, in the order of the cell's ``states``."""
        return self.about.state_sizes(self.hidden_size, self.output_size)

    def layer_input_size(self, layer: int) -> int:
        """Return the input size of a layer: I for the first, D times the output size for the others."""
        return self.num_directions * self.output_size if layer else self.input_size

    def passes(self) -> Iterator[tuple[int, bool, str]]:
        """Yield layer, whether it is reverse, and the suffix of its parameters, in the order of PyTorch's states."""
        for layer in range(self.num_layers):
            for reverse in (False, True)[: self.num_directions]:
                yield layer, reverse, f"l{layer}_reverse" if reverse else f"l{layer}"

    def kinds(self) -> tuple[str | None, ...]:
        """Return the parameter names without the suffix of a layer; None for one that this stack lacks."""
        projection = self.about.projection
        return tuple(
            None if (kind == projection and not self.proj_size) or (kind.startswith("bias") and not self.bias) else kind
            for kind in self.about.parameters
        )

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter by name, in the order of PyTorch's ``state_dict``."""
        found = dict[str, tuple[int, ...]]()
        for layer, _, suffix in self.passes():
            shapes = self.about.shapes(self.layer_input_size(layer), self.hidden_size, self.output_size)
            found |= {f"{kind}_{suffix}": shapes[kind] for kind in self.kinds() if kind}
        return found
