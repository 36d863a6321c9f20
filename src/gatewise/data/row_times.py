"""When the rows of a table are: by a column of dates, by columns of years and months, or by an index."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.data.calendar import Calendar, check_complete, is_compact, read_dates
from gatewise.data.gaps import steps_of
from gatewise.data.numbers import is_number
from gatewise.errors import DataError

Fields = Mapping[str, Sequence[Any]]
_PARTS = ("year", "month", "day", "hour")
_OF_TIMES = re.compile(
    r"(.*[ _])?(date|time|datetime|timestamp|month|year|quarter|week|period|ds)([ _].*)?", re.IGNORECASE
)

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_LIKE_TIMES = re.compile(
    rf".*\b({_MONTHS})[a-z]*\b.*|\W*(?!\d+(\.\d+){{3}}$)[QW]?\d{{1,4}}\s?[-/.:, TQW年]\s?[QW]?\d{{1,4}}.*",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class RowTimes:
    """The steps of the R rows of a table.

    Attributes:
        numbers: (R,) the step of each row, in ascending order.
        columns: the columns that tell it, which are no data.
        calendar: the dates of the steps; None if there are none.
        index: (R,) the values of an index; None if there is none.
        notes: what was not read, a line each.
    """

    numbers: list[int]
    columns: list[str] = field(default_factory=list)
    calendar: Calendar | None = None
    index: npt.NDArray[np.float64] | None = None
    notes: list[str] = field(default_factory=list)


def read_row_times(
    fields: Fields, lines: list[str], numeric: Sequence[str], named: Sequence[str], *, choose: bool
) -> RowTimes:
    """Find the times of rows; without any, rows are steps.

    The times are, in this order: the first column of dates; ``year`` and ``month``, with ``day`` and ``hour`` if there
    are such columns, or ``year`` and ``quarter`` or ISO ``week``; or an index, the first column, if its numbers are
    equal steps apart, or integers some of whose equal steps are missing. A first column of integers such as 194901 or
    19490131 is one of dates.

    Args:
        fields: the columns of the table.
        lines: ``FILE:LINE`` of each row.
        numeric: the columns that are data, unless they tell the times.
        named: the columns that are data in any case.
        choose: whether the column to forecast is chosen, rather than named.

    Raises:
        DataError: the times do not ascend in whole steps (with line), or nothing but times could be chosen to forecast.
    """
    first = next(iter(fields))
    free = first not in named and list(numeric) != [first]
    compact = free and is_compact(fields[first])
    candidates = [name for name in fields if name not in numeric or (compact and name == first)]
    index = _index(fields[first]) if free else None
    others = [] if index is None else [first]
    apart, texts = _dates_apart(fields, named)
    found, calendar, numbers, notes = _first_dates(candidates, fields, lines)
    if calendar is None and apart:
        found, calendar, numbers, more = _first_dates(["-".join(apart)], {"-".join(apart): texts}, lines)
        notes += more
        if calendar is None:
            raise DataError(
                f"{lines[0]}: {texts[0]!r} in the columns {', '.join(map(repr, apart))} and those below are no dates; "
                "expected a year and a month, quarter or week in each row, correct them, or name the columns to read "
                "with data.columns"
            )
    if calendar is not None:
        return RowTimes(numbers, [*apart, *others, found], calendar, None if index is None else index[0], notes)
    for name in candidates:
        check_complete(fields[name], lines, name)
        _check_read(fields[name], lines, name, notes)
    if index is None:
        if choose and free and first in numeric and _OF_TIMES.fullmatch(first.strip()) and _ascends(fields[first]):
            raise DataError(
                f"{lines[0]}: the numbers of the first column, {first!r}, ascend like times, but in unequal steps; "
                "expected equal ones, resample the series, or name the column to forecast with data.target"
            )
        return RowTimes(numbers, notes=notes)
    counts, numbers = index
    if (absent := numbers[-1] + 1 - len(numbers)) > len(numbers):
        raise DataError(
            f"{lines[-1]}: {absent:,} steps of the index {first!r} are missing in all, more than the {len(numbers):,} "
            "there are; correct the index or resample"
        )
    return RowTimes(numbers, others, index=counts, notes=notes)


def _first_dates(
    names: Sequence[str], fields: Fields, lines: list[str]
) -> tuple[str, Calendar | None, list[int], list[str]]:
    """Return the first column of dates, the calendar, the step of each row, and notes.

    Raises:
        DataError: the dates do not ascend in whole steps (with line).
    """
    notes = list[str]()
    for name in names:
        found = read_dates(fields[name])
        if len(found) == 1:
            pace, numbers = steps_of(found[0], fields[name], lines, name)
            return name, Calendar(pace, found[0].notation), numbers, notes
        if found:
            one, other = (f"{dates.times[0]:%Y-%m-%d}" for dates in found[:2])
            notes.append(
                f"{lines[0]}: {fields[name][0]!r} in column {name!r} may be {one} or {other}, so these dates are not "
                "read and gaps not found; write them as 2024-12-31"
            )
    return "", None, list(range(len(lines))), notes


def _dates_apart(fields: Fields, named: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the columns ``year``, ``month``, …, or ``year`` and ``quarter`` or ``week``, and their dates as text."""
    by_part = {name.strip().lower(): name for name in fields if name not in named}
    parts = [part for part in _PARTS if part in by_part]
    if "hour" in parts and "day" not in parts:
        parts.remove("hour")
    if parts[:2] != ["year", "month"]:
        parts = next((["year", other] for other in ("quarter", "week") if {"year", other} <= set(by_part)), [])
    names = [by_part[part] for part in parts]
    date_of = _date_of if "month" in parts else _quarter_of if "quarter" in parts else _week_of
    return names, [date_of(row) for row in zip(*(fields[name] for name in names), strict=True)]


