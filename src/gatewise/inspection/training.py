"""``training``: the training curves of one or several runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gatewise.config import TASKS
from gatewise.errors import RunError
from gatewise.inspection.fonts import short
from gatewise.inspection.runs import FinishedRun, evaluations, figure_in, final_figures
from gatewise.inspection.style import INK, WIDTH, Look, line_named, look, title
from gatewise.inspection.ticks import count_from_left, decade_labels, formatter, spread, within

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURES = {row.metric.name: row.metric.label for row in TASKS.values()}
"""The metrics that can be drawn, and their axis labels."""

PARTS = ("train", "valid")

LINE = 0.06
"""The height of a line of text as a share of a panel's."""


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
    """The curves of one figure.

    Attributes:
        curves: at least one.
        test: the test metrics of the finished runs by run and metric name.
        unfinished: the runs whose training was interrupted or is still going on.
        without: the runs that have not been evaluated yet, and therefore have no curve.
    """

    curves: Sequence[Curve]
    test: dict[tuple[str, str], float]
    unfinished: Sequence[str] = ()
    without: Sequence[str] = ()

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

    A run that has not been evaluated yet is only named, if there are others.

    Raises:
        RunError: no run has metrics, or those of one are damaged.
    """
    started = [run for run in runs if run.folder.read_history(run.config.task.name).evaluations] or runs
    curves, test, unfinished = list[Curve](), dict[tuple[str, str], float](), list[str]()
    for run in started:
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
        unfinished += [] if final else [run.name]
    return TrainingCurves(curves, test, unfinished, [run.name for run in runs if run not in started])


def draw_training(data: TrainingCurves, figure: "Figure") -> None:
    """Draw one panel per metric, one colour per run: validation thick, training thin, the kept weights ringed."""
    panels = data.panels
    columns = min(len(panels), 2)
    lines = -(-len(panels) // columns)
    looks = {run: look(k) for k, run in enumerate(data.runs)}
    figure.set_size_inches(WIDTH, 1.1 + 2.6 * lines)
    what = short(data.runs[0], 50) if len(data.runs) == 1 else f"{len(data.runs)} runs"
    below = "Ring: the kept weights, the best on validation."
    if data.without:
        below += f" Not evaluated yet: {', '.join(short(run, 40) for run in data.without)}."
    title(figure, f"Training of {what}", below, _names(data, looks))
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes, (name, axis) in zip(grid.flat, panels, strict=False):
        shown = [curve for curve in data.curves if (curve.figure, curve.axis) == (name, axis)]
        for curve in shown:
            _draw_curve(curve, looks[curve.run], axes)
        axes.set(ylabel=FIGURES[name], xlabel="training step" if axis == "step" else "epoch")
        axes.grid()
        _fit(axes, shown)
        if name == "accuracy":
            within(axes, 0, 1)
        _write_single_values(axes, shown, looks)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)


def _draw_curve(curve: Curve, its: Look, axes: "Axes") -> None:
    # An accuracy of 1 lies on the edge of the panel, where half of its marker would be cut off.
    whole = curve.figure == "accuracy" and bool(((curve.values >= 0) & (curve.values <= 1)).all())
    draw = partial(axes.plot, color=its.color, clip_on=not whole)
    if curve.part == "train":
        marker = "_" if len(curve.at) == 1 else ""  # a line with a single point would be invisible
        draw(curve.at, curve.values, linewidth=0.8, marker=marker, markersize=9)
        return
    draw(curve.at, curve.values, **its.every(len(curve.at)))
    if curve.kept is not None:
        ring = curve.at == curve.kept
        draw(curve.at[ring], curve.values[ring], marker="o", markersize=9, fillstyle="none")


def _fit(axes: "Axes", curves: Sequence[Curve]) -> None:
    """Use a logarithmic axis if decreasing values span more than a factor of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    count_from_left(axes, 7)
    at = np.unique(np.concatenate([curve.at for curve in curves]))
    if len(at) == 1:
        axes.set_xticks(at)
    values = np.concatenate([curve.values for curve in curves])
    values = values[np.isfinite(values)]
    if not len(values):
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center")
        axes.set(yticks=[], xlim=(at[0] - 0.5, at[-1] + 0.5))
    elif curves[0].figure != "accuracy" and 0 < values.min() < values.max() / 10:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if values.max() < 1e3 * values.min() else (1,)))
        axes.yaxis.set_major_formatter(formatter(decade_labels))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _write_single_values(axes: "Axes", curves: Sequence[Curve], looks: dict[str, Look]) -> None:
    """Write the value beside each point that is the only one of its curve; no two overlap."""
    single = [curve for curve in curves if len(curve.at) == 1 and np.isfinite(curve.values[0])]
    if not single or len(single) * LINE > 1:
        return
    single.sort(key=lambda curve: float(curve.values[0]))
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # the places of the texts are shares of them
    points = [(float(curve.at[0]), float(curve.values[0])) for curve in single]
    places = axes.transAxes.inverted().transform(axes.transData.transform(points))
    heights, several = spread(places[:, 1], LINE), len({curve.run for curve in curves}) > 1
    for curve, (across, up), height in zip(single, places, heights, strict=True):
        left = across > 0.7
        end = across + (-0.05 if left else 0.05)
        color, place = looks[curve.run].color, axes.transAxes
        axes.plot((across, end), (up, height), color=color, linewidth=0.5, transform=place, clip_on=False)
        text = f"{curve.values[0]:.5g}" + (f"  {short(curve.run)}" if several else "")
        side = "right" if left else "left"
        axes.text(end, height, f" {text} ", fontsize=7, transform=place, ha=side, va="center_baseline")


def _names(data: TrainingCurves, looks: dict[str, Look]) -> list["Artist"]:
    from matplotlib.lines import Line2D

    names = []
    for run, its in looks.items():
        tested = ", ".join(f"test {name} {value:.4g}" for (of, name), value in data.test.items() if of == run)
        state = "not finished" if run in data.unfinished else tested
        names.append(line_named(its, short(run, 40), state))
    thick, thin = (Line2D([], [], color=INK, linewidth=width) for width in (1.5, 0.8))
    thick.set_label("thick: validation")
    thin.set_label("thin: training")
    return [*names, thick, thin]
