"""Numbers over time from CSV, their dates and gaps, and what is wrong with a file in one line."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from gatewise.data.series import load_sunspots, read_series
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
        ("sun\n1\n\nlow\n", [], r"a\.csv:4: 'low' in column 'sun'; expected a number"),
        (
            "sun\n1\nnan\n",
            [],
            r"a\.csv:3: no value in column 'sun', the first of 1; fill it in, or set data.fill to",
        ),
        ("sun\nNaN\n1\n", [], r"a\.csv:2: no value in column 'sun', the first of 1; fill it in"),
        ("sun\n1\n-inf\n", [], r"a\.csv:3: -inf in column 'sun'"),
        ("sun\n1\n1e999\n", [], r"a\.csv:3: 1e999 in column 'sun'"),
        ("sun,wind\n1,2\n3,\n", [], r"a\.csv:3: no value in column 'wind'"),
        ("sun,wind\n1,3\n,2\n,\n", [], r"a\.csv:3: no value in column 'sun', the first of 1"),
        ("sun,wind\n,2\n", ["sun"], r"a\.csv:2: no value in column 'sun' from here on"),
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


@pytest.mark.parametrize(
    ("header", "times", "after"),
    [
        ("year,", ["1990", "1991", "1993", "1994"], "1995"),
        (",", ["0", "1", "3", "4"], "5"),
        ("t,", ["1700003600", "1700007200", "1700014400", "1700018000"], "1700021600"),
        ("t,", ["9", "8", "6", "5"], "4"),
        ("t,", ["199010", "199011", "199101", "199102"], "199103"),
        ("t,", ["20240228", "20240229", "20240302", "20240303"], "20240304"),
        ("Year,Month,", ["1990,10", "1990,11", "1991,1", "1991,2"], "1991-03"),
        ("year,month,", ["1990,Oct", "1990,Nov", "1991,Jan", "1991,Feb"], "Mar 1991"),
        ("no,year,month,day,", ["1,2024,2,28", "2,2024,2,29", "4,2024,3,2", "5,2024,3,3"], "2024-03-04"),
        ("year,quarter,", ["2024,1", "2024,2", "2024,4", "2025,1"], "2025-Q2"),
        ("year,week,", ["2020,51", "2020,52", "2021,1", "2021,2"], "2021-W03"),
        ("year,month,day,hour,", ["2024,2,29,20", "2024,2,29,21", "2024,2,29,23", "2024,3,1,0"], "2024-03-01 01"),
    ],
)
def test_numbers_that_are_times_are_no_data_and_have_gaps(
    tmp_path: Path, header: str, times: list[str], after: str
) -> None:
    raw = f"{header}sun\n" + "".join(f"{time},{value}\n" for time, value in zip(times, (5, 7, 4, 6), strict=True))
    with pytest.raises(DataError, match=r"a\.csv:4: 1 step missing, the first before this row"):
        read_series(write(tmp_path, raw))
    series = read_series(write(tmp_path, raw), fill="linear")
    assert (series.columns, series.values[:, 0].tolist(), series.left_out) == (["sun"], [5, 7, 5.5, 4, 6], [])
    assert series.position(1) == after
    assert read_series(write(tmp_path, raw), ["sun"], fill="linear").position(1) == after


def test_numbers_like_times_in_unequal_steps_are_forecast_only_if_they_are_named(tmp_path: Path) -> None:
    raw = "timestamp,sun\n1700000000,5\n1700000007,11\n1700000011,16\n"
    with pytest.raises(DataError, match=r"a\.csv:2: .* first column, 'timestamp', ascend like times, but in unequal"):
        read_series(write(tmp_path, raw))
    assert read_series(write(tmp_path, raw), target="sun").columns == ["timestamp", "sun"]
    assert read_series(write(tmp_path, "visits,sun\n1,5\n8,11\n12,16\n")).columns == ["visits", "sun"]
    with pytest.raises(DataError, match=r"a\.csv:2: '1990-13' in the columns 'year', 'month' .* are no dates"):
        read_series(write(tmp_path, "year,month,sun\n1990,13,5\n1990,14,5\n1990,15,5\n"))
    with pytest.raises(DataError, match=r"a\.csv:5: 7 steps of the index 'n' are missing in all, more than the 4"):
        read_series(write(tmp_path, "n,sun\n1,5\n2,11\n3,16\n11,1\n"), fill="linear")
    named = read_series(write(tmp_path, "year,sun\n1990,5\n1991,7\n1993,9\n1994,4\n"), target="year")
    assert (named.columns, len(named.values)) == (["year", "sun"], 4)


@pytest.mark.parametrize(
    ("column", "times", "refused"),
    [
        ("t", ["2024-1-1 at 1", "2024-1-1 at 2", "2024-1-1 at 3"], True),
        ("t", ["first of Jan 1990", "first of Feb 1990", "first of Mar 1990"], True),
        ("Date", ["d1", "d2", "d3"], True),
        ("name", ["d1", "d2", "d3"], False),
        ("address", ["10.0.0.1", "10.0.0.2", "10.0.0.3"], False),
        ("t", ["2024-1-1 at 1", "2024-1-1 at 1", "2024-1-1 at 3"], False),
        ("Date", ["Monday", "Tuesday", "Friday"], False),
    ],
)
def test_times_that_cannot_be_read_are_not_lost_in_silence(
    tmp_path: Path, column: str, times: list[str], refused: bool
) -> None:
    path = write(
        tmp_path, f"sun,{column}\n" + "".join(f"{k},{time}\n" for k, time in zip((5, 7, 4), times, strict=True))
    )
    if refused:
        with pytest.raises(DataError, match=rf"a\.csv:2: '{times[0]}' in column '{column}' looks like a time that"):
            read_series(path)
    else:
        assert read_series(path).left_out == [column]


HOURS = "time;sun\n01.01.2024 00:00;1\n01.01.2024 01:00;2\n01.01.2024 05:00;6\n01.01.2024 06:00;3\n01.01.2024 07:00;4\n"


def test_missing_steps_are_found_and_filled_and_remembered(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_series(write(tmp_path, HOURS))
    assert str(caught.value).endswith(
        'a.csv:4: 3 steps missing, the first before this row; add the rows, or set data.fill to "linear" or "previous"'
    )
    for fill, between in (("linear", [3, 4, 5]), ("previous", [2, 2, 2])):
        series = read_series(write(tmp_path, HOURS), fill=fill)
        assert series.values[:, 0].tolist() == [1, 2, *between, 6, 3, 4]
        assert series.missing[:, 0].tolist() == [False] * 2 + [True] * 3 + [False] * 3
        assert series.notes[-1].split("a.csv:")[1].startswith("4: the first of 3 steps missing, filled ")
        assert (series.position(0), series.position(1)) == ("01.01.2024 07:00", "01.01.2024 08:00")


def test_empty_fields_between_values_are_filled_in_each_column(tmp_path: Path) -> None:
    raw = "sun,wind\n1,10\n,\nNaN,40\n7,40\n"
    series = read_series(write(tmp_path, raw), fill="linear")
    assert series.values.tolist() == [[1, 10], [3, 25], [5, 40], [7, 40]]
    assert series.missing.tolist() == [[False, False], [True, True], [True, False], [False, False]]
    assert "a.csv:3: the first of 3 values missing, filled by straight lines" in series.notes[-1]
    assert read_series(write(tmp_path, raw), fill="previous").values[:, 0].tolist() == [1, 1, 1, 7]


@pytest.mark.parametrize("mark", ["", "NA", "n/a", "#N/A", "NULL", "None", "NaN", "-", ".", "?"])
def test_marks_of_missing_values_and_an_empty_last_row(tmp_path: Path, mark: str) -> None:
    raw = f'day,sun\n2024-01-01,"1,5"\n2024-01-02,{mark}\n2024-01-03,"2,5"\n,\n , \n'
    assert read_series(write(tmp_path, raw), fill="linear").values[:, 0].tolist() == [1.5, 2, 2.5]
    with pytest.raises(DataError, match=r"a\.csv:3: no value in column 'sun', the first of 1; .* data\.fill to"):
        read_series(write(tmp_path, raw))


def test_nothing_is_invented_before_the_first_and_after_the_last_value_of_the_target(tmp_path: Path) -> None:
    raw = "day,sun,wind\n2024-01-01,,1\n2024-01-02,5,1\n2024-01-04,7,2\n2024-01-05,8,\n2024-01-06,9,4\n2024-01-07,,5\n"
    series = read_series(write(tmp_path, raw), fill="linear")
    assert series.values.tolist() == [[5, 1], [6, 1.5], [7, 2], [8, 3], [9, 4]]
    assert series.position(1) == "2024-01-07"
    assert [note.partition("a.csv:")[2] for note in series.notes[:2]] == [
        "2: 1 rows before the first complete one are left out",
        "7: 1 rows after the last value of 'sun' are left out",
    ]
    assert series.future.shape == (0, 2)


def test_a_column_that_ends_before_the_target_is_not_drawn_on_by_a_line(tmp_path: Path) -> None:
    raw = "sun,wind\n1,10\n2,20\n2,\n5,\n"
    with pytest.raises(
        DataError, match=r"a\.csv:4: no value in column 'wind' from this row .* data.fill to \"previous\""
    ):
        read_series(write(tmp_path, raw), fill="linear")
    assert read_series(write(tmp_path, raw), fill="previous").values[:, 1].tolist() == [10, 20, 20, 20]


def test_a_line_leads_to_what_is_known_in_advance(tmp_path: Path) -> None:
    raw = "day,sun,price\n2024-01-01,1,10\n2024-01-02,2,\n2024-01-03,3,\n2024-01-04,,\n2024-01-05,,50\n"
    series = read_series(write(tmp_path, raw), target="sun", known=["price"], fill="linear")
    assert series.values.tolist() == [[1, 10], [2, 20], [3, 30]]
    assert series.missing.tolist() == [[False, False], [False, True], [False, True]]
    assert np.array_equal(series.future, [[np.nan, np.nan], [np.nan, 50]], equal_nan=True)
    with pytest.raises(
        DataError, match=r"a\.csv:3: no value in column 'price' from this row to the last value of 'sun'"
    ):
        read_series(write(tmp_path, raw), target="sun", fill="linear")


def test_columns_known_in_advance_go_on_after_the_target(tmp_path: Path) -> None:
    raw = "day,sun,holiday\n2024-01-01,1,0\n2024-01-02,2,1\n2024-01-03,3,0\n2024-01-04,,1\n2024-01-06,,1\n"
    series = read_series(write(tmp_path, raw), target="sun", known=["holiday"])
    assert series.values.tolist() == [[1, 0], [2, 1], [3, 0]]
    assert np.array_equal(series.future, [[np.nan, 1], [np.nan, np.nan], [np.nan, 1]], equal_nan=True)
    with pytest.raises(DataError, match=r"a\.csv:1: no column 'tides'; .*data\.known"):
        read_series(write(tmp_path, raw), known=["tides"])


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["01 00:00", "01 02:00", "01 01:00"], r"a\.csv:4: '2024-01-01 01:00' in column 't' follows .* sort the rows"),
        (["01 00:00", "01 01:00", "01 01:00"], r"a\.csv:4: .* is the time of two rows; .* keep one of each time"),
        (
            ["01 02:00", "01 01:00", "01 00:00"],
            r"a\.csv:3: .* follows '2024-01-01 02:00'; expected .* the oldest first",
        ),
        (["01 00:00", "01 01:00", "01 02:00", "01 03:30"], r"a\.csv:5: .* most rows are 1 hour apart; resample"),
        (
            ["01 00:00", "01 01:00", "20 00:00"],
            r"a\.csv:4: .*: 454 steps of 1 hour are missing in all, more than the 3",
        ),
        (["01 00:00", *["01 01:00", "01 02:00"] * 5, ""], r"a\.csv:13: '2024-01-' in the column of dates"),
        ([f"{day:02} 00:00" for day in range(1, 20)] + ["?"], r"a\.csv:21: '2024-01-\?' in the column of dates 't'"),
    ],
)
def test_times_that_are_none_of_a_series(tmp_path: Path, times: list[str], message: str) -> None:
    raw = "t,sun\n" + "".join(f"2024-01-{time},{k}\n" for k, time in enumerate(times))
    with pytest.raises(DataError, match=message):
        read_series(write(tmp_path, raw), fill="linear")


def test_dates_that_may_be_read_in_two_ways_are_not_read_and_this_is_said(tmp_path: Path) -> None:
    raw = "t,sun\n01/02/2024,1\n03/05/2024,2\n04/10/2024,3\n"
    series = read_series(write(tmp_path, raw))
    assert series.calendar is None and series.position(1) == "+1"
    assert "a.csv:2: '01/02/2024' in column 't' may be 2024-01-02 or 2024-02-01" in series.notes[0]


def test_the_weekly_co2_of_mauna_loa_has_59_weeks_without_a_value(tmp_path: Path) -> None:
    """Weeks without a measurement, at the start and scattered, as in statsmodels."""
    co2 = pytest.importorskip("statsmodels.datasets.co2").load_pandas().data
    rows = "".join(f"{day:%Y-%m-%d},{'' if np.isnan(value) else value}\n" for day, value in co2["co2"].items())
    series = read_series(write(tmp_path, "week,co2\n" + rows), fill="linear")
    assert (len(series.values), int(series.missing.sum())) == (2284, 59)
    assert np.allclose(series.values[:, 0], co2["co2"].interpolate())
    assert series.calendar is not None and series.calendar.pace.season == 52
    assert series.position(1) == "2002-01-05"
