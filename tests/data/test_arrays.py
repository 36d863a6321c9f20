"""Sequences of numbers from IDX files, from .npz arrays and from scikit-learn, and what is wrong in one line."""

import gzip
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.data.arrays import (
    Sequences,
    check_classes,
    find_sequences,
    load_digits,
    read_array_file,
    read_idx,
    read_npz,
)
from gatewise.errors import DataError
from tests.child import in_child
from tests.conftest import real_data
from tests.data.test_idx import idx_bytes

X = np.arange(60, dtype=np.float32).reshape(5, 4, 3)
Y = np.array([0, 1, 2, 0, 1])
PIXELS = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def write_idx(folder: Path) -> Path:
    """Write four IDX files, the test's packed; the test has the training examples in the other order."""
    images, labels = PIXELS, Y.astype(np.uint8)
    (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(images))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images[::-1])))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels[::-1])))
    return folder


def test_batches_are_scaled_copies() -> None:
    data = Sequences(PIXELS.copy(), Y.copy(), 1 / 255)
    x, y = data.batch(np.array([4, 0]))
    assert (x.dtype, x.shape, y.tolist()) == (np.float32, (2, 4, 3), [1, 0])
    np.testing.assert_array_equal(x, PIXELS[[4, 0]].astype(np.float32) * np.float32(1 / 255))
    for plain in (data, Sequences(X.copy(), Y.copy())):
        x, y = plain.batch(slice(0, 2))
        x[:] = y[:] = 99
        assert (plain.x.max(), plain.y.max()) == (59, 2)


def test_parts_and_hashes() -> None:
    """The hash is of the content: shape, types, values, scale, and so another for each part."""
    data = Sequences(PIXELS, Y)
    part = data.part(slice(3, None))
    assert (len(data), len(part), part.y.tolist()) == (5, 2, [0, 1])
    assert np.shares_memory(part.x, data.x)
    others = [
        part,
        Sequences(PIXELS, Y[::-1]),
        Sequences(PIXELS[::-1], Y),
        Sequences(PIXELS, Y, 0.5),
        Sequences(PIXELS.reshape(5, 3, 4), Y),
        Sequences(PIXELS.astype(np.float32), Y),
    ]
    assert Sequences(PIXELS.copy(), Y.copy()).data_hash == data.data_hash
    assert len({data.data_hash, *(other.data_hash for other in others)}) == 7


