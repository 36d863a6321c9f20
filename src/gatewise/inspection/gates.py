"""``gates``: gates and state of a recurrent layer over the words of a sentence or the rows of an image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from gatewise.errors import UsageError
from gatewise.inspection.answers import Answers
from gatewise.inspection.fonts import columns, short
from gatewise.inspection.inputs import Steps
from gatewise.inspection.style import AMOUNT, CELLS, SIGNED, WIDTH, title
from gatewise.inspection.ticks import name_steps, tick_labels
from gatewise.inspection.trace import LayerTrace, trace_layer
from gatewise.nn.recurrent import Recurrent
from gatewise.wording import option

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

UNITS = 24
"""The number of units shown, unless asked for others."""
ROW = 0.09
"""The height of a unit in inches."""


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
        traces: the layer's gates and states, for each direction shown.
        steps: the T words (or the rows' numbers).
        kind: the unit of a step: ``word``, ``character``, ``row`` or ``step``.
        numbers: the input, (T, I), if it is numeric.
        name: the run, and the source of the sequence.
        answers: the model's predictions.
        units: the largest number of units shown; None shows all.
    """

    traces: Sequence[LayerTrace]
    steps: Sequence[str]
    kind: str
    numbers: npt.NDArray[np.floating] | None = None
    name: str = ""
    answers: Answers = field(default_factory=Answers)
    units: int | None = UNITS

    @property
    def cell(self) -> str:
        """A name in ``gatewise.spec.CELLS``."""
        return self.traces[0].cell

    def shown(self, trace: LayerTrace) -> npt.NDArray[np.integer]:
        """Return the places in the trace of the units to show, in its order.

        The units, sorted by how long they remember, are divided into groups of equal size; of each group, the unit is
        shown that varies most over the steps, by the sum of the standard deviations of its gates and of tanh of its
        state. Slow and fast units are therefore shown alike, and none that hardly reacts to the sequence.
        """
        if self.units is None or len(trace.units) <= self.units:
            return np.arange(len(trace.units))
        varies = np.zeros(len(trace.units))
        for panel in PANELS[trace.cell]:
            values = trace.values[panel.name]
            varies += np.std(np.tanh(values) if panel.signed else values, axis=0)
        groups = np.array_split(np.arange(len(trace.units)), self.units)
        return np.array([group[varies[group].argmax()] for group in groups])

    def table(self) -> Iterator[Sequence[object]]:
        """Yield the table: one line per direction, step and unit, with all units."""
        panels = PANELS[self.cell]
        memory = "time_scale_steps" if self.cell in ("lstm", "gru") else "lag_1_autocorrelation"
        predicted = ("prediction", "probability") if self.answers.each else ()
        yield "step", self.kind, *predicted, "layer", "direction", "unit", memory, *(panel.name for panel in panels)
        for trace in self.traces:
            direction = "backward" if trace.backward else "forward"
            for t, step in enumerate(self.steps):
                answer = (self.answers.each[t], self.answers.probabilities[t]) if predicted else ()
                for k, unit in enumerate(trace.units):
                    values = (float(trace.values[panel.name][t, k]) for panel in panels)
                    yield t + 1, step, *answer, trace.layer, direction, int(unit), float(trace.memory[k]), *values


def measure_gates(
    rnn: Recurrent,
    steps: Steps,
    *,
    layer: int = 0,
    direction: str | None = None,
    units: int | None = UNITS,
    name: str = "",
    answers: Answers | None = None,
) -> GatesReading:
    """Trace one layer of a model's recurrent stack over one sequence.

    Args:
        rnn: the stack.
        steps: the sequence, as the stack's input.
        layer: the layer, counted from 1; 0 is the top layer.
        direction: ``forward``, ``backward`` or ``both``; None takes all that the stack has.
        units: the largest number of units to show; None shows all.
        name: the run, and the source of the sequence.
        answers: the model's predictions.

    Raises:
        UsageError: the layer or direction does not exist.
    """
    if direction in ("backward", "both") and not rnn.spec.bidirectional:
        raise UsageError(f"{option('direction', direction)}: this model has no backward direction; omit it")
    both = direction == "both" or (direction is None and rnn.spec.bidirectional)
    traces = [trace_layer(rnn, steps.x, layer, way) for way in ((False, True) if both else (direction == "backward",))]
    return GatesReading(traces, steps.names, steps.kind, steps.numbers, name, answers or Answers(), units)


