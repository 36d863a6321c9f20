"""Forecasts of a series from windows of it, beyond the horizon from forecasts. The models predict from a window."""

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import InputError, UsageError
from gatewise.runtime.parts import Scaling

Floats = npt.NDArray[np.float64]


def check_forecast(scaling: Scaling, window: int, steps: Any) -> int:
    """Return the number of values to forecast, the horizon by default.

    Raises:
        UsageError: the model does not forecast a series.
        InputError: ``steps`` is not a whole number.
    """
    steps = scaling.horizon if steps is None else steps
    if not isinstance(steps, Integral):
        raise InputError(f"steps is {steps!r}; expected a whole number, 1 or more")
    if not scaling.columns or not window:
        raise UsageError("this model predicts one value per sequence; expected one trained on a series")
    return int(steps)


def has_columns(values: Any) -> bool:
    """Return whether values are a table with named columns."""
    return hasattr(values, "columns")


def rows_of(values: Any, scaling: Scaling) -> tuple[Floats, int]:
    """Return a table as (N, K), and how many of its rows go up to the last known value of the target.

    Args:
        values: (N, K), (N,) for one column, or a table with named columns.
        scaling: names the K columns.

    Raises:
        UsageError: a column is missing, or the shape is another.
    """
    names = scaling.columns
    if has_columns(values):
        if lacking := [name for name in names if name not in list(values.columns)]:
            raise UsageError(f"no column {lacking[0]!r} in the table; expected {', '.join(map(repr, names))}")
        rows = np.stack([np.asarray(values[name], np.float64) for name in names], 1)
    else:
        rows = np.asarray(values, np.float64)
        rows = rows[:, None] if rows.ndim == 1 and len(names) == 1 else rows
    if rows.ndim != 2 or rows.shape[1] != len(names):
        raise UsageError(f"values have shape {rows.shape}; expected (N, {len(names)}): {', '.join(names)}")
    known = np.flatnonzero(~np.isnan(rows[:, names.index(scaling.target)]))
    return rows, int(known[-1]) + 1 if len(known) else 0


def continued(
    scaling: Scaling,
    window: int,
    history: Floats,
    future: Floats,
    steps: int,
    predict: Callable[[npt.NDArray[np.float64]], Any],
) -> Floats:
    """Return the values of the target that follow ``history``, (N, K).

    Args:
        scaling: names the columns and gives H, the horizon.
        window: W, the steps that the model reads.
        history: (N, K), with W or more rows.
        future: (F, K), the rows after it, of which only the columns known in advance are read.
        steps: the number of values.
        predict: returns the H values after one window, (1, W, I).

    Raises:
        UsageError: there are too few rows, or steps beyond the horizon that need other columns.
    """
    names, known, H = scaling.columns, [scaling.columns.index(name) for name in scaling.known], scaling.horizon
    place = names.index(scaling.target)
    if steps < 1:
        raise UsageError(f"steps is {steps}; expected 1 or more")
    if steps > H and len(names) > len(known) + 1:
        raise UsageError(
            f"steps is {steps}, beyond the horizon of {H}: the model reads {len(names)} columns and predicts only "
            f"{scaling.target!r}; give {H} or fewer, or train with a longer data.horizon"
        )
    if len(history) < window:
        raise UsageError(f"{len(history)} rows are too few for a window of {window}; expected at least {window}")
    needed = -(-steps // H) * H
    if known and (len(future) < needed or np.isnan(future[:needed, known]).any()):
        raise UsageError(
            f"{len(future)} rows after the last value of {scaling.target!r}; expected {needed} with values of "
            f"{', '.join(map(repr, scaling.known))}"
        )
    rows = np.concatenate([history[-window:], np.full((needed, len(names)), np.nan)])
    if known:
        rows[window:, known] = future[:needed, known]
    for start in range(0, needed, H):
        x = rows[start : start + window]
        ahead = rows[start + H : start + H + window, known]
        answer = np.reshape(predict(np.concatenate([x, ahead], 1)[None]), -1)
        rows[start + window : start + window + H, place] = answer
    return rows[window : window + steps, place]
