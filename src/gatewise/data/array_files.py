"""NumPy's files read with care: no pickle, and nothing but finite numbers of the right shape."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import DataError

# What numpy.load raises for files that are no array files, are cut off, or lie about their size.
_UNREADABLE = (
    ValueError,
    EOFError,
    MemoryError,
    OverflowError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def load_arrays(path: Path, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Return arrays of an ``.npz`` file by name; a ``.npy`` file holds the first of the names.

    Raises:
        DataError: the file cannot be read, lacks a name, or holds Python objects.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return _named({names[0]: loaded}, names, path)
        with loaded:
            return _named(loaded, names, path)
    except OSError as problem:
        raise DataError(f"{path}: cannot read it ({problem.strerror or problem}); expected an array file") from None
    except _UNREADABLE as problem:
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise DataError(f"{path}: no array of numbers can be read from it ({reason}); save it again") from None


def _named(arrays: Mapping[str, Any], names: Sequence[str], path: Path) -> dict[str, npt.NDArray[Any]]:
    missing = [name for name in names if name not in arrays]
    if missing:
        found = ", ".join(map(repr, arrays)) or "none"
        raise DataError(f"{path}: no array {missing[0]!r}; found {found}; expected {' and '.join(names)}")
    return {name: arrays[name] for name in names}


def check_numbers(array: npt.NDArray[Any], name: str, ndim: int) -> npt.NDArray[Any]:
    """Return an array that holds finite real numbers in so many dimensions, none of them empty.

    Raises:
        DataError: it does not; ``name``, with its file, begins the error.
    """
    shape = "(N, T, I)" if ndim == 3 else "(N,)"
    if array.ndim != ndim or array.size == 0:
        raise DataError(f"{name} of the shape {array.shape}; expected {shape}, none of them 0")
    if array.dtype.kind not in "buif":
        raise DataError(f"{name} of the type {array.dtype}; expected whole or real numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise DataError(f"{name}{list(place)} is {array[place]}; expected finite numbers")
    fits, largest = ("int64", np.iinfo(np.int64).max) if array.dtype.kind == "u" else ("float64", np.finfo(float).max)
    if array.dtype.itemsize >= 8 and (np.abs(array) > largest).any():
        raise DataError(f"{name} holds {np.abs(array).max()}, which is too large; expected numbers that fit {fits}")
    return array


def in_float32(x: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Return x as a model that does not standardise reads it: float32, or uint8.

    Raises:
        DataError: a number is too large for float32.
    """
    with np.errstate(over="ignore"):
        narrow = x if x.dtype == np.uint8 else x.astype(np.float32, copy=False)
    if narrow.dtype != np.uint8 and not np.isfinite(narrow).all():
        raise DataError(f"{name} holds {np.abs(x).max()}, which is too large; expected numbers that fit float32")
    return narrow
