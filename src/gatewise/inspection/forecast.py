"""A series, forecasts of its last known steps beside what came, and the forecast of what follows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from gatewise.artifact.run_folder import reading_for
from gatewise.data.regression import windows_of
from gatewise.data.series import Series
from gatewise.errors import UsageError
from gatewise.files import spooled
from gatewise.inspection.fonts import short
from gatewise.inspection.runs import FinishedRun, describe
from gatewise.inspection.style import GREY, INK, LOOKS, WIDTH, Look, line_named, title
from gatewise.models.finite import check_finite
from gatewise.models.loading import load
from gatewise.models.sequence_regressor import SequenceRegressor
from gatewise.predict.forecast import check_reach, open_like, unknown_steps
from gatewise.runtime.intervals import LEVEL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = npt.NDArray[np.float64]
LEAST = 60
"""Steps of history to draw; more for a long window or horizon."""
SHOWN = 24
"""Known steps to forecast, from one origin after another where the horizon is shorter."""


@dataclass(frozen=True)
class Line:
    """A forecast over the horizon.

    Attributes:
        name: what is forecast.
        first: its first step, counted as the steps of the history are.
        values: (H,), or as many horizons one after another.
        radii: half the width of the intervals; None if there are none.
    """

    name: str
    first: int
    values: Numbers
    radii: Numbers | None


@dataclass(frozen=True)
class ForecastReading:
    """What the figure shows.

    Attributes:
        name: the run, as the title says it.
        target: the column.
        history: (n,), the last true values, NaN where one is missing.
        times: the times of the history and the steps after it, as the series writes them.
        axis: the same as dates or numbers.
        lines: the forecasts; only that of the known steps where columns known in advance are missing for the others.
    """

    name: str
    target: str
    history: Numbers
    times: list[str]
    axis: npt.NDArray[Any]
    lines: list[Line]

    def table(self) -> Iterator[Sequence[object]]:
        """Yield the table: one line per true value, and per step of each forecast."""
        yield "time", "line", "value", "low", "high"
        for time, value in zip(self.times, self.history.tolist(), strict=False):
            if not np.isnan(value):
                yield time, "truth", value, "", ""
        for line in self.lines:
            for k, value in enumerate(line.values.tolist()):
                ends = ("", "") if line.radii is None else (value - line.radii[k], value + line.radii[k])
                yield self.times[line.first + k], line.name, value, *ends


def measure_forecast(run: FinishedRun, file: Path | None = None) -> ForecastReading:
    """Forecast the last steps whose true values are known, and the steps that follow.

    Args:
        run: the run of a series.
        file: a table; defaults to the run's own data.

    Raises:
        UsageError: the run does not forecast a series.
        DataError: the data is missing, invalid or too short.
        NotFinite: a forecast is not finite.
    """
    model: SequenceRegressor = load(run.folder.path, SequenceRegressor)
    if not model.scaling.columns:
        raise UsageError(f"{run.folder.path}: its model predicts one value per sequence; expected the run of a series")
    data = run.config.data
    with reading_for(run.folder, file, "FILE"), spooled(Path(file or "")) as path:
        name = str(file or data.path or data.builtin)
        series = open_like(data, model.scaling, file and path, name)
        whole, data = windows_of(series, data.model_copy(update={"path": name}))
        origins = whole.origins() if file else whole.split(data.valid_size, data.test_size)["test"]
    begins = _one_after_another(origins, model.horizon)
    check_reach(series.values[begins[0] + 1 - model.window :], model.scaling, name)
    intervals = run.folder.read_intervals(model.horizon)
    radii = np.array(intervals.radius(LEVEL)) if intervals and intervals.has(LEVEL) else None
    count, rows = len(series.values), np.concatenate([series.values, series.future])
    past = [model.continued(rows[: step + 1], rows[step + 1 :], model.horizon) for step in begins]
    start = max(0, count - max(LEAST, 2 * model.window, 4 * model.horizon))
    tiled = None if radii is None else np.tile(radii, len(past))
    lines = [Line("forecast of known steps", begins[0] + 1 - start, np.concatenate(past), tiled)]
    goes_on = not unknown_steps(series, model.scaling, model.horizon)  # with the columns known in advance
    if goes_on:
        ahead = model.continued(series.values, series.future, model.horizon)
        lines.append(Line("forecast of the steps to come", count - start, ahead, radii))
    end = count + model.horizon * goes_on
    for line in lines:
        check_finite(torch.from_numpy(line.values), "the forecasts")
    truth = np.where(series.missing[:, whole.target], np.nan, series.values[:, whole.target])[start:]
    times = [series.position(step - count + 1) for step in range(start, end)]
    return ForecastReading(
        f"{describe(run.config)}, {run.name}", model.scaling.target, truth, times, _axis(series, start, end), lines
    )


def _one_after_another(origins: npt.NDArray[np.int64], horizon: int) -> list[int]:
    """Return the last origins that are a horizon apart, in ascending order: one, or as many as give ``SHOWN`` steps."""
    allowed, found = set(origins.tolist()), [int(origins[-1])]
    while (len(found) + 1) * horizon <= SHOWN and found[0] - horizon in allowed:
        found.insert(0, found[0] - horizon)
    return found


def _axis(series: Series, start: int, end: int) -> npt.NDArray[Any]:
    """Return the places of steps on the axis: dates, values of the index, or numbers of rows."""
    if series.calendar is not None:
        times = [series.calendar.pace.time(step).replace(tzinfo=None) for step in range(start, end)]
        return np.array(times, "datetime64[us]")
    if series.index is None:
        return np.arange(start, end) + 1.0
    return np.array([float(series.position(step - len(series.values) + 1)) for step in range(start, end)])


def draw_forecast(data: ForecastReading, figure: "Figure") -> None:
    """Draw the true values as a line, and each forecast with its interval."""
    figure.set_size_inches(WIDTH, 3.4)
    truth, *looks = Look(INK, "-", ""), LOOKS[1], LOOKS[0]
    named = [line_named(truth, "true values")]
    named += [line_named(look, line.name) for look, line in zip(looks, data.lines, strict=False)]
    with_intervals = any(line.radii is not None for line in data.lines)
    below = f"Shaded, or as bars: {LEVEL:.0%} intervals, as wide as the errors on the validation split make them."
    title(figure, f"{short(data.target, 40)}: {short(data.name, 60)}", below if with_intervals else "", named)
    axes = figure.subplots()
    axes.plot(data.axis[: len(data.history)], data.history, color=INK, linewidth=1)
    for look, line in zip(looks, data.lines, strict=False):
        at = data.axis[line.first : line.first + len(line.values)]
        axes.plot(at, line.values, **look.every(len(at)))
        if line.radii is not None:
            low, high = line.values - line.radii, line.values + line.radii
            if len(at) == 1:
                axes.errorbar(at, line.values, line.radii, color=look.color, alpha=0.5, capsize=3)
            else:
                axes.fill_between(at, low, high, color=look.color, alpha=0.2, linewidth=0)
    axes.set_ylabel(short(data.target, 30))
    _label_times(axes, data)
    axes.grid(color=GREY, alpha=0.2)


def _label_times(axes: "Axes", data: ForecastReading) -> None:
    if data.axis.dtype.kind != "M":
        return
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
