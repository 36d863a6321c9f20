"""Numbers over time from CSV, their windows, and what is wrong with a file in one line."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from gatewise.data.series import load_sunspots, read_series, windows
from gatewise.errors import DataError

CSV = "day,sun,wind\nMonday,1.5,-2\n\nTuesday, 2e3 ,4\n"


def write(folder: Path, raw: str | bytes) -> Path:
    (folder / "a.csv").write_bytes(raw.encode() if isinstance(raw, str) else raw)
    return folder / "a.csv"


def test_all_numeric_columns(tmp_path: Path) -> None:
    series = read_series(write(tmp_path, CSV))
    assert series.columns == ["sun", "wind"]
    assert series.values.dtype == np.float64
    assert series.values.tolist() == [[1.5, -2], [2000, 4]]
    assert series.data_hash == hashlib.sha256(CSV.encode()).hexdigest()


def test_columns_in_the_order_they_are_named(tmp_path: Path) -> None:
    series = read_series(write(tmp_path, CSV), ["wind", "sun"])
    assert (series.columns, series.values.tolist()) == (["wind", "sun"], [[-2, 1.5], [4, 2000]])


@pytest.mark.parametrize(
    ("raw", "columns", "message"),
    [
        (
            CSV,
            ["rain"],
            r"a\.csv:1: no column 'rain'; found 'day', 'sun', 'wind'; select one with .*'data\.columns'",
        ),
        (CSV, ["day"], r"a\.csv:2: 'Monday' in column 'day'; expected a number"),
        ("sun\n1\n\nn/a\n", [], r"a\.csv:4: 'n/a' in column 'sun'; expected a number"),
        ("sun\n1\nnan\n", [], r"a\.csv:3: nan in column 'sun'; expected a finite number"),
        ("sun\nNaN\n1\n", [], r"a\.csv:2: NaN in column 'sun'; expected a finite number"),
        ("sun\n1\n-inf\n", [], r"a\.csv:3: -inf in column 'sun'"),
        ("sun\n1\n1e999\n", [], r"a\.csv:3: 1e999 in column 'sun'"),
        ("sun,wind\n1,2\n3,\n", [], r"a\.csv:3: an empty field in column 'wind'"),
        ("sun,wind\n,2\n", [], r"a\.csv:2: an empty field in column 'sun'"),
        ('sun\n1\n"1,234"\n', [], r"a\.csv:3: '1,234' in column 'sun' may be 1.234 or 1234; expected"),
        ('sun\n1.5\n"1,5"\n', [], r"a\.csv:3: '1,5' in column 'sun'"),
        ("sun\n1\n1_000\n", [], r"a\.csv:3: '1_000' in column 'sun'"),
        ("day\nMonday\n", [], r"a\.csv:2: no numbers in this row"),
        ("sun\n", [], r"a\.csv: no rows below the header"),
        ("", [], r"a\.csv: the file is empty"),
        ("sun,wind\n1\n", [], r"a\.csv:2: 1 fields in this row, expected 2"),
        (b"sun\n1\n\xff\n", [], r"a\.csv:3: byte 0xff is not valid UTF-8"),
    ],
)
def test_bad_files(tmp_path: Path, raw: str | bytes, columns: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_series(write(tmp_path, raw), columns)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: cannot read it"):
        read_series(tmp_path / "none.csv")


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("window", [1, 4])
def test_windows(window: int, horizon: int) -> None:
    """Each forecast reads what stands just before the horizon; the last one answers the last value."""
    values = np.arange(10) ** 2
    inputs, targets = windows(values, window, horizon)
    for row, target in zip(inputs, targets, strict=True):
        assert row.tolist() == list(range(target - horizon - window + 1, target - horizon + 1))
    assert (inputs[0, 0], targets[-1]) == (0, 9)
    assert values[inputs].shape == (10 - window - horizon + 1, window)


def test_a_series_that_is_too_short() -> None:
    assert windows(np.zeros(7), 4, 3)[1].tolist() == [6]
    with pytest.raises(
        DataError, match=r"sun\.csv: 6 values are too few for a window of 4 and a horizon of 3; .*least 7"
    ):
        windows(np.zeros(6), 4, 3, "sun.csv")


def test_sunspots() -> None:
    """309 years, 1700 to 2008, with the first years and the great maximum of 1957 as published."""
    pytest.importorskip("statsmodels")
    series = load_sunspots()
    assert (series.columns, series.values.shape) == (["SUNACTIVITY"], (309, 1))
    assert series.values[:3, 0].tolist() == [5, 11, 16]
    assert 1700 + int(series.values.argmax()) == 1957
    assert series.position(1) == "2009"
    assert series.values.max() == pytest.approx(190.2)


def test_a_first_column_that_counts_the_rows_is_no_number_to_learn(tmp_path: Path) -> None:
    series = read_series(write(tmp_path, "year,sun\n1700,5\n1702,11\n1704,16\n"))
    assert (series.columns, series.values.tolist()) == (["sun"], [[5], [11], [16]])
    assert [series.position(k) for k in (1, 3)] == ["1706", "1710"]
    named = read_series(write(tmp_path, "year,sun\n1.5,5\n1.25,11\n1,16\n"), ["sun"])
    assert (named.columns, named.position(1)) == (["sun"], "0.75")


def test_positions_of_a_large_index_keep_their_digits(tmp_path: Path) -> None:
    rows = "".join(f"{1764144000000 + 60000 * k},{k}\n" for k in range(3))
    assert read_series(write(tmp_path, f"ms,sun\n{rows}")).position(1) == "1764144180000"
    rows = "".join(f"{1e8 + k / 10!r},{k}\n" for k in range(3))
    assert read_series(write(tmp_path, f"s,sun\n{rows}")).position(2) == "100000000.4"


@pytest.mark.parametrize(
    ("raw", "columns", "kept"),
    [
        ("year,sun\n1700,5\n1702,11\n1704,16\n", ["sun", "year"], ["sun", "year"]),
        ("year\n1700\n1702\n1704\n", [], ["year"]),
        ("a,b\n1,5\n2,11\n4,16\n", [], ["a", "b"]),
        ("a,b\n1,5\n1,11\n1,16\n", [], ["a", "b"]),
        ("a,b\n1,5\n2,11\n", [], ["a", "b"]),
        ("a,b\nMay,5\nJune,11\nJuly,16\n", ["b"], ["b"]),
        ("a,b\n1e-23,5\n3e-23,11\n2e-23,16\n", [], ["a", "b"]),
        ("a,b\n-1e308,5\n1e308,11\n-1e308,16\n", [], ["a", "b"]),
    ],
)
def test_what_is_no_index(tmp_path: Path, raw: str, columns: list[str], kept: list[str]) -> None:
    """A column that is asked for, stands alone, has uneven or no steps, or is too short to tell; text; any size."""
    series = read_series(write(tmp_path, raw), columns)
    assert (series.columns, series.position(2)) == (kept, "+2")
