"""``gates``: gates and state of a recurrent layer over the words of a sentence or the rows of an image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from gatewise.inspection.fonts import short
from gatewise.inspection.inputs import Steps
from gatewise.inspection.style import AMOUNT, BLUE, CELLS, GREY, SIGNED, WIDTH, title
from gatewise.inspection.ticks import name_steps, whole_decades
from gatewise.inspection.trace import LayerTrace, trace_layer
from gatewise.nn.recurrent import Recurrent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure


class Panel(NamedTuple):
    """One panel of the figure: the trace's name, its title, and whether its values are signed."""

    name: str
    words: str
    signed: bool = False


PANELS = {
    "lstm": (
        Panel("i", "input gate i"),
        Panel("f", "forget gate f"),
        Panel("o", "output gate o"),
        Panel("c", "cell c", True),
    ),
    "gru": (Panel("r", "reset gate r"), Panel("z", "update gate z"), Panel("h", "state h", True)),
    "rnn_tanh": (Panel("h", "state h", True),),
    "rnn_relu": (Panel("h", "state h", True),),
}
"""The panels shown for each cell."""


@dataclass(frozen=True)
class GatesReading:
    """A sequence as read by one layer.

    Attributes:
        trace: the layer's gates and states.
        steps: the T words (or the rows' numbers).
        kind: the unit of a step: ``word``, ``character``, ``row`` or ``step``.
        numbers: the input, (T, I), if it is numeric.
        name: the source of the sequence.
    """

    trace: LayerTrace
    steps: Sequence[str]
    kind: str
    numbers: npt.NDArray[np.floating] | None = None
    name: str = ""

    def table(self) -> Iterator[Sequence[object]]:
        """Yield the table: one line per step and unit."""
        panels = PANELS[self.trace.cell]
        memory = "time_scale_steps" if self.trace.cell in ("lstm", "gru") else "lag_1_autocorrelation"
        yield "step", self.kind, "layer", "unit", memory, *(panel.name for panel in panels)
        for t, step in enumerate(self.steps):
            for k, unit in enumerate(self.trace.units):
                values = (float(self.trace.values[panel.name][t, k]) for panel in panels)
                yield t + 1, step, self.trace.layer, int(unit), float(self.trace.memory[k]), *values


def measure_gates(
    rnn: Recurrent, steps: Steps, *, layer: int = 0, backward: bool = False, name: str = ""
) -> GatesReading:
    """Trace one layer of a model's recurrent stack over one sequence.

    Args:
        rnn: the stack.
        steps: the sequence, as the stack's input.
        layer: the layer, counted from 1; 0 is the top layer.
        backward: trace the backward direction.
        name: the source of the sequence.

    Raises:
        UsageError: the layer or direction does not exist.
    """
    return GatesReading(trace_layer(rnn, steps.x, layer, backward), steps.names, steps.kind, steps.numbers, name)


def draw_gates(data: GatesReading, figure: "Figure") -> None:
    """Draw a heatmap of units by steps for each gate and the state, each with its mean alongside."""
    panels, trace, T = PANELS[data.trace.cell], data.trace, len(data.steps)
    rows = len(panels) + (data.numbers is not None)
    figure.set_size_inches(min(max(WIDTH, 2.4 + 0.2 * T), 16), 1.1 + 1.35 * rows)
    side = " from the end" if trace.backward else ""
    of = f", {short(data.name, 40)}" if data.name else ""
    title(
        figure, f"Inside layer {trace.layer}{side}: {CELLS[trace.cell]} of {len(trace.units)} units{of}", _below(data)
    )
    grid = figure.subplots(rows, 2, width_ratios=(5, 1), squeeze=False)
    if data.numbers is not None:
        _draw_input(data, grid[0, 0])
        grid[0, 1].set_axis_off()
    for (axes, beside), panel in zip(grid[rows - len(panels) :], panels, strict=True):
        _draw_panel(data, panel, axes)
        _draw_mean(trace, panel, beside)
    names, points = [short(step, 16) for step in data.steps], 72 * 0.65 * figure.get_size_inches()[0]
    upright = points / T < 5.5 * max(map(len, names)) and max(map(len, names)) > 2
    for axes in grid[:, 0]:
        name_steps(axes, names, int(points / (11 if upright else 5.5 * max(map(len, names)))))
        axes.tick_params("x", rotation=90 if upright else 0, labelbottom=axes is grid[-1, 0])
    grid[-1, 0].set_xlabel(data.kind)


