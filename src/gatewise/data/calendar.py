"""Dates and times of a series: one notation for all, evenly spaced or not, and those that follow."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

FORMATS = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%Y-%m", "%Y/%m", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y"),
    *("%b %Y", "%d %b %Y", "%B %d, %Y", "%Y年%m月%d日", "%Y年%m月"),
)
"""Notations of a date; one that could be read in two ways is not read."""
TIMES = ("", "T%H:%M:%S", "T%H:%M", " %H:%M:%S", " %H:%M", "T%H:%M:%SZ", "T%H:%M:%S.%f", " %H:%M:%S.%f", " %H")
"""Notations of a time after a date."""


class Calendar:
    """The times of N rows, evenly spaced by a duration or by whole months.

    Args:
        times: the time of each row.
        notation: how a time is written, as for ``strftime``.
    """

    def __init__(self, times: Sequence[datetime], notation: str) -> None:
        self.times, self.notation = list(times), notation
        months = [12 * time.year + time.month for time in times]
        self._months = months[1] - months[0]
        self._step = times[1] - times[0]
        by_time = all(b - a == self._step for a, b in pairwise(times))
        by_month = all(b - a == self._months for a, b in pairwise(months))
        same_day = len({(time.day, time.hour, time.minute, time.second) for time in times}) == 1
        if by_time and self._step:
            self._months = 0
        elif not (by_month and same_day and self._months):
            self._step = timedelta(0)
            self._months = 0

    @property
    def is_even(self) -> bool:
        """Whether all rows are equally far apart."""
        return bool(self._months or self._step)

    @property
    def first_gap(self) -> int:
        """The first row that does not follow the one before at the distance that most rows have."""
        steps = [b - a for a, b in pairwise(self.times)]
        usual = max(set(steps), key=steps.count)
        return next((row for row, step in enumerate(steps, 1) if step != usual), 0)

    def position(self, steps: int) -> str:
        """Return the time ``steps`` after the last row; the rows are evenly spaced."""
        last = self.times[-1]
        if not self._months:
            return self.write(last + steps * self._step)
        years, month = divmod(12 * last.year + last.month - 1 + steps * self._months, 12)
        return self.write(last.replace(year=years, month=month + 1))

    def write(self, time: datetime) -> str:
        """Return a time in the notation of the series."""
        text = time.strftime(self.notation)
        return text[:-3] if self.notation.endswith("%f") else text


def read_calendar(fields: Sequence[object]) -> Calendar | None:
    """Return the times of a column; None if it holds anything but times of one notation, or fewer than three.

    A notation that fits is taken only if no other one gives other times: ``03/04/2025`` is March or April.
    """
    if len(fields) < 3 or not all(isinstance(field, str) and field.strip() for field in fields):
        return None
    words = [str(field).strip() for field in fields]
    found: dict[str, list[datetime]] = {}
    for notation in (date + time for date in FORMATS for time in TIMES):
        read = _reader(notation)
        if read(words[0]) is not None and None not in (times := [read(word) for word in words]):
            found[notation] = [time for time in times if time is not None]
    calendars = {tuple(times): Calendar(times, notation) for notation, times in found.items()}
    if len(calendars) == 2:  # day and month can be told apart if only one of the two orders is evenly spaced
        calendars = {times: one for times, one in calendars.items() if one.is_even} or calendars
    return next(iter(calendars.values())) if len(calendars) == 1 else None


def _reader(notation: str) -> Callable[[str], datetime | None]:
    def read(word: str) -> datetime | None:
        try:
            return datetime.strptime(word, notation)
        except ValueError:
            return None

    return read
