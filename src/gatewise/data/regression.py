"""Data of a regressor as configured: a time series split into windows, or arrays of sequences."""

import os
from dataclasses import replace
from pathlib import Path

from gatewise.config import DataConfig
from gatewise.data.arrays import Sequences, as_numbers, cut_parts, find_sequences
from gatewise.data.configured import Opened, check_source, with_sizes
from gatewise.data.series import Series, load_sunspots, read_series, windows
from gatewise.data.splitting import sizes_as_text
from gatewise.errors import DataError, UsageError


def open_series(settings: DataConfig) -> Series | None:
    """Read the configured series; return None if the data is a folder, which holds arrays.

    Raises:
        UsageError: the configuration names no data, more than one source, or no window.
        DataError: the file is missing or invalid.
    """
    check_source(settings, "sunspots", "FILE, a table or arrays, or a folder of arrays")
    path = Path(settings.path).expanduser()
    if not settings.builtin and (os.path.isdir(path) or path.suffix == ".npz"):
        return None
    if settings.target and settings.columns and settings.target not in settings.columns:
        listed = ", ".join(map(repr, settings.columns))
        raise UsageError(f"data.target is {settings.target!r}, not one of data.columns, {listed}; add it there")
    series = load_sunspots() if settings.builtin else read_series(path, settings.columns)
    for name in (*settings.columns, settings.target):
        if name and name not in series.columns:
            listed = ", ".join(map(repr, series.columns))
            raise DataError(f"{settings.path or settings.builtin}: no numeric column {name!r}; found {listed}")
    return series


def examples_of(series: Series, settings: DataConfig, name: str) -> Sequences:
    """Return all windows of a series, (M, W, K), each with the target column's value ``horizon`` steps later.

    Raises:
        DataError: the series is shorter than one window plus the horizon.
    """
    read, answered = windows(series.values, settings.window, settings.horizon, name)
    place = series.columns.index(settings.target) if settings.target else 0
    return Sequences(series.values[read], series.values[answered, place])


LONGEST_WINDOW = 64
"""The longest window that is chosen where the configuration has none."""


def open_parts(settings: DataConfig) -> tuple[Series | None, Opened[Sequences]]:
    """Return the configured series (None for arrays), and its train, valid and test sets.

    A series is split by the time of the targets: the last values are the test set, those before them validation.

    Raises:
        UsageError: the configuration names no data, or more than one source.
        DataError: the data is missing, invalid or too short.
    """
    series, name = open_series(settings), settings.path or settings.builtin
    if series is None:
        parts = find_sequences(settings.path, settings.valid_size, settings.test_size, settings.split_seed)
        if parts["train"].y.dtype.kind == "U":
            raise DataError(f"{name}: y holds text, {parts['train'].y[0]!r}; expected numbers, or use a classifier")
        parts = {split: replace(part, y=as_numbers(part.y)) for split, part in parts.items()}
        return None, Opened(with_sizes(settings, parts), parts)
    window = settings.window or max(min(len(series.values) // 10, LONGEST_WINDOW), 1)
    chosen = {"columns": series.columns, "target": settings.target or series.columns[0], "window": window}
    settings = settings.model_copy(update=chosen)
    parts = cut_parts({"train": examples_of(series, settings, name)}, settings.valid_size, settings.test_size, name)
    read = ", ".join(map(repr, series.columns))
    ahead = f"{settings.horizon} {'step' if settings.horizon == 1 else 'steps'} ahead"
    sizes = sizes_as_text({split: len(part) for split, part in parts.items()})
    note = f"forecasts {settings.target!r} {ahead} from windows of {window} steps of {read}; split by time: {sizes}"
    return series, Opened(with_sizes(settings, parts), parts, [*series.notes, note])