def _below(data: GatesReading) -> str:
    """Describe how the units are sorted."""
    if data.trace.cell not in ("lstm", "gru"):
        return (
            "A plain RNN has no gates. Units are sorted by the correlation of their state with itself one step before, "
            "largest on top."
        )
    gate = "forget gate f" if data.trace.cell == "lstm" else "update gate z"
    return (
        f"Units are sorted by how long they remember: time scale −1/ln of the {gate}'s mean over the {data.kind}s, "
        "longest on top."
    )


def _draw_input(data: GatesReading, axes: "Axes") -> None:
    assert data.numbers is not None
    shades = axes.imshow(data.numbers.T, cmap="gray_r", aspect="auto")
    axes.set_title("input x")
    axes.set_ylabel(f"index in the {data.kind}")
    _name_ends(axes, data.numbers.shape[1])
    _color_bar(axes, shades)


def _draw_panel(data: GatesReading, panel: Panel, axes: "Axes") -> None:
    values = data.trace.values[panel.name].T
    # Clip outliers, so that a few extreme units do not make all others pale.
    most = float(np.quantile(np.abs(values), 0.99)) or 1.0
    low, high = (-most, most) if panel.signed else (0.0, 1.0)
    shades = axes.imshow(values, cmap=SIGNED if panel.signed else AMOUNT, vmin=low, vmax=high, aspect="auto")
    axes.set_title(panel.words)
    axes.set_ylabel("unit, sorted")
    _name_ends(axes, len(values))
    axes.spines[["top", "right"]].set_visible(True)
    _color_bar(axes, shades, "both" if panel.signed and float(np.abs(values).max()) > most else "neither")


def _name_ends(axes: "Axes", count: int) -> None:
    ends = sorted({0, count - 1})
    axes.set_yticks(ends, [str(end + 1) for end in ends])


def _color_bar(axes: "Axes", shades: "ScalarMappable", extend: str = "neither") -> None:
    bar = axes.figure.colorbar(shades, ax=axes, pad=0.01, aspect=12, extend=extend)
    low, high = shades.get_clim()
    assert low is not None and high is not None
    ticks = [low, (low + high) / 2, high]
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    bar.set_label("value", fontsize=7, labelpad=3)


def _draw_mean(trace: LayerTrace, panel: Panel, axes: "Axes") -> None:
    """Draw each unit's mean over the steps, or, for the panel that determines the order, the sort key."""
    from matplotlib.ticker import MaxNLocator

    values, units = trace.values[panel.name], np.arange(len(trace.units))
    keeps = {"lstm": "f", "gru": "z"}.get(trace.cell, "h")
    if panel.name == keeps:
        axes.plot(trace.memory, units, color=BLUE, drawstyle="steps-mid")
        axes.set_title("correlation" if keeps == "h" else "time scale (steps)", fontsize=7)
        if keeps != "h":
            whole_decades(axes, "x", trace.memory)
    else:
        mean = np.abs(values).mean(0) if panel.signed else values.mean(0)
        axes.plot(mean, units, color=GREY, linewidth=0.8, drawstyle="steps-mid")
        axes.set_title(f"mean of |{panel.name}|" if panel.signed else f"mean of {panel.name}", fontsize=7)
        axes.set_xlim(0, None if panel.signed else 1)
        axes.xaxis.set_major_locator(MaxNLocator(2))
    axes.set_ylim(len(units) - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="x")
    axes.tick_params(labelsize=6.5)
