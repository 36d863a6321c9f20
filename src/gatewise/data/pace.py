"""The pace of a series: how far apart its steps are, what a span of time is in steps, and its season."""

from calendar import monthrange
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TypeVar

from gatewise.config.spans import MONTHS, SECONDS, Span

Ordered = TypeVar("Ordered", int, timedelta)
DAY = timedelta(days=1)
_WEEKEND, _NAMES = {5, 6}, ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class Pace:
    """Step k of a series is at ``time(k)``; step 0 is ``start``.

    Attributes:
        start: the time of step 0.
        step: the duration of a step; 0 for the other kinds.
        months: the number of calendar months of a step: on the same day, or on the last day of each month.
        month_end: whether that is the last day.
        weekdays: the weekdays of daily steps, from 0, Monday; the others are skipped; empty for none.
    """

    start: datetime
    step: timedelta = timedelta(0)
    months: int = 0
    month_end: bool = False
    weekdays: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.months:
            return "1 month" if self.months == 1 else f"{self.months} months"
        if self.weekdays:
            return "1 day, " + ", ".join(_NAMES[day] for day in self.weekdays)
        for unit, seconds in reversed(SECONDS.items()):
            count, rest = divmod(self.step, timedelta(seconds=seconds))
            if not rest:
                return str(Span(count, unit))
        return f"{self.step} (hours, minutes, seconds)"

    def number(self, time: datetime) -> int | None:
        """Return the step at a time, which may be negative; None if none is at this time."""
        if self.step:
            whole, rest = divmod(time - self.start, self.step)
            return None if rest else whole
        if time.time() != self.start.time():
            return None
        if self.weekdays:
            return self._workday(time) - self._workday(self.start) if time.weekday() in self.weekdays else None
        if time.day != (monthrange(time.year, time.month)[1] if self.month_end else self.start.day):
            return None
        whole, left = divmod(_month(time) - _month(self.start), self.months)
        return None if left else whole

    def time(self, number: int) -> datetime:
        """Return the time of a step.

        Raises:
            OverflowError: it is beyond the year 9999.
        """
        if self.step:
            return self.start + number * self.step
        if self.weekdays:
            week, place = divmod(self._workday(self.start) + number, len(self.weekdays))
            days = 7 * week + self.weekdays[place] + 1 - self.start.toordinal()
            return self.start + timedelta(days=days)
        year, month = divmod(_month(self.start) + number * self.months, 12)
        if not 1 <= year <= 9999:
            raise OverflowError
        last = monthrange(year, month + 1)[1]
        day = last if self.month_end else min(self.start.day, last)
        return self.start.replace(year=year, month=month + 1, day=day)

    def on_weekdays_of(self, text: str) -> "Pace":
        """Return this pace of days with the weekdays of another, given as text, if all rows fall on these.

        Few rows do not tell which weekdays never occur.
        """
        weekdays = tuple(day for day, name in enumerate(_NAMES) if name in text)
        if self.step != DAY or not weekdays or self.start.weekday() not in weekdays:
            return self
        return replace(self, step=timedelta(0), weekdays=weekdays)

    def moved(self, number: int) -> "Pace":
        """Return this pace with another step as step 0."""
        return replace(self, start=self.time(number))

    def steps_in(self, span: Span) -> int:
        """Return the number of steps in a span of time. Where some weekdays are skipped, a day is one row.

        Raises:
            ValueError: it is no whole number of steps, or has no fixed length in this series.
        """
        count, unit = span
        if self.weekdays and unit in ("day", "week"):
            return count * (len(self.weekdays) if unit == "week" else 1)
        if self.months and unit in MONTHS:
            whole, rest = divmod(count * MONTHS[unit], self.months)
        elif self.step and unit in SECONDS:
            try:
                whole, left = divmod(timedelta(seconds=count * SECONDS[unit]), self.step)
            except OverflowError:
                raise ValueError(f"{span} is too long") from None
            rest = left // timedelta(microseconds=1)
        else:
            units = MONTHS if self.months else ("day", "week") if self.weekdays else SECONDS
            raise ValueError(f"a step is {self}, and {span} has no fixed number of these; give {'s, '.join(units)}s")
        if rest or not whole:
            raise ValueError(f"{span} is not a whole number of steps of {self}")
        return whole

    @property
    def season(self) -> int:
        """The steps of a season: of a year for months and weeks, of a week for days, of a day below; 0 if none."""
        if self.months:
            steps = 12 // self.months if 12 % self.months == 0 else 0
        elif self.weekdays:
            steps = len(self.weekdays)
        elif self.step < DAY:
            steps = 0 if DAY % self.step else DAY // self.step
        else:
            steps = {DAY: 7, 7 * DAY: 52}.get(self.step, 0)
        return steps if steps > 1 else 0

    def _workday(self, time: datetime) -> int:
        """Return how many of the weekdays precede a time since the year 1."""
        week, day = divmod(time.toordinal() - 1, 7)
        return week * len(self.weekdays) + self.weekdays.index(day)


def pace_of(times: Sequence[datetime]) -> Pace:
    """Return the pace of rows, some of which may be missing: the most frequent distance from one to the next.

    Distances of 28 days or more are months if all rows are on one day of the month, or all on the last. Daily rows that
    never fall on certain weekdays skip these: Saturday and Sunday once a weekend is passed, others after three weeks.

    Args:
        times: two or more, in ascending order.
    """
    usual = _most_frequent([b - a for a, b in pairwise(times)])
    if usual >= 28 * DAY and len({time.time() for time in times}) == 1:
        month_end = all(time.day == monthrange(time.year, time.month)[1] for time in times)
        if month_end or len({time.day for time in times}) == 1:
            months = _most_frequent([_month(b) - _month(a) for a, b in pairwise(times)])
            return Pace(times[0], months=months, month_end=month_end)
    if usual == DAY and len({time.time() for time in times}) == 1:
        days = {time.weekday() for time in times}
        if times[-1] - times[0] < 21 * DAY:
            passed = len({time.isocalendar()[:2] for time in times}) > 1
            days = set(range(5)) if passed and days.isdisjoint(_WEEKEND) else set(range(7))
        if len(days) < 7:
            return Pace(times[0], weekdays=tuple(sorted(days)))
    return Pace(times[0], usual)


def _most_frequent(values: Sequence[Ordered]) -> Ordered:
    """Return the smallest of the most frequent values."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def _month(time: datetime) -> int:
    return 12 * time.year + time.month - 1
