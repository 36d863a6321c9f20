"""What a regressor reads: a series cut into windows, or arrays of sequences."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.config import DataConfig
from gatewise.data.arrays import Sequences, as_numbers, cut_parts, find_sequences
from gatewise.data.series import Series, load_sunspots, read_series, windows
from gatewise.errors import DataError, UsageError
from gatewise.models.sequence_regressor import Scaling


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


def check_reach(x: npt.NDArray[Any], scaling: Scaling, name: str) -> None:
    """Check that sequences (…, I) can be standardised in float32.

    Raises:
        DataError: a number lies too far from those trained on, by their deviation.
    """
    if not scaling.x_mean:
        return
    flat = x.reshape(-1, x.shape[-1])
    with np.errstate(over="ignore"):
        ends = (np.stack([flat.min(0), flat.max(0)]) - np.array(scaling.x_mean)) / np.array(scaling.x_std)
        far = ~np.isfinite(ends.astype(np.float32))
    if far.any():
        end, place = map(int, np.argwhere(far)[0])
        column = repr(scaling.columns[place]) if scaling.columns else str(place)
        raise DataError(
            f"{name}: {(flat.max(0) if end else flat.min(0))[place]!s} in the column {column} is too far from the "
            f"training part, {scaling.x_mean[place]:.6g} ± {scaling.x_std[place]:.6g}; expected numbers like those"
        )


def data_of(settings: DataConfig, scaling: Scaling, data: str | Path | None) -> DataConfig:
    """Return where a model's data lies: the run's own, or what is given, with the columns that the model reads.

    Raises:
        DataError: nothing is there, or a folder for a series, or a file for arrays.
    """
    if data is not None:
        settings = settings.model_copy(update={"path": str(data), "builtin": ""})
    settings = settings.model_copy(update={"columns": scaling.columns, "target": scaling.target})
    path = Path(settings.path).expanduser()
    if settings.path and not os.path.exists(path):
        raise DataError(f"{path}: no such file or folder")
    if settings.path and os.path.isdir(path) == bool(scaling.columns):
        kinds = ("a folder", "a CSV file") if scaling.columns else ("a file", "a folder with *.train.npz")
        raise DataError(f"{path}: {kinds[0]}; expected {kinds[1]}, as the run was trained on")
    return settings
