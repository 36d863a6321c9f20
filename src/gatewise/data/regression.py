"""Data of a regressor as configured: a time series split into windows, or arrays of sequences."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gatewise.config import DataConfig
from gatewise.config.spans import parse_span
from gatewise.data.arrays import Sequences, as_numbers, find_sequences, read_npz
from gatewise.data.configured import Opened, check_source, with_sizes
from gatewise.data.series import Series, load_sunspots, read_series
from gatewise.data.splitting import sizes_as_text
from gatewise.data.windows import Origins, Windows
from gatewise.errors import DataError, UsageError

LONGEST_WINDOW = 64
"""The longest window that is chosen where the configuration has none."""


def open_series(settings: DataConfig) -> Series | None:
    """Read the configured series; return None if the data is a folder, which holds arrays.

    Raises:
        UsageError: the configuration names no data, more than one source, or contradicts itself.
        DataError: the file is missing or invalid.
    """
    check_source(settings, "sunspots", "FILE, a table or arrays, or a folder of arrays")
    path, target = Path(settings.path).expanduser(), settings.target
    if not settings.builtin and (os.path.isdir(path) or path.suffix == ".npz"):
        return None
    if target and settings.columns and target not in settings.columns:
        listed = ", ".join(map(repr, settings.columns))
        raise UsageError(f"data.target is {target!r}, not one of data.columns, {listed}; add it there")
    if settings.builtin:
        series = load_sunspots()
        for name in (*settings.columns, *settings.known, target):
            if name and name not in series.columns:
                raise DataError(f"{settings.builtin}: no numeric column {name!r}; found {series.columns[0]!r}")
    else:
        series = read_series(path, settings.columns, target=target, known=settings.known, fill=settings.fill)
    if (target or series.columns[0]) in settings.known:
        raise UsageError(
            f"data.known lists {target or series.columns[0]!r}, the column to forecast; leave it out, or name another "
            "data.target"
        )
    return series


def as_steps(key: str, value: int | str, series: Series, name: str) -> int:
    """Return a number of steps, or a span of time in steps of a series.

    Args:
        key: the setting or option, for the error message.
        value: the number, or the span.
        series: the series.
        name: its name, for the error message.

    Raises:
        UsageError: it is no span, the series has no dates, or it is no whole number of steps.
    """
    if isinstance(value, int):
        return value
    try:
        span = parse_span(value)
        if series.calendar is None:
            raise ValueError(f"{name} has no dates; give a number of steps")
        return series.calendar.pace.steps_in(span)
    except ValueError as problem:
        raise UsageError(f"{key} is {value!r}: {problem}") from None


def windows_of(series: Series, settings: DataConfig) -> tuple[Windows, DataConfig]:
    """Return the forecasts of a series, and the settings with every choice made that depends on the series.

    Raises:
        UsageError: a span of time is no number of steps of this series, or the settings contradict each other.
    """
    name, count = settings.path or settings.builtin, len(series.values)
    horizon = as_steps("data.horizon", settings.horizon, series, name)
    season = _season(series, settings, name)
    window = 0 if settings.window == "auto" else as_steps("data.window", settings.window, series, name)
    if not window:
        longest = season if season <= min(LONGEST_WINDOW, count // 4) else 0
        window = max(min(count // 10, LONGEST_WINDOW), longest, horizon if settings.known else 1)
    if settings.known and window < horizon:
        raise UsageError(
            f"data.window is {window}, shorter than data.horizon, {horizon}: the model would not read the known "
            f"columns of all steps to forecast; set data.window to {horizon} or more"
        )
    target, known = settings.target or series.columns[0], list(dict.fromkeys(settings.known))
    chosen = {
        "columns": series.columns,
        "target": target,
        "known": known,
        "window": window,
        "horizon": horizon,
        "season": season,
    }
    places = [series.columns.index(one) for one in known]
    whole = Windows(series, window, horizon, series.columns.index(target), places, settings.fill, name)
    return whole, settings.model_copy(update=chosen)


def _season(series: Series, settings: DataConfig, name: str) -> int:
    if settings.season != "auto":
        return as_steps("data.season", settings.season, series, name)
    season = series.calendar.pace.season if series.calendar else 0
    return season if 3 * season <= len(series.values) else 0


def open_parts(settings: DataConfig) -> tuple[tuple[Windows, dict[str, Origins]] | None, Opened[Sequences]]:
    """Return the configured series with the origins of each split (None for arrays), and its train, valid, test sets.

    A series is split by the time of the targets: the last values are the test set, those before them validation.

    Raises:
        UsageError: the configuration names no data, or more than one source.
        DataError: the data is missing, invalid or too short.
    """
    series = open_series(settings)
    if series is None:
        for key, usual in (("known", []), ("horizon", 1)):
            if getattr(settings, key) != usual:
                raise UsageError(f"data.{key} is {getattr(settings, key)!r}, but arrays are no series; leave it out")
        parts = find_sequences(settings.path, settings.valid_size, settings.test_size, settings.split_seed)
        notes = [note for part in parts.values() for note in part.notes]
        parts = {split: _with_numbers(part, settings.path) for split, part in parts.items()}
        settings = settings.model_copy(update={"season": 0, "relative": False})
        return None, Opened(with_sizes(settings, parts), parts, notes)
    whole, settings = windows_of(series, settings)
    origins = whole.split(settings.valid_size, settings.test_size)
    if isinstance(settings.season, int) and settings.season > (past := int(origins["test"][0]) + 1):
        raise UsageError(f"data.season is {settings.season}, but {past} steps precede the test set; set 0 for none")
    parts = {split: whole.examples(some) for split, some in origins.items()}
    if settings.relative == "auto":
        settings = settings.model_copy(update={"relative": drifts(_values_to_forecast(whole, origins["train"]))})
    notes = [*series.notes, _roles(whole, settings), _splits(whole, settings, origins)]
    return (whole, origins), Opened(with_sizes(settings, parts), parts, notes)


def whole_numbers(path: Path) -> Sequences:
    """Return all sequences of an ``.npz`` file with the numbers to predict.

    Raises:
        DataError: as for ``read_npz``; or y holds text.
    """
    return _with_numbers(read_npz(path), str(path))


def _with_numbers(part: Sequences, name: str) -> Sequences:
    if part.y.dtype.kind == "U":
        raise DataError(f"{name}: y holds text, such as {part.y[0]!r}; expected numbers, or use a classifier")
    return replace(part, y=as_numbers(part.y))


def _roles(whole: Windows, settings: DataConfig) -> str:
    """Return the note on what is forecast from what."""
    read, known, left = (
        ", ".join(map(repr, names)) for names in (settings.columns, settings.known, whole.series.left_out)
    )
    ahead = "1 step ahead" if whole.horizon == 1 else f"{whole.horizon} steps ahead"
    line = f"forecasts {settings.target!r} {ahead} from windows of {whole.window} steps of {read}"
    return f"{line}; known in advance: {known or 'none'}; left out: {left or 'none'}"


def _splits(whole: Windows, settings: DataConfig, origins: dict[str, Origins]) -> str:
    """Return the note on split and season."""
    sizes = sizes_as_text({split: len(some) for split, some in origins.items()})
    pace = whole.series.calendar and whole.series.calendar.pace
    each = f"steps of {pace}, " if pace else ""
    season = f"season of {settings.season} steps" if settings.season else "no season"
    how = "relative to the last value of each window; " if settings.relative else ""
    return f"{how}{each}{season}; split by time: {sizes}"


def _values_to_forecast(whole: Windows, origins: Origins) -> npt.NDArray[np.float64]:
    """Return the true values of the target that the forecasts from these origins predict, each once and in order."""
    steps = np.unique(origins[:, None] + np.arange(1, whole.horizon + 1))
    values, missing = (all_columns[steps, whole.target] for all_columns in (whole.series.values, whole.series.missing))
    return np.asarray(values[~missing], np.float64)


def drifts(targets: npt.NDArray[np.floating]) -> bool:
    """Return whether the last fifth of the targets, (N,), often leaves the range of those before: above a tenth."""
    cut = len(targets) - len(targets) // 5
    before, after = targets[:cut], targets[cut:]
    if not len(before) or not len(after):
        return False
    return bool(np.mean((after < before.min()) | (after > before.max())) > 0.1)