def test_idx_folder(tmp_path: Path) -> None:
    parts = find_sequences(str(write_idx(tmp_path)), 2, 0)
    assert {split: part.y.tolist() for split, part in parts.items()} == {
        "train": [0, 1, 2],
        "valid": [0, 1],
        "test": [1, 0, 2, 1, 0],
    }
    assert all(part.x.dtype == np.uint8 and part.y.dtype == np.int64 for part in parts.values())
    np.testing.assert_allclose(parts["valid"].batch(slice(None))[0], PIXELS[3:] / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "t10k-labels-idx1-ubyte.gz").unlink(),
            r"no t10k-labels-idx1-ubyte in this folder, \.gz or not; expected the four files train-images-idx3-ubyte, ",
        ),
        (
            lambda folder: (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(Y[:4].astype(np.uint8))),
            r"train-labels-idx1-ubyte: 4 labels for the 5 sequences of train-images-idx3-ubyte; expected one for each",
        ),
        (
            lambda folder: (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(PIXELS)),
            r"train-labels-idx1-ubyte: labels of the shape \(5, 4, 3\); expected \(N,\)",
        ),
        (
            lambda folder: (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(X)),
            r"train-images-idx3-ubyte: numbers of the type float32; expected unsigned bytes",
        ),
        (
            lambda folder: (folder / "t10k-images-idx3-ubyte.gz").write_bytes(idx_bytes(PIXELS.reshape(5, 2, 6))),
            r"steps and numbers of the part test: \(2, 6\), of train: \(4, 3\); expected the same",
        ),
    ],
)
def test_bad_idx_folders(tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
    change(write_idx(tmp_path))
    with pytest.raises(DataError, match=message):
        find_sequences(tmp_path, 2, 0)


@pytest.mark.parametrize("size", [0, 5, 6])
def test_sizes_that_leave_nothing(tmp_path: Path, size: int) -> None:
    message = (
        rf"no valid part, and data\.valid_size is {size} of 5 examples; .*--set data\.valid_size=N with N from 1 to 4"
    )
    with pytest.raises(DataError, match=message):
        find_sequences(write_idx(tmp_path), size, 0)


def test_npz(tmp_path: Path) -> None:
    data = read_npz(npz(tmp_path / "a.npz", x=X.astype(np.float64), y=Y.astype(np.int32), more=np.zeros(3)))
    assert (data.x.dtype, data.y.dtype, data.scale) == (np.float64, np.int64, 1.0)
    np.testing.assert_array_equal(data.x, X)
    assert data.y.tolist() == Y.tolist()
    numbers = read_npz(npz(tmp_path / "b.npz", x=PIXELS, y=Y / 2))
    assert (numbers.x.dtype, numbers.y.dtype, numbers.scale) == (np.uint8, np.float64, 1 / 255)
    assert numbers.y.tolist() == [0, 0.5, 1, 0, 0.5]


BROKEN = X.astype(np.float64)
BROKEN[3, 2, 1] = np.nan
HUGE = X.astype(np.float64)
HUGE[0, 0, 0] = 1e300


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, r"a\.npz: no array 'y'; found 'x'; expected x and y"),
        ({"images": X, "y": Y}, r"a\.npz: no array 'x'; found 'images', 'y'"),
        ({"x": X[0], "y": Y}, r"a\.npz: x of the shape \(4, 3\); expected \(N, T, I\)"),
        ({"x": X[:, :0], "y": Y}, r"a\.npz: x of the shape \(5, 0, 3\)"),
        ({"x": X, "y": np.eye(5)}, r"a\.npz: y of the shape \(5, 5\); expected \(N,\)"),
        ({"x": X, "y": Y[:4]}, r"a\.npz: 4 labels for the 5 sequences; expected one for each"),
        ({"x": BROKEN, "y": Y}, r"a\.npz: x\[3, 2, 1\] is nan; expected finite numbers"),
        ({"x": X, "y": [0, 1, 2, np.inf, 0]}, r"a\.npz: y\[3\] is inf"),
        ({"x": X, "y": np.full(5, 2**63, np.uint64)}, r"a\.npz: y holds 9223372036854775808, which is too large"),
        ({"x": X * 1j, "y": Y}, r"a\.npz: x of the type complex64; expected whole or real numbers"),
        ({"x": X, "y": np.array(list("abcde"))}, r"a\.npz: y of the type <U1"),
        ({"x": X.astype(object), "y": Y}, r"a\.npz: no array of numbers can be read from it \(Object arrays"),
        ({"x": X, "y": Y.astype(object)}, r"a\.npz: no array of numbers can be read from it \(Object arrays"),
    ],
)
def test_bad_npz(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_npz(npz(tmp_path / "a.npz", **arrays))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_npz(tmp_path: Path, save: Callable[..., None]) -> None:
    """Cut or changed anywhere, a file is read as it was or refused in one line."""
    save(tmp_path / "a.npz", x=X, y=Y)
    raw, path = (tmp_path / "a.npz").read_bytes(), tmp_path / "b.npz"
    refused = []
    for k in range(len(raw)):
        for damaged in (raw[:k], raw[:k] + bytes([raw[k] ^ 0xFF]) + raw[k + 1 :]):
            path.write_bytes(damaged)
            try:
                np.testing.assert_array_equal(read_npz(path).x, X)
            except DataError as problem:
                refused.append(str(problem))
    assert len(refused) > len(raw)
    assert not any("\n" in line for line in refused)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy: no array of numbers can be read from it"):
        read_array_file(path, 4, 3)
    path.write_bytes(b"\x80\x04N.")
    with pytest.raises(DataError, match=r"a\.npy: no array of numbers can be read from it"):
        read_npz(path)


def test_a_shape_that_lies(tmp_path: Path) -> None:
    """An array file that promises more than there is, or more than there can be."""
    np.save(tmp_path / "a.npy", X)
    raw = (tmp_path / "a.npy").read_bytes()
    for shape in (b"(9, 4, 3)", b"(999999999999999, 4, 3)", b"(99999999999999999999, 4, 3)", b"(-5, 4, 3)"):
        padding = len(shape) - len(b"(5, 4, 3)")
        path = tmp_path / "b.npy"
        path.write_bytes(raw.replace(b"(5, 4, 3)", shape).replace(b" " * padding + b"\n", b"\n"))
        with pytest.raises(DataError, match=r"b\.npy: "):
            read_array_file(path, 4, 3)


def test_npz_folders(tmp_path: Path) -> None:
    """Parts that are there are taken; the others are cut off the end, the test last."""
    npz(tmp_path / "a.train.npz", x=X, y=Y)
    parts = find_sequences(tmp_path, 1, 2)
    assert [parts[split].y.tolist() for split in ("train", "valid", "test")] == [[0, 1], [2], [0, 1]]
    npz(tmp_path / "a.valid.npz", x=X[:1], y=Y[:1])
    parts = find_sequences(tmp_path, 0, 2)
    assert [part.y.tolist() for part in parts.values()] == [[0, 1, 2], [0], [0, 1]]
    npz(tmp_path / "test.npz", x=X[1:2], y=Y[1:2])
    parts = find_sequences(tmp_path, 0, 0)
    assert {split: part.y.tolist() for split, part in parts.items()} == {
        "train": [0, 1, 2, 0, 1],
        "valid": [0],
        "test": [1],
    }


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X[:, :, :2], "y": Y}, r"steps and numbers of the part valid: \(4, 2\), of train: \(4, 3\)"),
        ({"x": X, "y": Y / 2}, r"type of y of the part valid: float, of train: int64"),
        ({"x": PIXELS, "y": Y}, r"type of x of the part valid: uint8, of train: float"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    npz(tmp_path / "a.train.npz", x=X, y=Y)
    npz(tmp_path / "a.valid.npz", **arrays)
    with pytest.raises(DataError, match=message):
        find_sequences(tmp_path, 0, 1)


def test_folders_without_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \*\.train\.npz in this folder"):
        find_sequences(tmp_path, 1, 1)
    with pytest.raises(DataError, match="no such folder"):
        find_sequences(tmp_path / "none", 1, 1)
    npz(tmp_path / "a.train.npz", x=X, y=Y)
    npz(tmp_path / "b.train.npz", x=X, y=Y)
    with pytest.raises(DataError, match="2 files for the split train"):
        find_sequences(tmp_path, 1, 1)
    (tmp_path / "b.train.npz").unlink()
    with pytest.raises(DataError, match=r"no test part, and data\.test_size is 0 of 5 examples"):
        find_sequences(tmp_path, 1, 0)
    with pytest.raises(DataError, match=r"no valid part, and data\.valid_size is 3 of 3 examples"):
        find_sequences(tmp_path, 3, 2)


def test_arrays_to_be_predicted(tmp_path: Path) -> None:
    """What a file holds is told by its first bytes; uint8 are pixels everywhere."""
    np.save(tmp_path / "a.npy", X)
    for path in (tmp_path / "a.npy", npz(tmp_path / "a.npz", x=X)):
        np.testing.assert_array_equal(read_array_file(path, 4, 3), X)
    (tmp_path / "idx").write_bytes(idx_bytes(PIXELS))
    np.save(tmp_path / "b.npy", PIXELS)
    for path in (tmp_path / "idx", tmp_path / "b.npy", npz(tmp_path / "b.npz", x=PIXELS)):
        found = read_array_file(path, None, 3)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, PIXELS / 255, rtol=1e-6)


