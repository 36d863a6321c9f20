"""Missing steps and values of a series: found, refused or filled, and remembered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gatewise.data.calendar import Dates
from gatewise.data.numbers import read_numbers
from gatewise.data.pace import Pace, pace_of
from gatewise.errors import DataError

Numbers = npt.NDArray[np.float64]
WAY_OUT = 'set data.fill to "linear" or "previous"'


@dataclass(frozen=True)
class Rows:
    """Rows of a table as steps: R rows at the steps ``numbers``, in ascending order.

    Attributes:
        names: the names of the K columns.
        values: (R, K), NaN where a value is missing.
        lines: ``FILE:LINE`` of each row.
        numbers: (R,) the step of each row.
    """

    names: list[str]
    values: Numbers
    lines: list[str]
    numbers: npt.NDArray[np.int64]

    def part(self, rows: slice) -> "Rows":
        """Return some of the rows."""
        return Rows(self.names, self.values[rows], self.lines[rows], self.numbers[rows])


def steps_of(dates: Dates, fields: Sequence[str], lines: Sequence[str], column: str) -> tuple[Pace, list[int]]:
    """Return the pace of dated rows, and the step of each row.

    Args:
        dates: their times.
        fields: how the times are written.
        lines: ``FILE:LINE`` of each row.
        column: the name of the column.

    Raises:
        DataError: a time is not after the one before, not a whole number of steps after it, or most are missing.
    """
    if (row := dates.disorder) is not None:
        same = "is the time of two rows" if dates.times[row] == dates.times[row - 1] else f"follows {fields[row - 1]!r}"
        raise DataError(
            f"{lines[row]}: {fields[row]!r} in column {column!r} {same}; expected one row per time, the oldest first: "
            "sort the rows, and keep one of each time and one series per file"
        )
    pace = pace_of(dates.times)
    numbers = list[int]()
    for row, time in enumerate(dates.times):
        number = pace.number(time)
        if number is None:
            raise DataError(
                f"{lines[row]}: {fields[row]!r} in column {column!r} is not a whole number of steps after "
                f"{fields[0]!r}, where most rows are {pace} apart; resample the series to equal steps"
            )
        numbers.append(number)
    if (missing := numbers[-1] + 1 - len(numbers)) > len(numbers):
        row = int(np.argmax(np.diff(numbers))) + 1
        raise DataError(
            f"{lines[row]}: {fields[row]!r} in column {column!r} follows {fields[row - 1]!r}: {missing:,} steps of "
            f"{pace} are missing in all, more than the {len(numbers):,} there are; correct the times or resample"
        )
    return pace, numbers


def filled(rows: Rows, fill: str, target: str, future: Numbers) -> tuple[Numbers, npt.NDArray[np.bool_], list[str]]:
    """Return every step from the first row to the last, (N, K), the missing values, (N, K), and a note on them.

    Args:
        rows: the rows; their first values are known.
        fill: ``linear`` interpolates between the neighbours of a gap, ``previous`` repeats the value before it; ``""``
            refuses a gap.
        target: the column whose last value is in the last row.
        future: (F, K), what is known of the steps that follow, NaN elsewhere; a line may lead to it.

    Raises:
        DataError: a value is missing and may not, or cannot, be filled (with line).
    """
    first = rows.numbers[0]
    values = np.full((int(rows.numbers[-1] - first) + 1, len(rows.names)), np.nan)
    values[rows.numbers - first] = rows.values
    missing = np.isnan(values)
    empty, absent = np.isnan(rows.values), len(values) - len(rows.lines)
    if not missing.any():
        return values, missing, []
    gap = int(np.argmax(np.diff(rows.numbers) > 1)) + 1 if absent else 0
    if not fill and absent:
        raise DataError(
            f"{rows.lines[gap]}: {_counted(absent, 'step')} missing, the first before this row; add the rows, or "
            f"{WAY_OUT}"
        )
    if not fill:
        row, place = map(int, np.argwhere(empty)[0])
        raise DataError(
            f"{rows.lines[row]}: no value in column {rows.names[place]!r}, the first of {int(empty.sum()):,}; "
            f"fill it in, or {WAY_OUT}"
        )
    for place, name in enumerate(rows.names):
        if fill == "linear" and missing[-1, place] and np.isnan(future[:, place]).all():
            row = int(np.flatnonzero(~empty[:, place])[-1]) + 1
            raise DataError(
                f"{rows.lines[row]}: no value in column {name!r} from this row to the last value of {target!r}, so "
                'nothing to interpolate to; fill it in, or set data.fill to "previous"'
            )
    at = rows.lines[min(gap or len(empty), int(np.argmax(empty.any(1))) if empty.any() else len(empty))]
    how = "by straight lines" if fill == "linear" else "with the value before"
    what = [_counted(absent, "step")] * (absent > 0) + [_counted(int(empty.sum()), "value")] * bool(empty.any())
    return (
        _FILL[fill](np.concatenate([values, future]))[: len(values)],
        missing,
        [f"{at}: the first of {' and '.join(what)} missing, filled {how}: read, but never predicted or scored"],
    )


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _previous(values: Numbers) -> Numbers:
    """Return each column with the last value before a gap in it; the first row is known."""
    known = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
    return np.take_along_axis(values, np.maximum.accumulate(known), 0)


def _linear(values: Numbers) -> Numbers:
    """Return each column with the straight line between the values around a gap; the first row is known."""
    place, last = np.arange(len(values))[:, None], len(values) - 1
    before = np.maximum.accumulate(np.where(np.isnan(values), 0, place))
    after = np.minimum.accumulate(np.where(np.isnan(values), last, place)[::-1])[::-1]
    left, right = (np.take_along_axis(values, at, 0) for at in (before, after))
    line: Numbers = left + (right - left) * (place - before) / np.maximum(after - before, 1)
    return line


_FILL = {"linear": _linear, "previous": _previous}


def read_rows(
    names: Sequence[str], fields: Mapping[str, Sequence[object]], lines: list[str], numbers: Sequence[int]
) -> Rows:
    """Read columns of numbers; missing values are NaN.

    Raises:
        DataError: a field is not a number, not finite or ambiguous (with line).
    """
    columns = [read_numbers(fields[name], lines, name, missing=True) for name in names]
    return Rows(list(names), np.stack(columns, 1), lines, np.asarray(numbers, np.int64))
