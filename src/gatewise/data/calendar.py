"""Dates and times of a series: one notation for all, a regular pace, and the times that follow."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from gatewise.data.pace import Pace, pace_of
from gatewise.errors import DataError, UsageError

FORMATS = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%Y%m", "%Y-%m", "%Y/%m", "%Y年%m月%d日", "%Y年%m月"),
    *("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%B %d, %Y", "%b %d, %Y"),
    *("%b %Y", "%B %Y", "%b-%Y"),
    *("%d.%m.%y", "%m/%d/%y", "%d/%m/%y", "%y/%m/%d", "%d-%m-%y", "%y-%m-%d", "%d-%b-%y", "%d %b %y", "%b-%y", "%b %y"),
    *("%G-W%V", "%GW%V", "%YQ%q", "%Y-Q%q", "%Y Q%q", "Q%q %Y", "Q%q-%Y"),
)
"""Notations of a date; one that could be read in two ways is not read. ``%q`` is a quarter, from 1 to 4. Two digits of
a year are one from 1930 to 2029."""
TIMES = (
    *("", "T%H:%M:%S", "T%H:%M", " %H:%M:%S", " %H:%M", " %H", "T%H:%M:%S.%f", " %H:%M:%S.%f", " %I:%M %p"),
    *(" %I:%M:%S %p", "T%H:%M:%SZ", "T%H:%M:%S.%fZ", "T%H:%M:%S%z", " %H:%M:%S%z", "T%H:%M%z"),
)
"""Notations of a time after a date; ``%z`` is an offset from UTC such as ``+01:00``."""

_DIRECTIVE = re.compile("%.")
LATEST = 2029
"""The last year that two digits stand for."""


@dataclass(frozen=True)
class Calendar:
    """The times of the steps of a series.

    Attributes:
        pace: the distance between steps; step 0 is the first row.
        notation: how a time is written, as for ``strftime``.
    """

    pace: Pace
    notation: str

    def text(self, number: int) -> str:
        """Return the time of a step in the notation of the series.

        Raises:
            UsageError: it is beyond the year 9999.
        """
        try:
            time = self.pace.time(number)
        except (OverflowError, ValueError):
            raise UsageError(f"step {number:,} of the series is beyond the year 9999; give fewer steps") from None
        notation = self.notation.replace("%f", f"{time.microsecond // 1000:03}")
        text = time.strftime(notation.replace("%q", str((time.month + 2) // 3)))
        return f"{text[:-2]}:{text[-2:]}" if self.notation.endswith("%z") else text

    def like(self, pace: str, last: int) -> "Calendar":
        """Return this calendar with the weekdays of another pace, given as text, if the steps up to ``last`` stay."""
        other = replace(self, pace=self.pace.on_weekdays_of(pace))
        return other if all(self.text(step) == other.text(step) for step in (0, last)) else self

    def check_pace(self, pace: str, name: str) -> None:
        """Check that the steps are those of the training data; ``pace`` is empty if these have no dates.

        Raises:
            DataError: they are not.
        """
        if pace and not pace.startswith(str(self.pace)):
            raise DataError(
                f"{name}: rows {self.pace} apart, but the run was trained on steps of {pace}; expected the same, "
                "resample the series"
            )


@dataclass(frozen=True)
class Dates:
    """A column of dates, in any order and at any distance.

    Attributes:
        times: the time of each row.
        notation: how a time is written, as for ``strftime``.
    """

    times: list[datetime]
    notation: str

    @property
    def disorder(self) -> int | None:
        """The first row whose time is not after that of the row before, or None."""
        return next((row for row, (a, b) in enumerate(pairwise(self.times), 1) if b <= a), None)

    @property
    def doubt(self) -> int:
        """How little these times look like those of a series: from 0, evenly spaced, to 3, not in order."""
        if self.disorder is not None:
            return 3
        pace = pace_of(self.times)
        numbers = [pace.number(time) for time in self.times]
        return 2 if None in numbers else int(numbers != list(range(len(numbers))))


def read_dates(fields: Sequence[object]) -> list[Dates]:
    """Return a column of dates; two readings if day and month cannot be told apart, none for other columns.

    A reading whose times look more like those of a series is preferred: ``03/04/2025``, ``04/04/2025`` are days in
    April.

    Args:
        fields: three or more.
    """
    words = _words(fields)
    if len(words) < 3 or not all(words):
        return []
    found: dict[tuple[datetime, ...], Dates] = {}
    for notation in _notations(words[0]):
        read = _reader(notation)
        times = [time for time in map(read, words) if time is not None]
        if len(times) == len(words):
            found.setdefault(tuple(times), Dates(times, notation))
    least = min((dates.doubt for dates in found.values()), default=0)
    return [dates for dates in found.values() if dates.doubt == least]


def check_complete(fields: Sequence[object], places: Sequence[str], column: str) -> None:
    """Check that a column does not hold dates with a few exceptions, such as an empty field.

    Args:
        fields: the column.
        places: ``FILE:LINE`` of each field.
        column: its name.

    Raises:
        DataError: at least nine tenths of the fields, but not all, are dates in one notation (with line).
    """
    words = _words(fields)
    for notation in _notations(next(filter(None, words), "")):
        read = _reader(notation)
        wrong = [row for row, word in enumerate(words) if read(word) is None]
        if 0 < len(wrong) <= len(words) / 10:
            found = repr(words[wrong[0]])[:40] if words[wrong[0]] else "an empty field"
            raise DataError(
                f"{places[wrong[0]]}: {found} in the column of dates {column!r}; expected a date like the others, "
                "write it the same way or drop the row"
            )


def is_compact(fields: Sequence[object]) -> bool:
    """Return whether a column of integers is one of dates written as ``194901`` or ``19490131``, in ascending order."""
    words = _words(fields)
    return {len(word) for word in words} <= {6, 8} and any(dates.doubt < 2 for dates in read_dates(words))


def _words(fields: Sequence[object]) -> list[str]:
    """Return fields as text; integers are written out, and other values that are no text are empty."""
    return [one.strip() if isinstance(one, str) else str(one) if type(one) is int else "" for one in fields]


def _notations(word: str) -> list[str]:
    """Return the notations in which a word is a date."""
    if not any(map(str.isdigit, word)):
        return []
    found = {" " if letter.isspace() else letter for letter in word.lower()}
    known = (date + time for date in FORMATS for time in TIMES if not (time.endswith("%z") and word.endswith("Z")))
    fitting = (notation for notation in known if found.issuperset(_DIRECTIVE.sub("", notation).lower()))
    return [notation for notation in fitting if _reader(notation)(word) is not None]


def _reader(notation: str) -> Callable[[str], datetime | None]:
    digits = {"%Y%m%d": 8, "%Y%m": 6}.get(notation, 0)

    def read(word: str) -> datetime | None:
        if digits and len(word) != digits:
            return None
        try:
            if "%q" in notation:
                quarter = datetime.strptime(word, notation.replace("%q", "%m"))
                return quarter.replace(month=3 * quarter.month - 2)
            if "%V" in notation:
                return datetime.strptime(f"{word} 1", f"{notation} %u")
            time = datetime.strptime(word, notation)
        except ValueError:
            return None
        return time.replace(year=time.year - 100) if "%y" in notation and time.year > LATEST else time

    return read
