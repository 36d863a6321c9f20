"""``training``: the training curves of one or several runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gatewise.config import TASKS
from gatewise.errors import RunError
from gatewise.inspection.fonts import short
from gatewise.inspection.runs import FinishedRun, evaluations, figure_in, final_figures
from gatewise.inspection.style import INK, LOOKS, WIDTH, Look, line_named, title
from gatewise.inspection.ticks import count_from_left

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURES = {row.metric.name: row.metric.label for row in TASKS.values()}
"""The metrics that can be drawn, and their axis labels."""

PARTS = ("train", "valid")


@dataclass(frozen=True)
class Curve:
    """One metric of one run.

    Attributes:
        run: the run's name.
        figure: a key of ``FIGURES``.
        part: ``train`` or ``valid``.
        axis: ``epoch`` or ``step``.
        at: the epochs or steps.
        values: the metric at each of them.
        kept: the epoch or step of the final weights, if the run is finished.
    """

    run: str
    figure: str
    part: str
    axis: str
    at: npt.NDArray[np.floating]
    values: npt.NDArray[np.floating]
    kept: float | None = None


@dataclass(frozen=True)
class TrainingCurves:
    """The curves of one figure, and the test metrics of each finished run."""

    curves: Sequence[Curve]
    test: dict[tuple[str, str], float]
    """Test metrics by run and metric name."""

    @property
    def runs(self) -> list[str]:
        """All runs, in the given order."""
        return list(dict.fromkeys(curve.run for curve in self.curves))

    @property
    def panels(self) -> list[tuple[str, str]]:
        """All metrics with their axes, in the order of ``FIGURES``."""
        return sorted({(c.figure, c.axis) for c in self.curves}, key=lambda key: (list(FIGURES).index(key[0]), key[1]))

    def table(self) -> Iterator[Sequence[object]]:
        """Yield the table: one line per evaluation; test metrics have no epoch."""
        yield "run", "figure", "part", "axis", "at", "value"
        for c in self.curves:
            for at, value in zip(c.at, c.values, strict=True):
                yield c.run, c.figure, c.part, c.axis, int(at), float(value)
        for (run, figure), value in self.test.items():
            yield run, figure, "test", "", "", value


def measure_training(runs: Sequence[FinishedRun]) -> TrainingCurves:
    """Read the training curves of runs.

    Raises:
        RunError: a run has no metrics.
    """
    curves, test = list[Curve](), dict[tuple[str, str], float]()
    for run in runs:
        lines, final = evaluations(run), final_figures(run)
        axis = "step" if "step" in lines[0] else "epoch"
        at = np.array([figure_in(line, axis, run) for line in lines])
        keys = [(figure, part) for figure in FIGURES for part in PARTS if f"{part}_{figure}" in lines[0]]
        if not keys:
            raise RunError(f"{run.folder.metrics_file}: none of {', '.join(FIGURES)} found; restore the file")
        for figure, part in keys:
            values = np.array([figure_in(line, f"{part}_{figure}", run) for line in lines])
            curves.append(Curve(run.name, figure, part, axis, at, values, final.get(f"best_{axis}")))
        tested = (figure for figure in FIGURES if f"test_{figure}" in final)
        test |= {(run.name, figure): figure_in(final, f"test_{figure}", run) for figure in tested}
    return TrainingCurves(curves, test)


def draw_training(data: TrainingCurves, figure: "Figure") -> None:
    """Draw one panel per metric, one colour per run: validation thick, training thin, the kept weights ringed."""
    panels = data.panels
    columns = min(len(panels), 2)
    lines = -(-len(panels) // columns)
    looks = {run: LOOKS[k % len(LOOKS)] for k, run in enumerate(data.runs)}
    figure.set_size_inches(WIDTH, 1.1 + 2.6 * lines)
    what = short(data.runs[0], 50) if len(data.runs) == 1 else f"{len(data.runs)} runs"
    title(figure, f"Training of {what}", "Ring: the kept weights, the best on validation.", _names(data, looks))
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes, (name, axis) in zip(grid.flat, panels, strict=False):
        shown = [curve for curve in data.curves if (curve.figure, curve.axis) == (name, axis)]
        for curve in shown:
            _draw_curve(curve, looks[curve.run], axes)
        axes.set(ylabel=FIGURES[name], xlabel="training step" if axis == "step" else "epoch")
        axes.grid()
        _fit(axes, shown)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)


def _draw_curve(curve: Curve, look: Look, axes: "Axes") -> None:
    if curve.part == "train":
        marker = "_" if len(curve.at) == 1 else ""  # a line with a single point would be invisible
        axes.plot(curve.at, curve.values, color=look.color, linewidth=0.8, marker=marker, markersize=9)
        return
    axes.plot(curve.at, curve.values, **look.every(len(curve.at)))
    if curve.kept is not None:
        ring = curve.at == curve.kept
        axes.plot(curve.at[ring], curve.values[ring], "o", markersize=9, fillstyle="none", color=look.color)


def _fit(axes: "Axes", curves: Sequence[Curve]) -> None:
    """Use a logarithmic axis if decreasing values span more than a factor of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    count_from_left(axes, 7)
    at = np.unique(np.concatenate([curve.at for curve in curves]))
    if len(at) == 1:
        axes.set_xticks(at)
    values = np.concatenate([curve.values for curve in curves])
    values = values[np.isfinite(values)]
    if curves[0].figure != "accuracy" and len(values) and 0 < values.min() < values.max() / 10:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _names(data: TrainingCurves, looks: dict[str, Look]) -> list["Artist"]:
    from matplotlib.lines import Line2D

    names = []
    for run, look in looks.items():
        tested = ", ".join(f"test {name} {value:.4g}" for (of, name), value in data.test.items() if of == run)
        names.append(line_named(look, short(run, 40) + (f" ({tested})" if tested else "")))
    thick, thin = (Line2D([], [], color=INK, linewidth=width) for width in (1.5, 0.8))
    thick.set_label("thick: validation")
    thin.set_label("thin: training")
    return [*names, thick, thin]
