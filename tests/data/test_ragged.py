"""Sequences of different lengths: the layouts they are saved in, and what is wrong with one in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.data.arrays import Sequences, find_sequences, read_array_file, read_npz
from gatewise.data.ragged import pad
from gatewise.errors import DataError
from tests.data.test_arrays import npz

LENGTHS = [2, 5, 1, 3]
ALONE = [np.arange(10 * n, 10 * n + 3 * n, dtype=np.float32).reshape(n, 3) + k for k, n in enumerate(LENGTHS)]
Y = np.array([0, 1, 0, 1])


def in_layout(layout: str, width: int = 3) -> dict[str, Any]:
    """Return x and lengths as people save them, with garbage after the end of padded sequences."""
    alone = [one[:, :width] for one in ALONE]
    if layout == "one after the other":
        x = np.concatenate(alone)
    else:
        x = np.full((4, 7, width), np.nan, np.float32)
        for row, one in zip(x, alone, strict=True):
            row[: len(one)] = one
    return {"x": x[..., 0] if width == 1 else x, "lengths": np.array(LENGTHS, np.int32)}


@pytest.mark.parametrize("layout", ["one after the other", "padded"])
@pytest.mark.parametrize("width", [1, 3])
def test_every_layout_gives_the_same_sequences(tmp_path: Path, layout: str, width: int) -> None:
    data = read_npz(npz(tmp_path / "a.npz", **in_layout(layout, width), y=Y))
    assert (data.x.shape, data.size) == ((4, 5, width), f"1 to 5 × {width}")
    for row, one in enumerate(ALONE):
        x, y, lengths = data.batch(np.array([row]))
        np.testing.assert_array_equal(x, one[None, :, :width])
        assert lengths is not None and (lengths.tolist(), y.tolist()) == ([LENGTHS[row]], [Y[row]])
    np.testing.assert_array_equal(data.steps, np.concatenate(ALONE)[:, :width])
    x, _, lengths = data.batch(np.array([1, 2]))
    assert x.shape == (2, 5, width) and not x[1, 1:].any()
    again = read_array_file(tmp_path / "a.npz", None, width)
    assert again.lengths is not None and again.lengths.tolist() == LENGTHS
    np.testing.assert_array_equal(again.x, data.x)


def test_the_hash_depends_on_the_lengths_and_not_on_the_padding(tmp_path: Path) -> None:
    hashes = [read_npz(npz(tmp_path / f"{k}.npz", **in_layout(k), y=Y)).data_hash for k in ("padded", "one after")]
    assert hashes[0] == hashes[1]
    zeros = Sequences(np.zeros((2, 3, 1)), np.zeros(2), lengths=np.array([2, 3]))
    assert zeros.data_hash != Sequences(np.zeros((2, 3, 1)), np.zeros(2), lengths=np.array([3, 3])).data_hash


def test_equal_lengths_are_no_lengths(tmp_path: Path) -> None:
    x = np.arange(24.0).reshape(4, 3, 2)
    ragged = read_npz(npz(tmp_path / "a.npz", x=x.reshape(12, 2), y=Y, lengths=[3] * 4))
    assert ragged.lengths is None and ragged.data_hash == read_npz(npz(tmp_path / "b.npz", x=x, y=Y)).data_hash


def test_one_number_per_step_and_text_labels(tmp_path: Path) -> None:
    data = read_npz(
        npz(tmp_path / "a.npz", x=np.arange(12.0).reshape(4, 3), y=["up", "down", "up", "é"], t=np.zeros(1))
    )
    assert (data.x.shape, data.y.tolist()) == ((4, 3, 1), ["up", "down", "up", "é"])
    assert [note.partition(": ")[2] for note in data.notes] == [
        "arrays not used: 't'",
        "x has shape (4, 3), read as 3 steps of one number",
    ]


def test_parts_with_and_without_lengths(tmp_path: Path) -> None:
    npz(tmp_path / "a.train.npz", **in_layout("padded"), y=Y)
    npz(tmp_path / "a.valid.npz", x=np.ones((2, 4, 3)), y=[0, 1])
    npz(tmp_path / "a.test.npz", x=np.ones((2, 9, 3)), y=[0, 1])
    parts = find_sequences(tmp_path, 0, 0)
    assert {split: list(part.lengths) for split, part in parts.items() if part.lengths is not None} == {
        "train": LENGTHS,
        "valid": [4, 4],
        "test": [9, 9],
    }
    npz(tmp_path / "a.test.npz", x=np.ones((2, 9, 2)), y=[0, 1])
    with pytest.raises(DataError, match=r"the numbers per step of x differ between test \(2\) and train \(3\)"):
        find_sequences(tmp_path, 0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"lengths": [2, 5, 1]},
            r"a\.npz: x has shape \(11, 3\), which does not fit 3 lengths of up to 5 steps, 8 in all",
        ),
        ({"lengths": [2, 5, 0, 4]}, r"a\.npz: lengths\[2\] is 0; expected at least one step"),
        ({"lengths": [2, 5, -1, 5]}, r"a\.npz: lengths\[2\] is -1; expected at least one step"),
        (
            {"lengths": [2, 5, 2**40, 5]},
            r"a\.npz: lengths\[2\] is 1099511627776; expected at least one step, and fewer",
        ),
        ({"lengths": [2.0, 5.0, 1.0, 3.0]}, r"lengths has shape \(4,\) and type float64; expected the number of steps"),
        ({"lengths": 11}, r"lengths has shape \(\) and type int64; expected the number of steps of each sequence"),
        ({"lengths": np.zeros(0, int)}, r"lengths has shape \(0,\) and type int64; expected the number of steps"),
        ({"y": Y[:3]}, r"a\.npz: 3 labels for the 4 sequences; expected one per sequence"),
        ({"x": np.full((11, 3), np.inf)}, r"a\.npz: x\[0, 0, 0\] is inf; expected finite numbers"),
        (
            {"x": np.zeros((4, 4, 3))},
            r"x has shape \(4, 4, 3\), which does not fit 4 lengths of up to 5 steps, 11 in all",
        ),
        ({"x": np.zeros((4, 5, 0))}, r"x has shape \(4, 5, 0\); expected \(N, T, I\) without a dimension of size 0"),
        ({"x": np.zeros((2, 2, 2, 2))}, r"x has shape \(2, 2, 2, 2\), which does not fit 4 lengths"),
    ],
)
def test_bad_lengths(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = npz(tmp_path / "a.npz", **{**in_layout("one after the other"), "y": Y, **change})
    with pytest.raises(DataError, match=message) as caught:
        read_npz(path)
    assert "\n" not in str(caught.value)


def test_padding_that_does_not_fit_in_memory_is_refused(tmp_path: Path) -> None:
    """One long sequence among many short ones: 40 KB would become 400 TB."""
    lengths = np.array([10_000] + [1] * 10_000_000)
    path = npz(tmp_path / "a.npz", x=np.zeros(int(lengths.sum()), np.uint8), y=np.zeros(len(lengths)), lengths=lengths)
    with pytest.raises(DataError, match=r"a\.npz: .*GiB of memory, but only"):
        read_npz(path)


def test_a_list_is_padded() -> None:
    x, lengths = pad(ALONE, "x")
    assert (x.shape, lengths.tolist()) == ((4, 5, 3), LENGTHS)
    for bad, message in [
        ([], "x is an empty list"),
        ([ALONE[0], np.zeros(3)], r"x\[1\] has shape \(3,\); expected sequences of shape \(T, I\)"),
        ([ALONE[0], np.zeros((0, 3))], r"x\[1\] has shape \(0, 3\)"),
        ([ALONE[0], ALONE[1], np.zeros((2, 4))], r"x\[2\] has 4 numbers per step, x\[0\] has 3; expected equally many"),
    ]:
        with pytest.raises(DataError, match=message):
            pad(bad, "x")
