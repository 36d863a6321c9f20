"""The true label of a sequence for prediction: in the file, beside it, or the name of its folder."""

from pathlib import Path

import numpy as np
import pytest

from gatewise.data.sequence_files import read_sequence_file, read_true_label
from gatewise.errors import DataError
from tests.data.test_idx import idx_bytes

X = np.zeros((3, 2, 2), np.uint8)


def test_labels_of_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=np.array([7, 8, 9]))
    assert [read_true_label(tmp_path / "a.npz", k, 3, ["7"]) for k in range(3)] == ["7", "8", "9"]
    np.savez(tmp_path / "b.npz", x=X)
    assert read_true_label(tmp_path / "b.npz", 0, 3, ["7"]) is None
    np.savez(tmp_path / "c.npz", x=X, y=np.array([0.5, 1.5, 2.5]))  # numbers to predict
    assert read_true_label(tmp_path / "c.npz", 0, 3, ["7"]) is None
    np.save(tmp_path / "d.npy", X)
    (tmp_path / "d.npy").rename(tmp_path / "d.npz")
    assert read_true_label(tmp_path / "d.npz", 0, 3, ["7"]) is None


@pytest.mark.parametrize("end", ["", ".gz"])
def test_labels_beside_images(end: str, tmp_path: Path) -> None:
    images, labels = (tmp_path / f"t10k-{kind}-ubyte{end}" for kind in ("images-idx3", "labels-idx1"))
    images.write_bytes(idx_bytes(X))
    assert read_true_label(images, 2, 3, ["7"]) is None
    labels.write_bytes(idx_bytes(np.array([7, 8, 9], np.uint8)))
    assert read_true_label(images, 2, 3, ["7"]) == "9"
    labels.write_bytes(idx_bytes(np.array([7, 8], np.uint8)))
    with pytest.raises(DataError, match="2 labels for the 3 sequences; expected one per sequence"):
        read_true_label(images, 2, 3, ["7"])
    labels.write_bytes(b"no IDX")
    with pytest.raises(DataError, match="expected the header of an IDX file"):
        read_true_label(images, 2, 3, ["7"])


def test_bad_labels_of_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=np.array([7]))
    with pytest.raises(DataError, match="1 labels for the 3 sequences"):
        read_true_label(tmp_path / "a.npz", 0, 3, ["7"])
    np.savez(tmp_path / "a.npz", x=X, y=np.array(["a", "b", "c"]))
    assert read_true_label(tmp_path / "a.npz", 1, 3, ["7"]) == "b"
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole.replace(b"PK\x01\x02", b"PK\x01\x03"))
    with pytest.raises(DataError, match="not a readable archive of arrays"):
        read_true_label(tmp_path / "a.npz", 0, 3, ["7"])


def test_the_folder_of_an_image(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    assert read_true_label(tmp_path / "cat" / "a.png", 0, 1, ["cat", "dog"]) == "cat"
    assert read_true_label(tmp_path / "cat" / "a.png", 0, 1, ["dog"]) is None


@pytest.mark.parametrize(("steps", "expected"), [(6, r"\(\.npy, \.npz or IDX\), or an image$"), (None, r"IDX\)$")])
def test_a_table_is_no_image(tmp_path: Path, steps: int | None, expected: str) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match=rf"a\.csv: a table; expected arrays .*{expected}"):
        read_sequence_file(tmp_path / "a.csv", steps, 4)
