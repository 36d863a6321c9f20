"""Sequences of numbers from IDX files, from .npz arrays and from scikit-learn, and what is wrong in one line."""

import gzip
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
    x, y, _ = data.batch(np.array([4, 0]))
    assert (x.dtype, x.shape, y.tolist()) == (np.float32, (2, 4, 3), [1, 0])
    np.testing.assert_array_equal(x, PIXELS[[4, 0]].astype(np.float32) * np.float32(1 / 255))
    for plain in (data, Sequences(X.copy(), Y.copy())):
        x, y, _ = plain.batch(slice(0, 2))
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
            r"no t10k-labels-idx1-ubyte \(or \.gz\) in this folder; "
            "expected the four files train-images-idx3-ubyte, ",
        ),
        (
            lambda folder: (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(Y[:4].astype(np.uint8))),
            r"train-labels-idx1-ubyte: 4 labels for the 5 sequences of train-images-idx3-ubyte; "
            "expected one per sequence",
        ),
        (
            lambda folder: (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(PIXELS)),
            r"train-labels-idx1-ubyte: labels has shape \(5, 4, 3\); expected \(N,\)",
        ),
        (
            lambda folder: (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(X)),
            r"train-images-idx3-ubyte: numbers of type float32; expected unsigned bytes",
        ),
        (
            lambda folder: (folder / "t10k-images-idx3-ubyte.gz").write_bytes(idx_bytes(PIXELS.reshape(5, 2, 6))),
            r"the dimensions of x differ between test \(\(2, 6\)\) and train \(\(4, 3\)\); expected the same",
        ),
    ],
)
def test_bad_idx_folders(tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
    change(write_idx(tmp_path))
    with pytest.raises(DataError, match=message):
        find_sequences(tmp_path, 2, 0)


@pytest.mark.parametrize("size", [5, 6])
def test_sizes_that_leave_nothing(tmp_path: Path, size: int) -> None:
    with pytest.raises(DataError, match=rf"data\.valid_size is {size}, of 5 examples; expected fewer"):
        find_sequences(write_idx(tmp_path), size, 0)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_file_is_split_into_tenths_that_do_not_overlap(tmp_path: Path, seed: int) -> None:
    x, y = np.arange(80, dtype=np.float32).reshape(40, 2, 1), np.repeat([0, 1], 20)  # sorted by label
    parts = find_sequences(npz(tmp_path / "a.npz", x=x, y=y), 0, 0, seed)
    assert {split: len(part) for split, part in parts.items()} == {"train": 32, "valid": 4, "test": 4}
    assert sorted(np.concatenate([part.x[:, 0, 0] for part in parts.values()]).tolist()) == x[:, 0, 0].tolist()
    assert all((part.y == part.x[:, 0, 0] // 40).all() for part in parts.values())
    if seed:
        assert {split: part.y.mean() for split, part in parts.items()} == dict.fromkeys(parts, 0.5)
    else:
        assert parts["test"].x[:, 0, 0].tolist() == [72, 74, 76, 78]


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
        ({"x": X[0, 0], "y": Y}, r"a\.npz: x has shape \(3,\); expected \(N, T, I\)"),
        ({"x": X[:, :0], "y": Y}, r"a\.npz: x has shape \(5, 0, 3\)"),
        ({"x": X, "y": np.eye(5)}, r"a\.npz: y has shape \(5, 5\); expected \(N,\)"),
        ({"x": X, "y": Y[:4]}, r"a\.npz: 4 labels for the 5 sequences; expected one per sequence"),
        ({"x": BROKEN, "y": Y}, r"a\.npz: x\[3, 2, 1\] is nan; expected finite numbers"),
        ({"x": X, "y": [0, 1, 2, np.inf, 0]}, r"a\.npz: y\[3\] is inf"),
        ({"x": X, "y": np.full(5, 2**63, np.uint64)}, r"a\.npz: y contains 9223372036854775808, which is too large"),
        ({"x": X * 1j, "y": Y}, r"a\.npz: x has type complex64; expected integers or real numbers"),
        ({"x": np.full((5, 4, 3), "a"), "y": Y}, r"a\.npz: x has type <U1; expected integers or real numbers"),
        ({"x": X, "y": np.array([list("abcde")])}, r"a\.npz: y has shape \(1, 5\); expected \(N,\)"),
        ({"x": X.astype(object), "y": Y}, r"a\.npz: x holds Python objects, as NumPy makes .* x=np\.concatenate\("),
        ({"x": X, "y": Y.astype(object)}, r"a\.npz: y holds Python objects, .* y=np\.array\(labels, dtype=str\)"),
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
    with pytest.raises(DataError, match=r"a\.npy: x holds Python objects"):
        read_array_file(path, 4, 3)
    path.write_bytes(b"\x80\x04N.")
    with pytest.raises(DataError, match=r"a\.npy: not a readable array of numbers"):
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
        ({"x": X[:, :, :2], "y": Y}, r"the dimensions of x differ between valid \(\(4, 2\)\) and train \(\(4, 3\)\)"),
        ({"x": X, "y": Y / 2}, r"the types of y differ between valid \(float\) and train \(int64\)"),
        ({"x": PIXELS, "y": Y}, r"the types of x differ between valid \(uint8\) and train \(float\)"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    npz(tmp_path / "a.train.npz", x=X, y=Y)
    npz(tmp_path / "a.valid.npz", **arrays)
    with pytest.raises(DataError, match=message):
        find_sequences(tmp_path, 0, 1)


def test_other_names_of_the_validation_arrays(tmp_path: Path) -> None:
    for k, split in enumerate(("train", "val", "test"), 3):
        np.savez(tmp_path / f"a.{split}.npz", x=np.zeros((k, 2, 1)), y=np.arange(k))
    assert [len(part) for part in find_sequences(tmp_path, 1, 1).values()] == [3, 4, 5]
    np.savez(tmp_path / "dev.npz", x=np.zeros((2, 2, 1)), y=np.arange(2))
    with pytest.raises(DataError, match=r"2 files for the split valid \(a\.val\.npz, dev\.npz\)"):
        find_sequences(tmp_path, 1, 1)


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
    with pytest.raises(DataError, match=r"data\.valid_size is 3 and data\.test_size is 2, of 5 examples"):
        find_sequences(tmp_path, 3, 2)


def test_arrays_to_be_predicted(tmp_path: Path) -> None:
    """What a file holds is told by its first bytes; uint8 are pixels everywhere."""
    np.save(tmp_path / "a.npy", X)
    for path in (tmp_path / "a.npy", npz(tmp_path / "a.npz", x=X)):
        np.testing.assert_array_equal(read_array_file(path, 4, 3).x, X)
    (tmp_path / "idx").write_bytes(idx_bytes(PIXELS))
    np.save(tmp_path / "b.npy", PIXELS)
    for path in (tmp_path / "idx", tmp_path / "b.npy", npz(tmp_path / "b.npz", x=PIXELS)):
        found = read_array_file(path, None, 3).x
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, PIXELS / 255, rtol=1e-6)


def test_arrays_beyond_float32_are_for_models_that_standardise(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", x=HUGE, y=Y)
    with pytest.raises(
        DataError, match=r"a\.npz: x contains 1e\+300, which is too large; expected numbers that fit float32"
    ):
        read_array_file(path, 4, 3)
    np.testing.assert_array_equal(read_array_file(path, 4, 3, wide=True).x, HUGE)
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
    with pytest.raises(DataError, match=r"a\.txt: starts with the bytes 6120646f; expected the header of an IDX"):
        read_array_file(tmp_path / "a.txt", 4, 3)


def test_classes() -> None:
    assert check_classes(np.array([3, 1, 3, 2]), "a") == [1, 2, 3]
    assert check_classes(["b", "a", "b"], "a") == ["a", "b"]
    with pytest.raises(DataError, match=r"a\.npz: only one class, 7; expected at least two classes"):
        check_classes(np.array([7, 7]), "a.npz")
    with pytest.raises(DataError, match=r"only one class, 'x'"):
        check_classes(["x"], "a.npz")
    with pytest.raises(DataError, match="no labels; expected at least two"):
        check_classes([], "a.npz")
    with pytest.raises(DataError, match="the labels are float32; expected integers"):
        check_classes(np.zeros(3, np.float32), "a.npz")


def test_digits() -> None:
    """1,797 images of 8x8 in 0..1, and the first of them is a nought."""
    pytest.importorskip("sklearn")
    parts = load_digits(200, 300)
    assert [len(parts[split]) for split in ("train", "valid", "test")] == [1297, 200, 300]
    x, y, _ = parts["train"].batch(slice(None))
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
    x = parts["test"].batch(slice(0, 100)).x
    assert (x.dtype, x.min(), x.max()) == (np.float32, 0, 1)
    # The mean of the training pixels that is quoted everywhere, as a fraction of 255.
    mean = read_idx(folder / "train-images-idx3-ubyte.gz").mean() / 255
    assert mean == pytest.approx(0.1307, abs=5e-5)
