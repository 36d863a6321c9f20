"""Which column holds the texts, and which their labels."""

import json
from pathlib import Path

import pytest

from gatewise.config import DataConfig
from gatewise.data.columns import AUTO, choose
from gatewise.data.labelled import read_labelled
from gatewise.data.table import open_table
from gatewise.errors import DataError


def chosen(folder: Path, raw: str, text: str = AUTO, label: str = AUTO) -> tuple[str, str]:
    (folder / "a.csv").write_text(raw)
    table = open_table(folder / "a.csv")
    return choose(table, [row for _, row in table.rows()], text, label)[:2]


def rows(*columns: tuple[str, ...]) -> str:
    return "".join(",".join(row) + "\n" for row in zip(*columns, strict=True))


SENTENCES = ("the dog ate it all", "a cat slept there", "he read that book", "who knows the way")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (rows(("Review", *SENTENCES), ("Stars", "5", "1", "5", "1"), ("id", "1", "2", "3", "4")), ("Review", "Stars")),
        (rows(("内容", *SENTENCES), ("标签", "好", "坏", "好", "坏")), ("内容", "标签")),
        (rows(("utterance", *SENTENCES), ("kind", "a", "b", "a", "b")), ("utterance", "kind")),
        (rows(("who", "1", "2", "3", "4"), ("said", *SENTENCES), ("mood", "x", "x", "y", "y")), ("said", "mood")),
    ],
)
def test_by_name_and_by_content(tmp_path: Path, raw: str, expected: tuple[str, str]) -> None:
    assert chosen(tmp_path, raw) == expected


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_truth_values_are_labels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "jsonl":
        lines = (json.dumps({"said": text, "spam": k % 2 == 0}) for k, text in enumerate(SENTENCES))
        path.write_text("\n".join(lines))
    else:
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.table({"said": list(SENTENCES), "spam": [True, False] * 2}), path)
    found = read_labelled(path, DataConfig(column=AUTO, label_column=AUTO))
    assert found.chosen["label_column"] == "spam"
    assert [text.label for text in found.texts] == ["True", "False", "True", "False"]


def test_what_is_named_is_taken(tmp_path: Path) -> None:
    raw = rows(("text", *SENTENCES), ("label", "a", "b", "a", "b"), ("topic", "x", "x", "y", "y"))
    assert chosen(tmp_path, raw, label="topic") == ("text", "topic")
    with pytest.raises(DataError, match=r"a\.csv:1: no column 'mood'; .*'data\.label_column'"):
        chosen(tmp_path, raw, label="mood")
    with pytest.raises(DataError, match=r"; did you mean 'topic'\?$"):
        chosen(tmp_path, raw, label="topics")
    with pytest.raises(DataError, match="'text' is both text and label"):
        chosen(tmp_path, raw, label="text", text="text")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            rows(("said", *SENTENCES), ("x", "a", "b", "a", "b"), ("y", "c", "c", "d", "d")),
            r"a\.csv:1: the label may be in any of the columns 'x', 'y'; name it with .*'data\.label_column'",
        ),
        (
            rows(("one", *SENTENCES), ("two", *SENTENCES[::-1]), ("label", "a", "b", "a", "b")),
            r"a\.csv:1: the text may be in any of the columns 'one', 'two'; name it with .*'data\.column'",
        ),
    ],
)
def test_several_candidates(tmp_path: Path, raw: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        chosen(tmp_path, raw)
