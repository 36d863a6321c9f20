"""IDX files, the format of MNIST: a short header, then one array, optionally gzip-compressed."""

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from gatewise.errors import DataError
from gatewise.files import check_memory, check_unpacked, open_regular

GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20
_MOST_DIMENSIONS = 32
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> npt.NDArray[Any]:
    """Return the array of an IDX file, in the shape and type given by its header.

    The header (http://yann.lecun.com/exdb/mnist/) is two zero bytes, a type, the number of dimensions, and each size
    as four big-endian bytes. It is checked against the file's size before memory is allocated.

    Raises:
        DataError: the file cannot be read, is not an IDX file, is empty, does not have the length that its header
            declares, or declares more than fits in memory or than a compressed file of its size can hold.
    """
    try:
        with open_regular(path, "an IDX file") as raw:
            packed, size = raw.read(2) == GZIP, raw.seek(0, os.SEEK_END)
            raw.seek(0)
            if packed:
                return _read(cast("IO[bytes]", gzip.GzipFile(fileobj=raw)), path, packed=size)
            return _read(raw, path, size=size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise DataError(f"{path}: damaged gzip file ({problem}); expected a complete file, download it again") from None
    except OSError as problem:
        raise DataError(f"{path}: cannot read it ({problem.strerror}); expected an IDX file") from None


def _read(file: IO[bytes], path: Path, size: int | None = None, packed: int | None = None) -> npt.NDArray[Any]:
    """Read an array from a stream: a file of ``size`` bytes, or a decompressed file of ``packed`` compressed bytes."""
    start = file.read(4)
    kind = _TYPES.get(start[2]) if len(start) == 4 else None
    if start[:2] != b"\0\0" or kind is None or start[3] == 0:
        raise DataError(f"{path}: starts with the bytes {start.hex() or '(none)'}; expected the header of an IDX file")
    if start[3] > _MOST_DIMENSIONS:
        raise DataError(
            f"{path}: the header declares {start[3]} dimensions; expected at most {_MOST_DIMENSIONS}, download it again"
        )
    sizes = file.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise DataError(f"{path}: truncated within its header; expected {start[3]} sizes, download it again")
    shape = [int.from_bytes(sizes[k : k + 4], "big") for k in range(0, len(sizes), 4)]
    count, written = math.prod(shape), " x ".join(map(str, shape))
    if count == 0:
        raise DataError(f"{path}: the header declares {written}, an empty array; expected at least one example")
    dtype = np.dtype(kind)
    expected, data = count * dtype.itemsize, bytearray()
    too_long = packed is not None and packed > expected + expected // 8 + _CHUNK  # beyond the worst case of gzip
    if packed is not None:
        check_unpacked(str(path), packed, expected, "decompress it first")
    there = None if size is None else size - file.tell()
    if not too_long and there in (None, expected):
        check_memory(str(path), 2 * expected)
        while len(data) <= expected and (chunk := file.read(_CHUNK)):
            data += chunk
        there = len(data)
    if there != expected:
        found = "more follow" if too_long or cast(int, there) > expected else f"{there:,} follow"
        raise DataError(
            f"{path}: the header declares {written} numbers, {expected:,} bytes, but {found}; download the file again"
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
