"""Tables as people have them: separators, headers, JSON and Parquet."""

from pathlib import Path

import pytest

from gatewise.data.table import open_table, text_of
from gatewise.errors import DataError


def write(folder: Path, raw: str | bytes, name: str = "a.csv") -> Path:
    (folder / name).write_bytes(raw.encode() if isinstance(raw, str) else raw)
    return folder / name


@pytest.mark.parametrize(
    ("raw", "name", "names", "rows"),
    [
        ("a,b\n1,2\n", "a.csv", ["a", "b"], [["1", "2"]]),
        ("\ufeffa;b\r\n1,5;2\r\n", "a.csv", ["a", "b"], [["1,5", "2"]]),
        ("a|b\nx, y|2\nz|3\n", "a.csv", ["a", "b"], [["x, y", "2"], ["z", "3"]]),
        ("a\tb\nx, y\t2\n", "a.tsv", ["a", "b"], [["x, y", "2"]]),
        ("a\tb\nx, y\t2\n", "a.csv", ["a", "b"], [["x, y", "2"]]),
        ("t   x\n1   2.5\n2  3\n", "a.txt", ["t", "x"], [["1", "2.5"], ["2", "3"]]),
        ("text\nthe dog ate\na cat slept\n", "a.csv", ["text"], [["the dog ate"], ["a cat slept"]]),
        ('a,b\n"x\ny","say ""hi"""\n', "a.csv", ["a", "b"], [["x\ny", 'say "hi"']]),
        (",a\n0,x\n1,y\n", "a.csv", ["column1", "a"], [["0", "x"], ["1", "y"]]),
        ("a,b\n\n , \n1,2\n", "a.csv", ["a", "b"], [[" ", " "], ["1", "2"]]),
        ("1,2\n3,4\n5,6\n", "a.csv", ["column1", "column2"], [["1", "2"], ["3", "4"], ["5", "6"]]),
        ("5\n11\n16\n", "a.csv", ["column1"], [["5"], ["11"], ["16"]]),
        ("2024-01-01,5\n2024-01-02,6\n", "a.csv", ["column1", "column2"], [["2024-01-01", "5"], ["2024-01-02", "6"]]),
        ("city,2023,2024\nBonn,1,2\nKyiv,3,4\n", "a.csv", None, None),
        ("love it,good\nhate it,bad\n", "a.csv", ["love it", "good"], [["hate it", "bad"]]),
        ("oh,good\nno,bad\n", "a.csv", ["oh", "good"], [["no", "bad"]]),
        ("text,a\nx,a\ny,b\nz,a\n", "a.csv", ["text", "a"], [["x", "a"], ["y", "b"], ["z", "a"]]),
        ("what,who\nx,a\ny,b\nz,a\n", "a.csv", ["what", "who"], [["x", "a"], ["y", "b"], ["z", "a"]]),
        ("x,1\ny,a\nz,1\n", "a.csv", ["x", "1"], [["y", "a"], ["z", "1"]]),
        ("ok\nno\nok\nno\n", "a.csv", ["ok"], [["no"], ["ok"], ["no"]]),
    ],
)
def test_separators_and_headers(
    tmp_path: Path, raw: str, name: str, names: list[str] | None, rows: list[list[str]] | None
) -> None:
    table = open_table(write(tmp_path, raw, name))
    if names is None:  # years as names of columns look like data: a note says so
        assert any("no header row" in note for note in table.notes)
        return
    assert table.names == names
    assert [row for _, row in table.rows()] == rows
    assert bool(table.notes) == (";" in raw or "|" in raw or name == "a.txt" or names[-1].startswith("column"))


def test_a_first_row_with_one_of_the_labels_is_no_header(tmp_path: Path) -> None:
    table = open_table(write(tmp_path, "love it,good\nhate it,bad\nawful,bad\nfine,good\n"))
    assert table.notes == [f"{tmp_path / 'a.csv'}: no header row; the columns are named column1, column2"]
    assert next(row for _, row in table.rows()) == ["love it", "good"]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    table = open_table(write(tmp_path, 'a,b\n\n"x\n\ny",1\nz,2\n'))
    assert [line for line, _ in table.rows()] == [3, 6]
    assert [line for line, _ in open_table(write(tmp_path, "1,2\n\n3,4\n")).rows()] == [1, 3]


def test_a_field_has_any_length(tmp_path: Path) -> None:
    long = "x" * 1_000_000
    assert [row for _, row in open_table(write(tmp_path, f"a,b\n{long},1\n")).rows()] == [[long, "1"]]


@pytest.mark.parametrize(
    ("raw", "name", "message"),
    [
        ("", "a.csv", r"a\.csv: the file is empty"),
        ("\n \n", "a.csv", r"a\.csv: the file is empty"),
        ("a,b,a\n1,2,3\n", "a.csv", r"a\.csv:1: 2 columns named 'a'; expected different names"),
        ("a,b\n1,2\n3,4,5\n", "a.csv", r"a\.csv:3: 3 fields in this row, expected 2 as in the header"),
        ("1;2\n3;4\n5;6;7\n", "a.csv", r"a\.csv:3: 3 fields in this row, expected 2 as in the first row"),
        ('a,b\n"1,2\n', "a.csv", r"a\.csv:2: invalid CSV"),
        ("", "a.jsonl", r"a\.jsonl: the file is empty"),
        ("[1]\n", "a.jsonl", r"a\.jsonl:1: \[1\] is not a JSON object"),
    ],
)
def test_bad_tables(tmp_path: Path, raw: str, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(open_table(write(tmp_path, raw, name)).rows())


def test_json_lines(tmp_path: Path) -> None:
    table = open_table(write(tmp_path, '{"a": 1, "b": "x"}\n\n{"b": null, "c": 2}\n', "a.jsonl"))
    assert table.names == ["a", "b"] and list(table.rows()) == [(1, [1, "x"]), (3, [None, None])]


def test_parquet(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    import datetime

    day = datetime.date(2024, 1, 31)
    parquet.write_table(arrow.table({"a": [1, 2], "b": ["x", None], "c": [day, day]}), tmp_path / "a.parquet")
    table = open_table(tmp_path / "a.parquet")
    assert table.names == ["a", "b", "c"]
    assert list(table.rows()) == [(1, [1, "x", "2024-01-31"]), (2, [2, None, "2024-01-31"])]
    whole = (tmp_path / "a.parquet").read_bytes()
    for damaged in (b"", whole[:50], b"PAR1" + b"\xff" * 60 + b"PAR1"):
        with pytest.raises(DataError, match=r"b\.parquet: not a readable Parquet file"):
            open_table(write(tmp_path, damaged, "b.parquet"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("x", "x"),
        (1, "1"),
        (1.0, "1"),
        (1.5, "1.5"),
        (True, "True"),
        (False, "False"),
        ([1], None),
        (1e300, str(int(1e300))),
    ],
)
def test_fields_as_text(value: object, text: str | None) -> None:
    assert text_of(value) == text
