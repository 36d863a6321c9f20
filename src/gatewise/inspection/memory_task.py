"""``memory-task``: error on the adding problem against training step and sequence length."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gatewise.config import TASKS
from gatewise.inspection.runs import FinishedRun, describe, evaluations, figure_in, labels
from gatewise.inspection.style import CELL_LOOKS, INK, WIDTH, Look, line_named, look, title
from gatewise.inspection.ticks import count_from_left, whole_decades

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHANCE = 1 / 6
"""The mean squared error of always answering 1: the variance of the sum of two numbers uniform in [0, 1]."""


@dataclass(frozen=True)
class ErrorCurve:
    """The validation mean squared error of one run during training.

    Attributes:
        run: the name of the run.
        model: the label of the model, the same for every length.
        cell: a name in ``gatewise.spec.CELLS``.
        length: T, the sequence length.
        axis: the unit of ``at``, ``step`` or ``epoch``.
        at: training steps or epochs.
        errors: mean squared errors.
    """

    run: str
    model: str
    cell: str
    length: int
    axis: str
    at: npt.NDArray[np.floating]
    errors: npt.NDArray[np.floating]


@dataclass(frozen=True)
class MemoryTask:
    """The curves of one figure."""

    curves: Sequence[ErrorCurve]

    @property
    def lengths(self) -> list[int]:
        """All lengths, ascending."""
        return sorted({curve.length for curve in self.curves})

    @property
    def models(self) -> list[str]:
        """All models, in the given order."""
        return list(dict.fromkeys(curve.model for curve in self.curves))

    def table(self) -> Iterator[Sequence[object]]:
        """Yield the table: one line per evaluation."""
        yield "run", "model", "cell", "length", "axis", "at", "mean_squared_error"
        for curve in self.curves:
            for at, error in zip(curve.at, curve.errors, strict=True):
                yield curve.run, curve.model, curve.cell, curve.length, curve.axis, int(at), float(error)


def measure_memory_task(runs: Sequence[FinishedRun]) -> MemoryTask:
    """Read the error curves of finished runs.

    Raises:
        RunError: a run has no error curve.
    """
    of_one_length: dict[int, list[FinishedRun]] = {}
    for run in runs:
        of_one_length.setdefault(run.config.data.length, []).append(run)
    # Runs of one model differ in their length; runs that also share the length are models of their own.
    models = {id(run): describe(run.config) for run in runs}
    for group in of_one_length.values():
        count = Counter(models[id(run)] for run in group)
        models |= {
            id(run): name for run, name in zip(group, labels(group), strict=True) if count[describe(run.config)] > 1
        }
    curves = []
    for run in runs:
        lines = evaluations(run)
        axis = "step" if "step" in lines[0] else "epoch"
        steps, rmse = (
            np.array([figure_in(line, key, run) for line in lines]) for key in (axis, TASKS["memory-task"].evaluated)
        )
        curves.append(
            ErrorCurve(run.name, models[id(run)], run.config.model.cell, run.config.data.length, axis, steps, rmse**2)
        )
    return MemoryTask(curves)


def draw_memory_task(data: MemoryTask, figure: "Figure") -> None:
    """Draw the error against training step for each length, and the lowest error against length."""
    lengths, looks = data.lengths, _looks(data)
    panels = len(lengths) + (len(lengths) > 1)
    columns = panels if panels < 4 else 2 if panels == 4 else 3
    lines = -(-panels // columns)
    figure.set_size_inches(WIDTH, 1.3 + 2.3 * lines)
    names = [line_named(its, _label(data, model)) for model, its in looks.items()]
    title(figure, "The adding problem: who remembers two marked numbers?", "", names)
    xlabel = " or ".join(sorted({"training step" if c.axis == "step" else "epoch" for c in data.curves}))
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes, length in zip(grid.flat, lengths, strict=False):
        for curve in (c for c in data.curves if c.length == length):
            axes.plot(curve.at, curve.errors, **looks[curve.model].every(len(curve.at)))
        axes.set(title=f"sequences of {length:,} steps", xlabel=xlabel)
        count_from_left(axes)
    if len(lengths) > 1:
        _draw_lengths(data, looks, grid.flat[len(lengths)])
    for axes in grid.flat[panels:]:
        axes.set_visible(False)
    whole_decades(grid[0, 0], "y", np.concatenate([[CHANCE], *(curve.errors for curve in data.curves)]))
    for axes in grid.flat[:panels]:
        axes.axhline(CHANCE, color=INK, linewidth=1, linestyle=(0, (1, 1.5)))
        axes.grid()
    first = grid[0, 0]
    first.text(0.98, 1.4 * CHANCE, "always answering 1", transform=first.get_yaxis_transform(), ha="right")
    for axes in grid[:, 0]:
        axes.set_ylabel("mean squared error")


def _label(data: MemoryTask, model: str) -> str:
    """Return the legend entry of a model: with the names of its runs, or their number if there are many."""
    runs = [curve.run for curve in data.curves if curve.model == model]
    if f"{runs[0]} (" in model:
        return model
    return f"{model}: {', '.join(runs) if len(runs) < 4 else f'{runs[0]} … {runs[-1]}, {len(runs)} runs'}"


def _draw_lengths(data: MemoryTask, looks: dict[str, Look], axes: "Axes") -> None:
    """Draw the lowest error of each run against its length."""
    from matplotlib.ticker import NullLocator

    for model in data.models:
        points = sorted((c.length, float(np.nanmin(c.errors))) for c in data.curves if c.model == model)
        axes.plot(*zip(*points, strict=True), **looks[model].every(len(points), markevery=1))
    axes.set(title="the best of each run", xlabel="length of the sequences (steps)", xscale="log")
    axes.set_xticks(data.lengths, [str(length) for length in data.lengths])
    axes.xaxis.set_minor_locator(NullLocator())


def _looks(data: MemoryTask) -> dict[str, Look]:
    """Style each model by its cell, or by its position if several models have the same cell."""
    cells = {curve.model: curve.cell for curve in data.curves}
    if len(set(cells.values())) == len(cells):
        return {model: CELL_LOOKS[cell] for model, cell in cells.items()}
    return {model: look(k) for k, model in enumerate(cells)}
