"""What a regressor reads, from its configuration: a series cut into windows, or arrays of sequences."""

import os
from dataclasses import replace
from pathlib import Path

from gatewise.config import DataConfig
from gatewise.data.arrays import Sequences, as_numbers, cut_parts, find_sequences
from gatewise.data.series import Series, load_sunspots, read_series, windows
from gatewise.errors import DataError, UsageError


def open_series(settings: DataConfig) -> Series | None:
    """Read the series that a configuration names; None where it names a folder, which holds arrays.

    Raises:
        UsageError: it names no data, or more than one place, or no window.
        DataError: the file is missing or not as it should be.
    """
    if bool(settings.path) == bool(settings.builtin):
        found = "both path and builtin" if settings.path else "no data"
        raise UsageError(f"data: the recipe names {found}; add --data FILE.csv, or a folder with *.train.npz")
    if settings.builtin not in ("", "sunspots"):
        raise UsageError(f"data.builtin is {settings.builtin!r}, which is no data of this task; expected 'sunspots'")
    path = Path(settings.path).expanduser()
    if not settings.builtin and os.path.isdir(path):
        return None
    if not settings.window:
        raise UsageError("data.window is 0; expected how many values each forecast reads, --set data.window=N")
    if settings.target and settings.columns and settings.target not in settings.columns:
        listed = ", ".join(map(repr, settings.columns))
        raise UsageError(f"data.target is {settings.target!r}, not one of data.columns, {listed}; name it there too")
    series = load_sunspots() if settings.builtin else read_series(path, settings.columns)
    for name in (*settings.columns, settings.target):
        if name and name not in series.columns:
            listed = ", ".join(map(repr, series.columns))
            raise DataError(f"{settings.path or settings.builtin}: no numeric column {name!r}; found {listed}")
    return series


def examples_of(series: Series, settings: DataConfig, name: str) -> Sequences:
    """Return every window of a series, (M, W, K), with the target's value ``horizon`` steps after it.

    Raises:
        DataError: the series is shorter than one window and its horizon.
    """
    read, answered = windows(series.values, settings.window, settings.horizon, name)
    place = series.columns.index(settings.target) if settings.target else 0
    return Sequences(series.values[read], series.values[answered, place])


def open_parts(settings: DataConfig) -> tuple[Series | None, dict[str, Sequences]]:
    """Read the series that a configuration names, if it is one, and train, valid and test.

    A series is cut by the time of what is answered: its last values are the test, those before them for validation.

    Raises:
        UsageError: the configuration names no data, or more than one place, or no window.
        DataError: the data is missing, not as it should be, or too short.
    """
    series = open_series(settings)
    if series is not None:
        name = settings.path or settings.builtin
        whole = {"train": examples_of(series, settings, name)}
        return series, cut_parts(whole, settings.valid_size, settings.test_size, name)
    parts = find_sequences(settings.path, settings.valid_size, settings.test_size)
    return None, {split: replace(part, y=as_numbers(part.y)) for split, part in parts.items()}
