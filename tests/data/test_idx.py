"""IDX files: every type, packed or not, and headers that lie."""

import gzip
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.data.idx import read_idx
from gatewise.errors import DataError
from tests.child import in_child

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """Return an array as an IDX file holds it, written from the format's description."""
    code = CODES[array.dtype.str[1:]]
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
RAW = idx_bytes(IMAGES)


def write(folder: Path, raw: bytes) -> Path:
    (folder / "a-ubyte").write_bytes(raw)
    return folder / "a-ubyte"


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_all_types_whatever_the_name(tmp_path: Path, kind: str, shape: tuple[int, ...], pack: Any) -> None:
    array = (np.arange(6) * 40 - (0 if kind == "u1" else 100)).astype(kind).reshape(shape)
    found = read_idx(write(tmp_path, pack(idx_bytes(array))))
    assert (found.dtype, found.shape) == (np.dtype(kind), shape)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (RAW[:-1], r"a-ubyte: the header declares 2 x 3 x 4 numbers, 24 bytes, but 23 follow; download"),
        (RAW + b"\0", r"a-ubyte: the header declares 2 x 3 x 4 numbers, 24 bytes, but more follow"),
        (RAW[:16], r"24 bytes, but 0 follow"),
        (
            RAW[:4] + b"\xff" * 12 + RAW[16:],
            r"(4294967295 x ){2}4294967295 numbers, .* bytes, but 24 follow|claim to decomp",
        ),
        (RAW[:4] + bytes(4) + RAW[8:], r"the header declares 0 x 3 x 4, an empty array"),
        (RAW[:10], r"a-ubyte: truncated within its header; expected 3 sizes"),
        (RAW[:3] + b"\xff" + RAW[4:], r"a-ubyte: the header declares 255 dimensions; expected at most 32"),
        (RAW[:3] + b"\x41" + b"\0\0\0\1" * 65 + b"\0", r"the header declares 65 dimensions; expected at most 32"),
        (RAW[:3] + b"\x20" + RAW[4:], r"a-ubyte: truncated within its header; expected 32 sizes"),
        (RAW[:3] + b"\0" + RAW[4:], r"a-ubyte: starts with the bytes 00000800; expected the header of an IDX file"),
        (RAW[:2] + b"\x0a" + RAW[3:], r"starts with the bytes 00000a03"),
        (b"\0\1" + RAW[2:], r"starts with the bytes 00010803"),
        (b"\x89PNG....", r"starts with the bytes 89504e47"),
        (RAW[:3], r"starts with the bytes 000008"),
        (b"", r"starts with the bytes \(none\)"),
    ],
)
def test_headers_that_lie(tmp_path: Path, raw: bytes, message: str, pack: Any) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_idx(write(tmp_path, pack(raw)))
    assert "\n" not in str(caught.value)


def test_a_long_tail_is_not_unpacked(tmp_path: Path) -> None:
    """A small packed file that swells to 64 MiB is refused after the first piece of its tail."""
    path = tmp_path / "a-ubyte"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(RAW)
        for _ in range(8):
            file.write(bytes(1 << 23))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="more follow"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("end", [3, 9, 15, 20, -5])
def test_damaged_gzip(tmp_path: Path, end: int) -> None:
    packed = gzip.compress(RAW)
    with pytest.raises(DataError, match=r"a-ubyte: damaged gzip file \(.*download it again"):
        read_idx(write(tmp_path, packed[:end]))
    with pytest.raises(DataError, match="damaged gzip"):
        read_idx(write(tmp_path, packed[:12] + b"\xff\xff" + packed[14:]))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: cannot read it \(No such file or directory\); expected an IDX file"):
        read_idx(tmp_path / "none")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """A quarter of a megabyte that says 300 MB and has them: refused by what it says, within 40 MB of memory."""
    path = tmp_path / "a-ubyte.gz"
    zeros = gzip.compress(bytes(1 << 20), 9, mtime=0)
    head = b"\0\0\x08\3" + b"".join(n.to_bytes(4, "big") for n in (300, 1 << 10, 1 << 10))
    path.write_bytes(gzip.compress(head) + zeros * 300)
    found = in_child(lambda: read_idx(path), megabytes=40)
    assert found.startswith(
        f"DataError: {path}: 307 KiB that claim to decompress to 300 MiB; expected at most 100 times"
    )
    assert found.endswith("decompress it first")


def test_a_sparse_file_that_says_more_than_memory_holds(tmp_path: Path) -> None:
    path = tmp_path / "a-ubyte"
    path.write_bytes(b"\0\0\x08\3" + b"\0\1\0\0" * 3)
    found = in_child(lambda: read_idx(path), megabytes=40)
    assert "65536 x 65536 x 65536 numbers, 281,474,976,710,656 bytes, but 0 follow" in found
    os.truncate(path, 16 + (1 << 43))
    with path.open("r+b") as file:
        file.write(b"\0\0\x08\3" + b"\0\0\x80\0" * 2 + b"\0\0\x20\0")
    found = in_child(lambda: read_idx(path), megabytes=40)
    assert "reading it takes 16,384 GiB of memory, but only" in found


def test_a_long_tail_of_zeros_is_not_read(tmp_path: Path) -> None:
    """Python's gzip passes over zeros after the end, byte by byte: a terabyte of them takes a day."""
    path = tmp_path / "a-ubyte.gz"
    path.write_bytes(gzip.compress(RAW))
    os.truncate(path, 1 << 40)
    began = time.monotonic()
    with pytest.raises(DataError, match=r"24 bytes, but more follow"):
        read_idx(path)
    assert time.monotonic() - began < 1
