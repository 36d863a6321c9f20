"""Splitting one data set: every row once, labels in proportion, groups whole, by seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewise.data.splitting import sizes_of, split_rows
from gatewise.errors import DataError


@given(count=st.integers(3, 200), data=st.data())
def test_every_row_is_in_one_split(count: int, data: st.DataObject) -> None:
    test = data.draw(st.integers(1, count - 2))
    valid, seed = data.draw(st.integers(1, count - test - 1)), data.draw(st.integers(0, 3))
    labels = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    for given_labels in (None, labels):
        rows = split_rows(count, valid, test, seed, "a", labels=given_labels)
        assert [len(rows[split]) for split in ("train", "valid", "test")] == [count - valid - test, valid, test]
        assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(count))
        assert all((np.diff(part) > 0).all() for part in rows.values())


def test_each_label_keeps_its_share() -> None:
    labels = ["a"] * 700 + ["b"] * 200 + ["c"] * 100 + ["d"]
    rows = split_rows(len(labels), 100, 100, 1, "a", labels=labels)
    for split, wanted in (("train", (560, 160, 80)), ("valid", (70, 20, 10)), ("test", (70, 20, 10))):
        found = [labels[row] for row in rows[split]]
        assert all(abs(found.count(label) - number) <= 1 for label, number in zip("abc", wanted, strict=True))
    assert 1000 in rows["train"], "the only example of a label is one to learn from"


def test_seeds() -> None:
    first, again, other = (split_rows(100, 10, 10, seed, "a")["test"].tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert split_rows(100, 10, 20, 0, "a")["test"].tolist() == list(range(80, 100))
    assert split_rows(100, 10, 20, 0, "a")["valid"].tolist() == list(range(70, 80))


def test_groups_stay_whole() -> None:
    groups = [f"user{k % 7}" for k in range(100)]
    rows = split_rows(100, 20, 20, 1, "a", groups=groups)
    seen = [{groups[row] for row in part} for part in rows.values()]
    assert sum(map(len, seen)) == 7 and all(15 <= len(rows[split]) <= 35 for split in ("valid", "test"))
    from_the_end = split_rows(6, 2, 2, 0, "a", groups=list("aabbcc"))
    assert {split: part.tolist() for split, part in from_the_end.items()} == {
        "train": [0, 1],
        "valid": [2, 3],
        "test": [4, 5],
    }
    with pytest.raises(DataError, match="a: 2 groups, which leave a split empty; expected more groups"):
        split_rows(4, 1, 1, 1, "a", groups=list("xxyy"))


def test_sizes() -> None:
    assert sizes_of(100, 0, 0, "a") == (10, 10)
    assert sizes_of(5, 0, 0, "a") == (1, 1)
    assert sizes_of(100, 7, 0, "a", ("valid",)) == (7, 0)
    with pytest.raises(DataError, match=r"a: data\.valid_size is 2, of 2 examples; expected fewer"):
        sizes_of(2, 2, 0, "a")
    with pytest.raises(DataError, match=r"a: data\.valid_size is 1 and data\.test_size is 4, of 5 texts"):
        sizes_of(5, 1, 4, "a", unit="text")


@pytest.mark.parametrize(
    ("count", "needed", "message"),
    [
        (2, ("valid", "test"), "a: 2 lines (one each); expected at least 3, one for each of train, valid and test"),
        (1, ("test",), "a: 1 line (one each); expected at least 2, one for each of train and test"),
    ],
)
def test_settings_that_nobody_made_are_not_mentioned(count: int, needed: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError) as caught:
        sizes_of(count, 0, 0, "a", needed, unit="line", hint="one each")
    assert str(caught.value) == message