def draw_gates(data: GatesReading, figure: "Figure") -> None:
    """Draw a heatmap of units by steps for each gate and the state; two directions stand side by side."""
    panels, T, both = PANELS[data.cell], len(data.steps), len(data.traces) > 1
    cells = [(trace, panel) for panel in panels for trace in data.traces]
    wide = 2 if both or (T <= 16 and len(panels) > 1) else 1
    above = 0 if data.numbers is None else len(data.traces)
    lines = -(-(above + len(cells)) // wide)
    names = _step_names(data)
    upright = T * max(map(columns, names)) * 0.062 > 0.7 * max(WIDTH / wide - 1, 0.15 * T) and T > 1
    room = 0.062 * max(map(columns, names)) if upright else 0.2
    height = min(max(ROW * max(len(data.shown(trace)) for trace in data.traces), 0.7), 3.2)
    figure.set_size_inches(min(max(WIDTH, wide * (1.3 + 0.15 * T)), 16), 1.2 + room + (height + 0.4) * lines)
    title(figure, _title(data), _below(data))
    grid = figure.subplots(lines, wide, squeeze=False)
    for axes in grid.flat[:above]:
        _draw_input(data, axes)
    for axes, (trace, panel) in zip(grid.flat[above:], cells, strict=False):
        _draw_panel(data, trace, panel, axes)
    used, kind = above + len(cells), data.kind + (" → prediction, its probability" if data.answers.each else "")
    across = 72 * (figure.get_size_inches()[0] / wide - 1.3)
    for k, axes in enumerate(grid.flat):
        axes.set_visible(k < used)
        lowest = k + wide >= used
        name_steps(axes, names, max(1, int(across / (9 if upright else 4.5 * max(map(columns, names)) + 3))))
        axes.tick_params("x", rotation=90 if upright else 0, labelbottom=lowest, labelsize=7)
        axes.set_xlabel(kind if lowest else "")


def _step_names(data: GatesReading) -> list[str]:
    """Return the label of each step, with the prediction made there."""
    names = [short(step, 16) for step in data.steps]
    if not data.answers.each:
        return names
    answers = zip(names, data.answers.each, data.answers.probabilities, strict=True)
    return [f"{name} → {short(answer, 16)} {p:.2f}" for name, answer, p in answers]


def _title(data: GatesReading) -> str:
    trace, units = data.traces[0], len(data.traces[0].units)
    side = " from the end" if trace.backward else ""
    side = " in both directions" if len(data.traces) > 1 else side
    of = f", {short(data.name, 40)}" if data.name else ""
    return f"Inside layer {trace.layer}{side}: {CELLS[trace.cell]} of {units} unit{'s' * (units != 1)}{of}"


def _below(data: GatesReading) -> str:
    """Describe the prediction, which units are shown, and how they are sorted."""
    total, shown = len(data.traces[0].units), len(data.shown(data.traces[0]))
    text = f"{data.answers.whole} " if data.answers.whole else ""
    if data.cell in ("lstm", "gru"):
        gate = "forget gate f" if data.cell == "lstm" else "update gate z"
        text += (
            "Units are sorted by how long they remember, longest on top: in parentheses, the time scale in steps, "
            f"−1/ln of the {gate}'s mean over the {data.kind}s."
        )
    else:
        text += (
            "A plain RNN has no gates. Units are sorted by the correlation of their state with itself one step before, "
            "in parentheses, largest on top."
        )
    if shown < total:
        text += f" Shown are {shown} of {total}: of every few neighbours in this order, the unit that varies most."
    return text


def _draw_input(data: GatesReading, axes: "Axes") -> None:
    assert data.numbers is not None
    shades = axes.imshow(data.numbers.T, cmap="gray_r", aspect="auto")
    axes.set(title="input x", ylabel=f"index in the {data.kind}")
    name_steps(axes, [str(k + 1) for k in range(data.numbers.shape[1])], 8, vertical=True)
    _color_bar(axes, shades)


def _draw_panel(data: GatesReading, trace: LayerTrace, panel: Panel, axes: "Axes") -> None:
    places = data.shown(trace)
    values = trace.values[panel.name].T[places]
    # Clip outliers, so that a few extreme units do not make all others pale.
    most = float(np.quantile(np.abs(values), 0.99)) or 1.0
    low, high = (-most, most) if panel.signed else (0.0, 1.0)
    shades = axes.imshow(values, cmap=SIGNED if panel.signed else AMOUNT, vmin=low, vmax=high, aspect="auto")
    way = {False: ", forward", True: ", backward"}[trace.backward] if len(data.traces) > 1 else ""
    axes.set(title=panel.words + way, ylabel="unit")
    names = [str(unit) for unit in trace.units[places]]
    if panel.name == {"lstm": "f", "gru": "z"}.get(trace.cell, "h"):
        names = [f"{name} ({memory:.3g})" for name, memory in zip(names, trace.memory[places], strict=True)]
    name_steps(axes, names, 32, vertical=True)
    axes.tick_params("y", labelsize=5.5, length=1.5)
    axes.spines[["top", "right"]].set_visible(True)
    _color_bar(axes, shades, "both" if panel.signed and float(np.abs(values).max()) > most else "neither")


def _color_bar(axes: "Axes", shades: "ScalarMappable", extend: str = "neither") -> None:
    bar = axes.figure.colorbar(shades, ax=axes, pad=0.01, aspect=18, extend=extend)
    low, high = shades.get_clim()
    assert low is not None and high is not None
    ticks = sorted({low, (low + high) / 2, high})
    bar.set_ticks(ticks, labels=tick_labels(ticks))
    bar.set_label("value", fontsize=7, labelpad=2)
    bar.ax.tick_params(labelsize=6.5)