def test_arrays_beyond_float32_are_for_models_that_standardise(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", x=HUGE, y=Y)
    with pytest.raises(
        DataError, match=r"a\.npz: x holds 1e\+300, which is too large; expected numbers that fit float32"
    ):
        read_array_file(path, 4, 3)
    np.testing.assert_array_equal(read_array_file(path, 4, 3, wide=True), HUGE)
    np.testing.assert_array_equal(read_npz(path).batch(slice(None))[0], HUGE)
    exact = np.full((1, 2, 1), 2**24 + 1)  # which float32 rounds
    assert read_npz(npz(tmp_path / "b.npz", x=exact, y=[0.5])).x.tolist() == exact.tolist()


def test_arrays_of_another_size(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(DataError, match=r"a\.npy: sequences of 4 steps of 3 numbers; the model reads 5 steps of 3"):
        read_array_file(tmp_path / "a.npy", 5, 3)
    with pytest.raises(DataError, match="the model reads any number of steps of 4 numbers"):
        read_array_file(tmp_path / "a.npy", None, 4)
    with pytest.raises(DataError, match=r"none\.npy: cannot read it"):
        read_array_file(tmp_path / "none.npy", 4, 3)
    with pytest.raises(DataError, match=r"a\.npz: no array 'x'; found 'images'; expected x"):
        read_array_file(npz(tmp_path / "a.npz", images=X), 4, 3)
    (tmp_path / "a.txt").write_text("a dog")
    with pytest.raises(DataError, match=r"a\.txt: it begins with the bytes 6120646f; expected the header of an IDX"):
        read_array_file(tmp_path / "a.txt", 4, 3)


def test_classes() -> None:
    assert check_classes(np.array([3, 1, 3, 2]), "a") == [1, 2, 3]
    assert check_classes(["b", "a", "b"], "a") == ["a", "b"]
    with pytest.raises(DataError, match=r"a\.npz: one class alone, 7; expected at least two classes"):
        check_classes(np.array([7, 7]), "a.npz")
    with pytest.raises(DataError, match=r"one class alone, 'x'"):
        check_classes(["x"], "a.npz")
    with pytest.raises(DataError, match="no label; expected at least two"):
        check_classes([], "a.npz")
    with pytest.raises(DataError, match="the labels are float32; expected whole numbers"):
        check_classes(np.zeros(3, np.float32), "a.npz")


def test_digits() -> None:
    """1,797 images of 8x8 in 0..1, and the first of them is a nought."""
    pytest.importorskip("sklearn")
    parts = load_digits(200, 300)
    assert [len(parts[split]) for split in ("train", "valid", "test")] == [1297, 200, 300]
    x, y = parts["train"].batch(slice(None))
    assert (x.shape, x.dtype, x.min(), x.max()) == ((1297, 8, 8), np.float32, 0, 1)
    assert y[:10].tolist() == list(range(10))
    assert x[0, 0].tolist() == [0, 0, 5 / 16, 13 / 16, 9 / 16, 1 / 16, 0, 0]
    assert parts["train"].x.dtype == np.uint8


def test_the_real_mnist() -> None:
    folder = real_data("mnist")
    parts = find_sequences(folder, 5000, 0)
    assert {split: part.x.shape for split, part in parts.items()} == {
        "train": (55000, 28, 28),
        "valid": (5000, 28, 28),
        "test": (10000, 28, 28),
    }
    assert parts["train"].x.dtype == np.uint8
    assert parts["train"].y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert parts["test"].y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert check_classes(parts["train"].y, "mnist") == list(range(10))
    x, _ = parts["test"].batch(slice(0, 100))
    assert (x.dtype, x.min(), x.max()) == (np.float32, 0, 1)
    # The mean of the training pixels that is quoted everywhere, as a fraction of 255.
    mean = read_idx(folder / "train-images-idx3-ubyte.gz").mean() / 255
    assert mean == pytest.approx(0.1307, abs=5e-5)


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
    np.testing.assert_array_equal(read_array_file(tmp_path / "a.npy", 3, 4), VALUES)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", raw)
    np.testing.assert_array_equal(read_array_file(tmp_path / "a.npz", 3, 4), VALUES)


BAD_NPY: dict[str, tuple[bytes, str]] = {
    "no dictionary": (b"\x93NUMPY\x01\0\x04\0abc\n", "no array of numbers can be read from it"),
    "deep nesting": (
        b"\x93NUMPY\x01\0" + (9000).to_bytes(2, "little") + b"(" * 9000,
        "no array of numbers can be read",
    ),
    "header cut off": (b"\x93NUMPY\x01\0\xff\xff{", "no array of numbers can be read from it"),
    "header of 4 GiB": (b"\x93NUMPY\x02\0\xff\xff\xff\xff{", "no array of numbers can be read from it"),
    "magic cut off": (b"\x93NUMPY", "no array of numbers can be read from it"),
    "unknown version": (npy_bytes("<f4", (1,), bytes(4), version=4), "format 4.0 is none of NumPy's"),
    "huge shape": (npy_bytes("<f4", (1 << 40, 1 << 40, 4)), r"shape .* of float32, .* bytes, but 0 follow"),
    "more numbers than are there": (npy_bytes("<f4", (1, 1, 1 << 34), bytes(8)), "68,719,476,736 bytes, but 8 follow"),
    "fewer numbers than are there": (npy_bytes("<f4", (1, 1, 1), bytes(8)), "4 bytes, but 8 follow"),
    "negative": (npy_bytes("<f4", (-1, 3, 4), bytes(48)), r"its header says the shape \(-1, 3, 4\)"),
    "twice negative": (npy_bytes("<f4", (-2, -3, 4), bytes(96)), r"its header says the shape"),
    "shape of words": (npy_bytes("<f4", ("a",), bytes(4)), "no array of numbers can be read from it"),
    "70 dimensions": (npy_bytes("<f4", (1,) * 70, bytes(4)), "no array of numbers can be read from it"),
    "complex": (npy_bytes("<c8", (1, 3, 4), bytes(96)), "x of the type complex64; expected whole or real numbers"),
    "dates": (npy_bytes("<M8[s]", (1, 3, 4), bytes(96)), r"x of the type datetime64\[s\]; expected whole or real"),
    "text": (npy_bytes("<U1", (1, 3, 4), bytes(48)), "x of the type <U1; expected whole or real numbers"),
    "no bytes each": (npy_bytes("|V0", (1 << 40, 3, 4)), "x of the type"),
    "fields": (npy_bytes([("a", "<f4")], (1, 3, 4), bytes(48)), "x of the type"),
    "objects": (npy_bytes("|O", (1,), b"\x80\x04N."), "Object arrays are pickled, and pickles are not opened"),
    "objects in fields": (npy_bytes([("a", "|O")], (1,), b"\x80\x04N."), "Object arrays are pickled"),
    "unknown type": (npy_bytes("<q9", (1,), bytes(9)), "no array of numbers can be read from it"),
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
    found = in_child(lambda: read_array_file(path, None, 1 << 17), megabytes=40)
    assert (
        "KiB that claim to unpack to 60 MiB; expected at most 100 times their size, save it with numpy.savez" in found
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
        refused("96 bytes, but .* follow|claim to unpack|more bytes follow|Bad CRC|it ends after")
    write(npy_bytes("<f4", (1 << 20, 3, 4), VALUES.tobytes()))
    refused("50,331,648 bytes, but 96 follow")
    with pytest.warns(UserWarning, match="Duplicate name"):
        write(raw, times=2)
    refused("2 arrays 'x'; expected one")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        write(raw, method)
        refused("x is packed by method 1[24]; expected what numpy.savez")
    whole = write(raw)
    path.write_bytes(whole.replace(VALUES.tobytes(), VALUES[::-1].tobytes()))
    refused("Bad CRC-32")


def test_a_sparse_array_larger_than_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    head = npy_bytes("<f4", (1 << 20, 1 << 10, 1 << 10))
    path.write_bytes(head)
    os.truncate(path, len(head) + (1 << 42))
    assert "GiB to be read at once, and" in in_child(lambda: read_array_file(path, None, 1 << 10), megabytes=40)


def test_arrays_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"a\.npy: a pipe, which can be read once alone; expected an array file"):
        read_array_file(tmp_path / "a.npy", 3, 4)
    with pytest.raises(DataError, match="zero: a device; expected an array file"):
        read_npz(Path("/dev/zero"))