def _quarter_of(row: Sequence[Any]) -> str:
    year, quarter = map(_plain, row)
    return f"{year}-Q{quarter.upper().removeprefix('Q')}"


def _week_of(row: Sequence[Any]) -> str:
    year, week = map(_plain, row)
    return f"{year}-W{week.upper().removeprefix('W').zfill(2)}"


def _plain(part: Any) -> str:
    return "" if part is None else str(part).strip().removesuffix(".0")


def _date_of(row: Sequence[Any]) -> str:
    """Return year, month, day and hour as a date that ``read_dates`` reads; a month may be a name."""
    year, month, *rest = map(_plain, row)
    if not month.isdecimal():
        return " ".join([*rest[:1], month, year, *rest[1:]])
    return " ".join(["-".join([year, *(part.zfill(2) for part in (month, *rest[:1]))]), *rest[1:]])


def _check_read(fields: Sequence[Any], lines: list[str], column: str, notes: Sequence[str]) -> None:
    """Check that a column that is not read as dates does not look like some, unless a note says why.

    Raises:
        DataError: all values differ, hold digits, and look like times, or the column is called so (with line).
    """
    words = {row: str(one).strip() for row, one in enumerate(fields) if isinstance(one, str) and one.strip()}
    if len(words) < 3 or 2 * len(words) < len(fields) or 2 * sum(map(is_number, words.values())) > len(words):
        return
    if len(set(words.values())) < len(words) or not all(re.search(r"\d", word) for word in words.values()):
        return
    like = 2 * sum(_LIKE_TIMES.fullmatch(word) is not None for word in words.values()) > len(words)
    if (like or _OF_TIMES.fullmatch(column.strip())) and not any(
        f"in column {column!r} may be" in one for one in notes
    ):
        row = min(words)
        raise DataError(
            f"{lines[row]}: {words[row]!r:.40} in column {column!r} looks like a time that cannot be read; expected "
            "dates such as 2024-12-31 or 2024-12-31 23:00, write all of them this way, or drop the column"
        )


def _ascends(fields: Sequence[Any]) -> bool:
    counts = _counts(fields)
    return counts is not None and bool((np.diff(counts) > 0).all())


def _counts(fields: Sequence[Any]) -> npt.NDArray[np.float64] | None:
    """Return a column as numbers, three or more and finite, else None."""
    try:
        counts = np.array([float(field) for field in fields])
    except (TypeError, ValueError):
        return None
    return counts if len(counts) >= 3 and np.isfinite(counts).all() else None


def _index(fields: Sequence[Any]) -> tuple[npt.NDArray[np.float64], list[int]] | None:
    """Return a column as numbers and the step of each row, if it is equally spaced or lacks some of its steps.

    Steps are missing where integers ascend or descend by whole multiples of the usual step, which most steps are.
    """
    counts = _counts(fields)
    if counts is None:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.diff(counts)
        rounding = 4 * np.spacing(np.abs(counts).max())  # rounding error of the two values of a step
        regular = np.abs(steps - steps[0]) <= 1e-5 * np.abs(steps[0]) + rounding
    if regular.all() and np.abs(steps[0]) > rounding:
        return counts, list(range(len(counts)))
    if np.abs(counts).max() >= 2**53 or (counts % 1).any() or not steps.all():
        return None
    sizes, times = np.unique(steps, return_counts=True)
    usual = sizes[times.argmax()]
    multiples = steps / usual
    if 2 * times.max() <= len(steps) or (multiples < 1).any() or (multiples % 1).any():
        return None
    return counts, ((counts - counts[0]) / usual).astype(np.int64).tolist()
