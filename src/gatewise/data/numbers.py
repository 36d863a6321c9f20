"""Columns of text as numbers, in the notations that people and spreadsheets use."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import DataError

_PLAIN = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NAMED = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_GROUPS = r"[+-]?[0-9]{1,3}(%s[0-9]{3})+"
_SPACE = "[ \u00a0\u2009\u202f'’]"
_COMMA_THOUSANDS = re.compile(rf"{_GROUPS % ','}(\.[0-9]+)?|{_PLAIN.pattern}")
_DECIMAL_COMMA = re.compile(rf"[+-]?[0-9]+,[0-9]+([eE][+-]?[0-9]+)?|{_GROUPS % '[.]'}(,[0-9]+)?|[+-]?[0-9]+")
_SPACES_POINT = re.compile(rf"{_GROUPS % _SPACE}(\.[0-9]+)?|{_PLAIN.pattern}")
_SPACES_COMMA = re.compile(rf"{_GROUPS % _SPACE}(,[0-9]+)?|[+-]?[0-9]+(,[0-9]+)?")

_MISSING = ("", "nan", "+nan", "-nan", "na", "n/a", "#n/a", "null", "none", "-", ".", "?")

_READERS: tuple[tuple[re.Pattern[str], Callable[[str], float]], ...] = (
    (_COMMA_THOUSANDS, lambda field: float(field.replace(",", ""))),
    (_DECIMAL_COMMA, lambda field: float(field.replace(".", "").replace(",", "."))),
    (_SPACES_POINT, lambda field: float(re.sub(_SPACE, "", field))),
    (_SPACES_COMMA, lambda field: float(re.sub(_SPACE, "", field).replace(",", "."))),
)


def is_number(field: Any) -> bool:
    """Return whether a field is a number in some notation; NaN and infinity count."""
    if not isinstance(field, str):
        return isinstance(field, int | float) and not isinstance(field, bool)
    field = field.strip()
    return any(known.fullmatch(field) for known in (_PLAIN, _NAMED, *(pattern for pattern, _ in _READERS)))


def read_numbers(
    fields: Sequence[Any], places: Sequence[str], column: str, *, missing: bool = False
) -> npt.NDArray[np.float64]:
    """Return a column as float64.

    All fields have one notation: ``1234.5`` with an optional exponent; ``1,234.5``; ``1.234,5`` or ``1234,5``; or
    ``1 234,5`` with spaces or apostrophes. A column that would be different numbers in two notations is an error.

    Args:
        fields: strings, or numbers.
        places: ``FILE:LINE`` of each, for error messages.
        column: its name.
        missing: read a field without a value (see ``is_missing``) as NaN, instead of an error.

    Raises:
        DataError: a field is empty, not a number, not finite, or ambiguous (with line).
    """
    known = [field.strip() if isinstance(field, str) else field for field in fields]
    read = _reader(known, places, column)
    values = np.empty(len(known))
    for row, (field, place) in enumerate(zip(known, places, strict=True)):
        if missing and is_missing(field):
            values[row] = math.nan
            continue
        try:
            values[row] = read(field) if isinstance(field, str) else _typed(field)
        except ValueError:
            found = "an empty field" if field in ("", None) else repr(field)
            raise DataError(
                f"{place}: {found:.80} in column {column!r}; expected a number such as 3.5, fill it in or drop the row"
            ) from None
        if not math.isfinite(values[row]):
            raise DataError(
                f"{place}: {field} in column {column!r}; expected a finite number, replace it or drop the row"
            )
    return values


def is_missing(field: Any) -> bool:
    """Return whether a field stands for a missing value: empty, NaN, or such as ``NA``, ``null``, ``-`` and ``?``."""
    if isinstance(field, str):
        return field.strip().lower() in _MISSING
    return field is None or (isinstance(field, float) and math.isnan(field))


def _reader(fields: Sequence[Any], places: Sequence[str], column: str) -> Callable[[str], float]:
    """Return the function that reads the notation of a column."""
    words = [field for field in fields if isinstance(field, str) and not is_missing(field)]
    other = [field for field in words if not (_PLAIN.fullmatch(field) or _NAMED.fullmatch(field))]
    fitting = [read for pattern, read in _READERS if other and all(map(pattern.fullmatch, words))]
    if not fitting:
        return _plain
    for row, field in enumerate(fields):
        if field in other and len({read(field) for read in fitting}) > 1:
            a, b = sorted({read(field) for read in fitting})[:2]
            raise DataError(
                f"{places[row]}: {field!r} in column {column!r} may be {a:g} or {b:g}; expected numbers that can be "
                "read in one way only, write them without thousands separators and with a decimal point"
            )
    return fitting[0]


def _plain(field: str) -> float:
    if _PLAIN.fullmatch(field) or _NAMED.fullmatch(field):
        return float(field)
    raise ValueError


def _typed(field: Any) -> float:
    if isinstance(field, bool) or not isinstance(field, int | float):
        raise ValueError
    return float(field)
