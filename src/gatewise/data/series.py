"""Time series: the numeric columns of a table, step by step."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.data.calendar import Calendar
from gatewise.data.gaps import Rows, filled, read_rows
from gatewise.data.numbers import is_missing, is_number
from gatewise.data.row_times import read_row_times
from gatewise.data.table import open_table
from gatewise.errors import DataError
from gatewise.extras import import_extra
from gatewise.files import file_hash


@dataclass(frozen=True)
class Series:
    """K columns of N numbers, in chronological order, and what is known of the F steps that follow.

    Attributes:
        columns: the K column names.
        values: (N, K) float64, in the units of the file; gaps are filled.
        data_hash: SHA-256 of the file, or of the values if there is no file.
        index: (N,) equally spaced time index, such as the year; None if there is none.
        calendar: the dates of the steps; None if there are none.
        notes: what was chosen and filled, a line each.
        left_out: the columns of the file that are not read.
        missing: (N, K), which values were filled.
        future: (F, K) the values of known columns after the last value of the target; NaN elsewhere.
    """

    columns: list[str]
    values: npt.NDArray[np.float64]
    data_hash: str
    index: npt.NDArray[np.float64] | None = None
    calendar: Calendar | None = None
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    missing: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    future: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        if not self.missing.size:
            object.__setattr__(self, "missing", np.zeros(self.values.shape, np.bool_))
        if not self.future.size:
            object.__setattr__(self, "future", np.zeros((0, self.values.shape[1])))

    def position(self, steps: int) -> str:
        """Return the time ``steps`` after the last step: its date or index value, or ``+steps`` without either."""
        if self.calendar is not None:
            return self.calendar.text(len(self.values) - 1 + steps)
        if self.index is None:
            return f"+{steps}" if steps > 0 else str(len(self.values) + steps)
        each = (self.index[-1] - self.index[0]) / (len(self.index) - 1)
        return f"{self.index[-1] + steps * each:.15g}"


def read_series(
    path: Path, columns: Sequence[str] = (), *, target: str = "", known: Sequence[str] = (), fill: str = ""
) -> Series:
    """Read numeric columns of a table.

    Dates, or else an index such as the year, give the times of the steps: in ascending order and a whole number of
    steps apart, so that missing steps are found (see ``read_row_times``). They are read as data only if they are named.

    Nothing is filled before the first or after the last value of the target. The rows after it are the future: with
    ``known``, they are kept for a forecast, otherwise they are left out. So are rows before the first complete one.

    Args:
        path: a table (see ``open_table``), one row per time step.
        columns: column names; if empty, all columns most of whose fields are numbers, except those of times.
        target: the column to forecast; the first one if empty.
        known: columns that are known in advance; they are read, too.
        fill: how missing steps and missing values are filled: ``""`` (an error), ``linear`` or ``previous``.

    Raises:
        DataError: the file cannot be read, lacks a column, or has no rows; times do not ascend in whole steps; a field
            is not a number, not finite or ambiguous; a value is missing and may not, or cannot, be filled (with line).
    """
    table = open_table(path)
    for name in columns:
        table.place(name, "data.columns", ["NAME"])
    for name in known:
        table.place(name, "data.known", ["NAME"])
    rows = list(table.rows())
    while rows and all(isinstance(one, str) and not one.strip() for one in rows[-1][1]):
        rows.pop()  # spreadsheets leave rows of separators at the end
    if not rows:
        raise DataError(f"{path}: no rows below the header; expected one row per time step")
    fields = dict(zip(table.names, zip(*(row for _, row in rows), strict=True), strict=True))
    lines = [f"{path}:{line}" for line, _ in rows]
    numeric = [name for name in table.names if name in known or _has_numbers(fields[name])]
    numeric = list(dict.fromkeys((*columns, *known))) if columns else numeric
    times = read_row_times(fields, lines, numeric, [*columns, *known, target], choose=not columns and not target)
    names = [name for name in numeric if name not in times.columns]
    if not names:
        raise DataError(f"{lines[0]}: no numbers in this row; expected at least one numeric column")
    if target and target not in names:
        raise DataError(f"{path}: no numeric column {target!r}; found {', '.join(map(repr, names))}")
    found = read_rows(names, fields, lines, times.numbers)
    start, end, more = _history(found, names.index(target or names[0]), fill, bool(known))
    future = _future(found, end, [names.index(name) for name in known])
    values, missing, said = filled(found.part(slice(start, end)), fill, target or names[0], future)
    calendar, index = times.calendar, times.index
    if calendar is not None:
        calendar = replace(calendar, pace=calendar.pace.moved(times.numbers[start]))
    if index is not None:
        gaps = len(values) > end - start
        index = np.linspace(index[start], index[end - 1], len(values)) if gaps else index[start:end]
    return Series(
        names,
        values,
        file_hash(path),
        index,
        calendar,
        [*table.notes, *times.notes, *more, *said],
        [name for name in table.names if name not in (*names, *times.columns)],
        missing,
        future,
    )


def _history(rows: Rows, target: int, fill: str, has_known: bool) -> tuple[int, int, list[str]]:
    """Return the first row and the end of the rows to read: those between the first and the last value of the target.

    Without ``fill``, all rows are to be complete, up to the future of known columns.

    Raises:
        DataError: the target has no value, or no row is complete (with line).
    """
    known = np.flatnonzero(~np.isnan(rows.values[:, target]))
    complete = np.flatnonzero(~np.isnan(rows.values).any(1))
    if not len(known) or (fill and not len(complete)):
        what = "row with a value in every column" if len(known) else f"value in column {rows.names[target]!r}"
        raise DataError(
            f"{rows.lines[0]}: no {what} from here on; expected some, fill in the values or name fewer columns"
        )
    start, end = (int(complete[0]) if fill else 0), int(known[-1]) + 1
    if not fill and not has_known:
        end = len(rows.lines)
    notes = list[str]()
    if start:
        notes.append(f"{rows.lines[0]}: {start:,} rows before the first complete one are left out")
    if end < len(rows.lines):
        use = "known in advance" if has_known else "left out"
        last = f"after the last value of {rows.names[target]!r}"
        notes.append(f"{rows.lines[end]}: {len(rows.lines) - end:,} rows {last} are {use}")
    return start, end, notes


def _future(rows: Rows, end: int, places: list[int]) -> npt.NDArray[np.float64]:
    """Return the steps after the last row of the history, (F, K), with the columns known in advance; NaN elsewhere."""
    steps = rows.numbers[end:] - rows.numbers[end - 1] - 1 if places else rows.numbers[:0]
    future = np.full((int(steps[-1]) + 1 if len(steps) else 0, len(rows.names)), np.nan)
    for place in places:
        future[steps, place] = rows.values[end:, place]
    return future


def load_sunspots() -> Series:
    """Return statsmodels' yearly sunspot numbers, 1700 to 2008, as the column ``SUNACTIVITY``.

    Raises:
        UsageError: statsmodels is not installed.
    """
    sunspots = import_extra("statsmodels.datasets.sunspots", "statsmodels", "the data set sunspots")
    years, numbers = sunspots.load_pandas().data[["YEAR", "SUNACTIVITY"]].to_numpy(np.float64).T
    return Series(["SUNACTIVITY"], numbers[:, None], hashlib.sha256(numbers.tobytes()).hexdigest(), years)


def _has_numbers(fields: Sequence[Any]) -> bool:
    """Return whether a column is numeric: at least half of its fields that are not empty are numbers."""
    known = [field for field in fields if not is_missing(field)]
    return bool(known) and 2 * sum(map(is_number, known)) >= len(known)
