"""IDX files, the format of MNIST: a few bytes of header, then one array; gzip or not."""

import gzip
import math
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from gatewise.errors import DataError

GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> npt.NDArray[Any]:
    """Return the array of an IDX file, in the shape and type that its header names.

    The header (http://yann.lecun.com/exdb/mnist/) is two zero bytes, a type, the number of dimensions, and each size
    in four bytes, the highest first. It is never believed before as many bytes have come.

    Raises:
        DataError: the file cannot be read, is no IDX file, is empty, or is longer or shorter than its header says.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            return _read(cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if packed else raw, path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise DataError(f"{path}: damaged gzip ({problem}); expected a whole file, download it again") from None
    except OSError as problem:
        raise DataError(f"{path}: cannot read it ({problem.strerror}); expected an IDX file") from None


def _read(file: IO[bytes], path: Path) -> npt.NDArray[Any]:
    start = file.read(4)
    kind = _TYPES.get(start[2]) if len(start) == 4 else None
    if start[:2] != b"\0\0" or kind is None or start[3] == 0:
        raise DataError(
            f"{path}: it begins with the bytes {start.hex() or '(none)'}; expected the header of an IDX file"
        )
    sizes = file.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise DataError(f"{path}: the file ends within its header; expected {start[3]} sizes, download it again")
    shape = [int.from_bytes(sizes[k : k + 4], "big") for k in range(0, len(sizes), 4)]
    count, written = math.prod(shape), " x ".join(map(str, shape))
    if count == 0:
        raise DataError(f"{path}: the header says {written}, so nothing; expected at least one example")
    dtype = np.dtype(kind)
    expected, data = count * dtype.itemsize, bytearray()
    while len(data) <= expected and (chunk := file.read(_CHUNK)):
        data += chunk
    if len(data) != expected:
        found = "more follow" if len(data) > expected else f"{len(data):,} follow"
        raise DataError(
            f"{path}: the header says {written} numbers, {expected:,} bytes, but {found}; download the file again"
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
