"""Time series: the numeric columns of a table, and the windows that a forecast reads."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.data.calendar import Calendar, read_calendar
from gatewise.data.numbers import is_number, read_numbers
from gatewise.data.table import open_table
from gatewise.errors import DataError
from gatewise.extras import import_extra
from gatewise.files import file_hash


@dataclass(frozen=True)
class Series:
    """K columns of N numbers, in chronological order.

    Attributes:
        columns: the K column names.
        values: (N, K) float64, in the units of the file.
        data_hash: SHA-256 of the file, or of the values if there is no file.
        index: (N,) equally spaced time index, such as the year; None if there is none.
        calendar: the dates of the rows, evenly spaced; None if there are none.
        notes: what was chosen and left out, a line each.
    """

    columns: list[str]
    values: npt.NDArray[np.float64]
    data_hash: str
    index: npt.NDArray[np.float64] | None = None
    calendar: Calendar | None = None
    notes: list[str] = field(default_factory=list)

    def position(self, steps: int) -> str:
        """Return the time ``steps`` after the last row: its date or index value, or ``+steps`` without either."""
        if self.calendar is not None:
            return self.calendar.position(steps)
        if self.index is None:
            return f"+{steps}"
        each = (self.index[-1] - self.index[0]) / (len(self.index) - 1)
        return f"{self.index[-1] + steps * each:.15g}"


def read_series(path: Path, columns: Sequence[str] = ()) -> Series:
    """Read numeric columns of a table.

    A first column that changes by the same amount from row to row, such as the year, is the index; it is read as data
    only if it is named or is the only column. The first column of dates gives the times of forecasts
    if it is evenly spaced.

    Args:
        path: a table (see ``open_table``), one row per time step.
        columns: column names; if empty, all columns most of whose fields are numbers, except the index.

    Raises:
        DataError: the file cannot be read, lacks a column, or has no rows; a field is empty, not a number, not finite
            or ambiguous (with line).
    """
    table = open_table(path)
    places = {name: table.place(name, "data.columns", ["NAME"]) for name in columns}
    rows = list(table.rows())
    if not rows:
        raise DataError(f"{path}: no rows below the header; expected one row per time step")
    fields = dict(zip(table.names, zip(*(row for _, row in rows), strict=True), strict=True))
    lines = [f"{path}:{line}" for line, _ in rows]
    if not places:
        places = {name: k for k, name in enumerate(table.names) if _has_numbers(fields[name])}
        if not places:
            raise DataError(f"{lines[0]}: no numbers in this row; expected at least one numeric column")
    names = list(places)
    array = np.stack([read_numbers(fields[name], lines, name) for name in names], 1)
    index, notes = _index(fields[table.names[0]]), list(table.notes)
    if index is not None and len(names) > 1 and not columns:
        names, array = names[1:], array[:, 1:]
    rest = [name for name in table.names if name not in names]
    calendar, dated = next(
        ((found, name) for name in rest if (found := read_calendar(fields[name])) is not None), (None, "")
    )
    if calendar is not None and not calendar.is_even:
        row, calendar = calendar.first_gap, None
        notes.append(
            f"{lines[row]}: {fields[dated][row]!r} in column {dated!r} does not follow {fields[dated][row - 1]!r} as "
            "the other rows do: each row is one step, and forecasts have no dates"
        )
    if left_out := [repr(name) for name in rest if name != dated]:
        notes.append(f"{path}: columns not used: {', '.join(left_out)}")
    return Series(names, array, file_hash(path), None if table.names[0] in names else index, calendar, notes)


def load_sunspots() -> Series:
    """Return statsmodels' yearly sunspot numbers, 1700 to 2008, as the column ``SUNACTIVITY``.

    Raises:
        UsageError: statsmodels is not installed.
    """
    sunspots = import_extra("statsmodels.datasets.sunspots", "statsmodels", "the data set sunspots")
    years, numbers = sunspots.load_pandas().data[["YEAR", "SUNACTIVITY"]].to_numpy(np.float64).T
    return Series(["SUNACTIVITY"], numbers[:, None], hashlib.sha256(numbers.tobytes()).hexdigest(), years)


def windows(
    values: npt.NDArray[Any], window: int, horizon: int = 1, name: str = "the series"
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the indices of the values that each forecast reads and predicts.

    Forecast m reads ``m … m + window - 1`` and predicts ``m + window - 1 + horizon``.

    Args:
        values: the series, N values along the first axis.
        window: W, the number of values read.
        horizon: number of steps from the last value read to the value predicted.
        name: name of the series in error messages.

    Returns:
        Input indices (M, W) and target indices (M,), with M = N - W - horizon + 1.

    Raises:
        DataError: the series is shorter than one window plus the horizon.
    """
    count = len(values) - window - horizon + 1
    if count < 1:
        raise DataError(
            f"{name}: {len(values)} values are too few for a window of {window} and a horizon of {horizon}; expected "
            f"at least {window + horizon}, provide more or set a smaller data.window"
        )
    first = np.arange(count, dtype=np.int64)
    return first[:, None] + np.arange(window, dtype=np.int64), first + (window - 1 + horizon)


def _index(fields: Sequence[Any]) -> npt.NDArray[np.float64] | None:
    """Return a column as numbers if it is equally spaced, else None."""
    try:
        counts = np.array([float(field) for field in fields])
    except (TypeError, ValueError):
        return None
    if len(counts) < 3 or not np.isfinite(counts).all():
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.diff(counts)
        rounding = 4 * np.spacing(np.abs(counts).max())  # rounding error of the two values of a step
        regular = np.abs(steps - steps[0]) <= 1e-5 * np.abs(steps[0]) + rounding
    return counts if regular.all() and np.abs(steps[0]) > rounding else None


def _has_numbers(fields: Sequence[Any]) -> bool:
    """Return whether a column is numeric: at least half of its fields that are not empty are numbers."""
    known = [field for field in fields if field is not None and str(field).strip()]
    return 2 * sum(map(is_number, known)) >= len(known)
