"""Time series: the numeric columns of a CSV file, and the windows that a forecast reads."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.data.table import Table
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
    """

    columns: list[str]
    values: npt.NDArray[np.float64]
    data_hash: str
    index: npt.NDArray[np.float64] | None = None

    def position(self, steps: int) -> str:
        """Return a label for the time ``steps`` after the last row: its index value, or ``+steps`` without an index."""
        if self.index is None:
            return f"+{steps}"
        each = (self.index[-1] - self.index[0]) / (len(self.index) - 1)
        return f"{self.index[-1] + steps * each:.15g}"


def read_series(path: Path, columns: Sequence[str] = ()) -> Series:
    """Read numeric columns of a CSV file.

    A first column that changes by the same amount from row to row, such as the year, is the index; it is read as data
    only if it is named or is the only column.

    Args:
        path: a CSV file in the format of ``data/table.py``, one row per time step.
        columns: column names; if empty, all columns whose first field is not text, except the index.

    Raises:
        DataError: the file cannot be read, lacks a column, or has no rows; a field is empty, not a number or not finite
            (with line).
    """
    table = Table(path)
    places = {name: table.place(name, "data.columns='[\"NAME\"]'") for name in columns}
    values: list[list[float]] = []
    first: list[str] = []
    for line, row in table.rows():
        if not places:
            places = {name: k for k, name in enumerate(table.names) if not _is_text(row[k])}
            if not places:
                raise DataError(f"{path}:{line}: no numbers in this row; expected at least one numeric column")
        first.append(row[0])
        values.append([_number(row[place], f"{path}:{line}", name) for name, place in places.items()])
    if not values:
        raise DataError(f"{path}: no rows below the header; expected one row per time step")
    names, array, index = list(places), np.array(values, dtype=np.float64), _index(first)
    if index is not None and len(names) > 1 and not columns:
        names, array = names[1:], array[:, 1:]
    return Series(names, array, file_hash(path), None if table.names[0] in names else index)


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


def _index(fields: Sequence[str]) -> npt.NDArray[np.float64] | None:
    """Return a column as numbers if it is equally spaced, else None."""
    try:
        counts = np.array([float(field) for field in fields])
    except ValueError:
        return None
    if len(counts) < 3 or not np.isfinite(counts).all():
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.diff(counts)
        rounding = 4 * np.spacing(np.abs(counts).max())  # rounding error of the two values of a step
        regular = np.abs(steps - steps[0]) <= 1e-5 * np.abs(steps[0]) + rounding
    return counts if regular.all() and np.abs(steps[0]) > rounding else None


def _is_text(field: str) -> bool:
    if not field.strip():
        return False  # an empty field is reported when it is parsed
    try:
        float(field)
    except ValueError:
        return True
    return False


def _number(field: str, place: str, column: str) -> float:
    try:
        value = float(field) if "_" not in field else None  # Python would accept 1_000
    except ValueError:
        value = None
    if value is None:
        found = repr(field) if field.strip() else "an empty field"
        raise DataError(
            f"{place}: {found} in column {column!r}; expected a number such as 3.5, fill it in or drop the row"
        )
    if not math.isfinite(value):
        raise DataError(
            f"{place}: {field.strip()} in column {column!r}; expected a finite number, replace it or drop the row"
        )
    return value
