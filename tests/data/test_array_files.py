"""NumPy's files: every way to write numbers, and headers, archives and sizes that lie, within little memory."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gatewise.data.arrays import read_array_file, read_npz
from gatewise.errors import DataError
from tests.child import in_child


def npy_bytes(descr: object, shape: object, data: bytes = b"", order: object = False, version: int = 1) -> bytes:
    """Write a ``.npy`` file by hand, with whatever header."""
    header = f"{{'descr': {descr!r}, 'fortran_order': {order!r}, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(2 if version == 1 else 4, "little") + header + data


VALUES = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize(
    "raw",
    [
        npy_bytes("<f4", (2, 3, 4), VALUES.tobytes()),
        npy_bytes(">f8", (2, 3, 4), VALUES.astype(">f8").tobytes()),
        npy_bytes("<f4", (2, 3, 4), VALUES.tobytes(), version=2),
        npy_bytes("<i2", (2, 3, 4), VALUES.astype("<i2").tobytes(), version=3),
        npy_bytes("<f4", (2, 3, 4), VALUES.tobytes("F"), order=True),
    ],
)
def test_every_way_to_write_numbers(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(raw)
    np.testing.assert_array_equal(read_array_file(tmp_path / "a.npy", 3, 4).x, VALUES)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", raw)
    np.testing.assert_array_equal(read_array_file(tmp_path / "a.npz", 3, 4).x, VALUES)


BAD_NPY: dict[str, tuple[bytes, str]] = {
    "no dictionary": (b"\x93NUMPY\x01\0\x04\0abc\n", "not a readable array of numbers"),
    "deep nesting": (
        b"\x93NUMPY\x01\0" + (9000).to_bytes(2, "little") + b"(" * 9000,
        "not a readable array of numbers",
    ),
    "header cut off": (b"\x93NUMPY\x01\0\xff\xff{", "not a readable array of numbers"),
    "header of 4 GiB": (b"\x93NUMPY\x02\0\xff\xff\xff\xff{", "not a readable array of numbers"),
    "magic cut off": (b"\x93NUMPY", "not a readable array of numbers"),
    "unknown version": (npy_bytes("<f4", (1,), bytes(4), version=4), "unknown NumPy format 4.0"),
    "huge shape": (npy_bytes("<f4", (1 << 40, 1 << 40, 4)), r"shape .* of float32, .* bytes, but 0 follow"),
    "more numbers than are there": (npy_bytes("<f4", (1, 1, 1 << 34), bytes(8)), "68,719,476,736 bytes, but 8 follow"),
    "fewer numbers than are there": (npy_bytes("<f4", (1, 1, 1), bytes(8)), "4 bytes, but 8 follow"),
    "negative": (npy_bytes("<f4", (-1, 3, 4), bytes(48)), r"its header has the invalid shape \(-1, 3, 4\)"),
    "twice negative": (npy_bytes("<f4", (-2, -3, 4), bytes(96)), "its header has the invalid shape"),
    "shape of words": (npy_bytes("<f4", ("a",), bytes(4)), "not a readable array of numbers"),
    "70 dimensions": (npy_bytes("<f4", (1,) * 70, bytes(4)), "not a readable array of numbers"),
    "complex": (npy_bytes("<c8", (1, 3, 4), bytes(96)), "x has type complex64; expected integers or real numbers"),
    "dates": (npy_bytes("<M8[s]", (1, 3, 4), bytes(96)), r"x has type datetime64\[s\]; expected integers or real"),
    "text": (npy_bytes("<U1", (1, 3, 4), bytes(48)), "x has type <U1; expected integers or real numbers"),
    "no bytes each": (npy_bytes("|V0", (1 << 40, 3, 4)), "x has type"),
    "fields": (npy_bytes([("a", "<f4")], (1, 3, 4), bytes(48)), "x has type"),
    "objects": (npy_bytes("|O", (1,), b"\x80\x04N."), "x holds Python objects, as NumPy makes of"),
    "objects in fields": (npy_bytes([("a", "|O")], (1,), b"\x80\x04N."), "x holds Python objects, as NumPy makes of"),
    "unknown type": (npy_bytes("<q9", (1,), bytes(9)), "not a readable array of numbers"),
}


@pytest.mark.parametrize("name", BAD_NPY)
def test_bad_npy_headers(tmp_path: Path, name: str) -> None:
    """One line each, within 40 MB of memory, alone and in an archive."""
    raw, message = BAD_NPY[name]
    (tmp_path / "a.npy").write_bytes(raw)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", raw)

    def read_both() -> None:
        for path in (tmp_path / "a.npy", tmp_path / "a.npz"):
            with pytest.raises(DataError, match=rf"^{path}: .*{message}") as caught:
                read_array_file(path, 3, 4)
            assert "\n" not in str(caught.value)

    assert in_child(read_both, megabytes=40) == "returned"


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """60 KB that say 60 MB and have them, within 30 MB of memory."""
    monkeypatch.setattr("gatewise.files.UNPACKED_FREELY", 16 << 20)
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(npy_bytes("<f8", (1, 60, 1 << 17)))
        for _ in range(60):
            member.write(bytes(1 << 20))
    found = in_child(lambda: read_array_file(path, None, 1 << 17).x, megabytes=40)
    assert (
        "KiB that claim to decompress to 60 MiB; expected at most 100 times the compressed size, "
        "save it with numpy.savez" in found
    )


def test_archives_that_lie(tmp_path: Path) -> None:
    """About a member's length, in the directory or in the array's own header; two of one name; another packing."""
    path, raw = tmp_path / "a.npz", npy_bytes("<f4", (2, 3, 4), VALUES.tobytes())

    def write(content: bytes, method: int = zipfile.ZIP_STORED, times: int = 1) -> bytes:
        with zipfile.ZipFile(path, "w", method) as archive:
            for _ in range(times):
                archive.writestr("x.npy", content)
        return path.read_bytes()

    def refused(message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            read_array_file(path, 3, 4)
        assert "\n" not in str(caught.value)

    whole, length = write(raw), len(raw).to_bytes(4, "little")
    at = whole.rindex(length)
    for claim in (len(raw) - 4, len(raw) + 4, 0xFFFFFFF0):
        path.write_bytes(whole[:at] + claim.to_bytes(4, "little") + whole[at + 4 :])
        refused("96 bytes, but .* follow|claim to decompress|more bytes follow|Bad CRC|it ends after")
    write(npy_bytes("<f4", (1 << 20, 3, 4), VALUES.tobytes()))
    refused("50,331,648 bytes, but 96 follow")
    with pytest.warns(UserWarning, match="Duplicate name"):
        write(raw, times=2)
    refused("2 arrays 'x'; expected one")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        write(raw, method)
        refused("x has compression method 1[24]; expected one from numpy.savez")
    whole = write(raw)
    path.write_bytes(whole.replace(VALUES.tobytes(), VALUES[::-1].tobytes()))
    refused("Bad CRC-32")


def test_a_sparse_array_larger_than_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    head = npy_bytes("<f4", (1 << 20, 1 << 10, 1 << 10))
    path.write_bytes(head)
    os.truncate(path, len(head) + (1 << 42))
    assert "GiB of memory, but only" in in_child(lambda: read_array_file(path, None, 1 << 10).x, megabytes=40)


def test_arrays_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"a\.npy: a pipe, which can be read only once; expected an array file"):
        read_array_file(tmp_path / "a.npy", 3, 4)
    with pytest.raises(DataError, match="zero: a device; expected an array file"):
        read_npz(Path("/dev/zero"))
