"""Strict reading of NumPy files: no pickles, no more memory than the file size justifies, only finite numbers."""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from gatewise.errors import DataError
from gatewise.files import check_memory, check_unpacked, open_regular

_CHUNK = 1 << 20
_START = b"\x93NUMPY"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_COPIES = 2
"""An array is briefly held twice, in the file's type and as float32."""


def load_arrays(path: Path, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Return the named arrays of an ``.npz`` file; a ``.npy`` file provides the first of the names.

    The shape and type in the header must match the file's size, or the size that the archive declares, before memory
    is allocated.

    Raises:
        DataError: the file cannot be read, lacks an array, holds Python objects, or does not fit in memory.
    """
    with open_regular(path, "an array file") as file:
        try:
            packed = file.seek(0, 2)
            file.seek(0)
            if file.read(len(_START)) != _START:
                return _read_archive(file, packed, names, path)
            _check_names(names[:1], names, path)
            file.seek(0)
            return {names[0]: _read_array(file, packed, f"{path}: {names[0]}")}
        except OSError as problem:
            raise DataError(f"{path}: cannot read it ({problem.strerror or problem}); expected an array file") from None
        except DataError:
            raise
        except Exception as problem:  # NumPy and zipfile raise all kinds of exceptions on damaged files
            reason = " ".join(str(problem).split()) or type(problem).__name__
            raise DataError(f"{path}: not a readable array of numbers ({reason}); save it again") from None


def _read_archive(file: IO[bytes], packed: int, names: Sequence[str], path: Path) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(file) as archive:
        inside = [info.filename.removesuffix(".npy") for info in archive.infolist()]
        _check_names(inside, names, path)
        members = {name: archive.infolist()[inside.index(name)] for name in names}
        for name, member in members.items():
            if inside.count(name) > 1:
                raise DataError(f"{path}: {inside.count(name)} arrays {name!r}; expected one, save it again")
            if member.compress_type not in _METHODS:
                raise DataError(
                    f"{path}: {name} has compression method {member.compress_type}; expected one from numpy.savez or "
                    "numpy.savez_compressed"
                )
        announced = sum(member.file_size for member in members.values())
        check_unpacked(str(path), packed, announced, "save it with numpy.savez, which does not compress")
        check_memory(str(path), _COPIES * announced)
        arrays = {}
        for name, member in members.items():
            with archive.open(member) as stream:
                arrays[name] = _read_array(stream, member.file_size, f"{path}: {name}")
        return arrays


def _check_names(inside: Sequence[str], names: Sequence[str], path: Path) -> None:
    missing = [name for name in names if name not in inside]
    if missing:
        found = ", ".join(map(repr, inside)) or "none"
        raise DataError(f"{path}: no array {missing[0]!r}; found {found}; expected {' and '.join(names)}")


def _read_array(stream: IO[bytes], length: int, name: str) -> npt.NDArray[Any]:
    """Read an array of ``length`` bytes, header included."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"unknown NumPy format {version[0]}.{version[1]}")
    # Version 3 differs from version 2 only in the encoding of field names, which numeric arrays do not have.
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError("object arrays are pickled, and pickles are not loaded")
    if dtype.kind not in "buifU":
        raise DataError(f"{name} has type {dtype}; expected integers or real numbers")
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"its header has the invalid shape {shape}")
    expected, there = math.prod(shape) * dtype.itemsize, length - stream.tell()
    if expected != there:
        raise ValueError(f"its header declares shape {shape} of {dtype}, {expected:,} bytes, but {there:,} follow")
    check_memory(name.rpartition(": ")[0], _COPIES * expected)
    raw = np.empty(expected, np.uint8)
    at = 0
    while at < expected:
        chunk = stream.read(min(_CHUNK, expected - at))
        if not chunk:
            raise EOFError(f"it ends after {at:,} of {expected:,} bytes")
        raw[at : at + len(chunk)] = np.frombuffer(chunk, np.uint8)
        at += len(chunk)
    if stream.read(1):  # reading to the end also verifies the checksum of an archive member
        raise ValueError("more bytes follow than the header declares")
    if dtype.kind == "U":
        codes = raw.view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any():
            raise ValueError("its text is not Unicode")
    array = raw.view(dtype)
    return array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)


def check_numbers(array: npt.NDArray[Any], name: str, ndim: int) -> npt.NDArray[Any]:
    """Check that an array is not empty, has ``ndim`` dimensions and holds finite real numbers; return it.

    Raises:
        DataError: the check fails; the message starts with ``name``, which includes the file.
    """
    shape = "(N, T, I)" if ndim == 3 else "(N,)"
    if array.ndim != ndim or array.size == 0:
        raise DataError(f"{name} has shape {array.shape}; expected {shape} without a dimension of size 0")
    if array.dtype.kind not in "buif":
        raise DataError(f"{name} has type {array.dtype}; expected integers or real numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise DataError(f"{name}{list(place)} is {array[place]}; expected finite numbers")
    fits, largest = ("int64", np.iinfo(np.int64).max) if array.dtype.kind == "u" else ("float64", np.finfo(float).max)
    if array.dtype.itemsize >= 8 and (np.abs(array) > largest).any():
        raise DataError(f"{name} contains {np.abs(array).max()}, which is too large; expected numbers that fit {fits}")
    return array


def in_float32(x: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Return x in the type read by a model without standardization: float32, or uint8 unchanged.

    Raises:
        DataError: a number is too large for float32.
    """
    with np.errstate(over="ignore"):
        narrow = x if x.dtype == np.uint8 else x.astype(np.float32, copy=False)
    if narrow.dtype != np.uint8 and not np.isfinite(narrow).all():
        raise DataError(f"{name} contains {np.abs(x).max()}, which is too large; expected numbers that fit float32")
    return narrow
