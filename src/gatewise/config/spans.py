"""Spans of time as people write them, such as ``2 weeks`` and ``14d``; a series' dates turn them into steps."""

import re
from typing import NamedTuple

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
"""Units of one length, in seconds."""
MONTHS = {"month": 1, "quarter": 3, "year": 12}
"""Units of the calendar, in months."""

_SHORT = {"s": "second", "sec": "second", "min": "minute", "h": "hour", "d": "day", "w": "week", "y": "year"}
_SPAN = re.compile(r"\s*([0-9]{1,9})\s*([A-Za-z]+)\s*")


class Span(NamedTuple):
    """A number of units of time."""

    number: int
    unit: str

    def __str__(self) -> str:
        return f"{self.number} {self.unit}{'' if self.number == 1 else 's'}"


def parse_span(text: str) -> Span:
    """Read a positive number and a unit: second, minute, hour, day, week, month, quarter or year, or its short form.

    Raises:
        ValueError: the text is no such span.
    """
    if match := _SPAN.fullmatch(text):
        word = match[2].lower()
        unit = _SHORT.get(word, word.removesuffix("s"))
        if unit in SECONDS | MONTHS and int(match[1]) > 0:
            return Span(int(match[1]), unit)
    raise ValueError("expected a number of steps, or a number and a unit, such as '24 hours', '14d' or '12 months'")
