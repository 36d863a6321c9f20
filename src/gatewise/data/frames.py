"""Tables and columns in memory, of any data frame library that narwhals knows, as columns of JSON values."""

import math
import numbers
from collections.abc import Sequence
from datetime import date, datetime, time, timezone
from typing import Any

import numpy as np

from gatewise.errors import InputError
from gatewise.extras import import_extra
from gatewise.runtime.arguments import is_missing

Columns = dict[str, list[Any]]
"""The values of each column by its name: strings, numbers, truth values, or None where one is missing."""


def read_frame(data: Any) -> Columns | None:
    """Return the columns of a table or of one column (``value`` if it has no name); None for any other object.

    Missing values (None, NaN, NaT, NA) become None; dates become text, in UTC if they have a time zone; categories and
    decimals become their values. Dates in the index of a pandas object become its first column.

    Args:
        data: a data frame or a series of pandas, Polars, PyArrow or another library that narwhals knows.

    Raises:
        InputError: the rows are not in memory, two columns have one name, or a value is neither text, number nor date.
        MissingPackage: narwhals is not installed.
    """
    narwhals = import_extra("narwhals", "narwhals", f"data of the type {type(data).__name__}", "tables")
    try:
        frame = narwhals.from_native(data, allow_series=True, pass_through=True)
        if isinstance(frame, narwhals.Series):
            frame = (frame if frame.name is not None else frame.alias("value")).to_frame()
    except narwhals.exceptions.NarwhalsError as problem:
        raise InputError(f"data: this {type(data).__name__} cannot be read ({problem}); rename its columns") from None
    if isinstance(frame, narwhals.LazyFrame):
        raise InputError(f"data is a {type(data).__name__}, whose rows are not in memory; expected rows: collect them")
    if not isinstance(frame, narwhals.DataFrame):
        return None
    columns = {str(name): plain(frame[:, place].to_list(), str(name)) for place, name in enumerate(frame.columns)}
    index = narwhals.maybe_get_index(frame)
    if index is not None and getattr(index, "dtype", None) is not None and index.dtype.kind in "MO":
        name = str(index.name if index.name is not None else "index")
        if index.dtype.kind == "M" or str(index.dtype).startswith("period"):
            columns = {name: plain(list(index), name)} | columns
    return columns


def plain(values: Sequence[Any], column: str) -> list[Any]:
    """Return the values of a column as strings, numbers and truth values, None where one is missing.

    Raises:
        InputError: a value is something else, or a number is infinite (with its row, counted from 0).
    """
    found: list[Any] = [
        None if is_missing(value) else value.item() if isinstance(value, np.generic) else value for value in values
    ]
    times = [value for value in found if isinstance(value, datetime)]
    days_only = all((t.hour, t.minute, t.second, t.microsecond) == (0, 0, 0, 0) and t.tzinfo is None for t in times)
    for row, value in enumerate(found):
        if isinstance(value, datetime):
            found[row] = _written(value, days_only)
        elif type(value).__name__ == "Period":
            text = str(value).partition("/")[0]  # a week is written as its first day and its last
            found[row] = int(text) if text.isdecimal() else text
        elif isinstance(value, date | time):
            found[row] = str(value)
        elif isinstance(value, numbers.Real) and not isinstance(value, int):
            found[row] = float(value)
            if not math.isfinite(found[row]):
                raise InputError(f"data: {value} in row {row} of column {column!r}; expected a finite number")
        elif isinstance(value, numbers.Number) and not isinstance(value, int) and hasattr(value, "as_tuple"):
            found[row] = float(value)  # type: ignore[arg-type]  # a decimal
        elif not isinstance(value, int | str | None):
            raise InputError(
                f"data: {value!r:.40} in row {row} of column {column!r}; expected text, a number or a date: "
                "convert the column, or leave it out"
            )
    return found


def _written(moment: datetime, day_only: bool) -> str:
    """Return a date and time in a notation that ``data/calendar.py`` reads."""
    if moment.tzinfo is not None:
        return f"{moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec='seconds')}Z"
    return moment.strftime("%Y-%m-%d") if day_only else str(moment).split(".")[0]
