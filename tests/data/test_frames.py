"""Data frames of several libraries as columns of JSON values."""

from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from gatewise.data.frames import is_missing, read_frame
from gatewise.errors import InputError, MissingPackage

pd = pytest.importorskip("pandas")
pytest.importorskip("narwhals")


def test_every_kind_of_value_of_pandas() -> None:
    frame = pd.DataFrame(
        {
            "number": [1.5, None, 3],
            "count": pd.array([1, None, 3], dtype="Int64"),
            "text": ["a", None, "c"],
            "kind": pd.Categorical(["x", None, "x"]),
            "day": pd.to_datetime(["2020-01-01", "2020-01-02", None]),
            "moment": pd.to_datetime(["2020-01-01 10:30", "2020-01-02 00:00", None]),
            "zoned": pd.to_datetime(["2020-01-01 10:30", None, None]).tz_localize("Europe/Berlin"),
            "flag": [True, False, True],
            "exact": [Decimal("1.25"), None, Decimal(2)],
            "any": [np.float32(0.5), date(2020, 1, 2), "z"],
        }
    )
    assert read_frame(frame) == {
        "number": [1.5, None, 3.0],
        "count": [1, None, 3],
        "text": ["a", None, "c"],
        "kind": ["x", None, "x"],
        "day": ["2020-01-01", "2020-01-02", None],
        "moment": ["2020-01-01 10:30:00", "2020-01-02 00:00:00", None],
        "zoned": ["2020-01-01T09:30:00Z", None, None],
        "flag": [True, False, True],
        "exact": [1.25, None, 2.0],
        "any": [0.5, "2020-01-02", "z"],
    }


def test_one_column_and_the_dates_of_an_index() -> None:
    days = pd.date_range("2020-01-30", periods=2)
    assert read_frame(pd.Series([1, 2])) == {"value": [1, 2]}
    for freq, first in (("W", "2019-12-30"), ("M", "2020-01"), ("Q", "2020Q1"), ("Y", 2020)):
        periods = pd.period_range("2020-01-01", periods=3, freq=freq)
        assert read_frame(pd.Series([1, 2, 3], index=periods))["index"][0] == first
    assert read_frame(pd.Series([1, 2], index=days, name="price")) == {
        "index": ["2020-01-30", "2020-01-31"],
        "price": [1, 2],
    }
    months = pd.period_range("2020-01", periods=2, freq="M", name="month")
    assert read_frame(pd.DataFrame({"a": [1, 2]}, index=months)) == {"month": ["2020-01", "2020-02"], "a": [1, 2]}
    assert read_frame(pd.DataFrame({"a": [1, 2]}, index=[7, 3])) == {"a": [1, 2]}
    assert read_frame(pd.DataFrame([[1, 2]])) == {"0": [1], "1": [2]}


def test_pyarrow_and_polars() -> None:
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"a": [1, None], "b": ["x", "y"], "d": [datetime(2020, 1, 1, tzinfo=timezone.utc), None]})
    assert read_frame(table) == {"a": [1, None], "b": ["x", "y"], "d": ["2020-01-01T00:00:00Z", None]}
    polars = pytest.importorskip("polars")
    assert read_frame(polars.DataFrame({"a": [1, None], "b": ["x", "y"]})) == {"a": [1, None], "b": ["x", "y"]}
    with pytest.raises(InputError, match="data is a LazyFrame, whose rows are not in memory"):
        read_frame(polars.LazyFrame({"a": [1]}))


@pytest.mark.parametrize("other", [3, object(), [1, 2], {"a": [1]}, np.zeros(2)])
def test_anything_else_is_no_frame(other: Any) -> None:
    assert read_frame(other) is None


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"a": [1.0, np.inf]}), "data: inf in row 1 of column 'a'; expected a finite number"),
        (pd.DataFrame({"a": [[1, 2]]}), r"data: \[1, 2\] in row 0 of column 'a'; expected text, a number or a date"),
        (pd.DataFrame({"a": [1j]}), "data: 1j in row 0 of column 'a'"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "data: this DataFrame cannot be read .*'a' 2 times"),
    ],
)
def test_bad_frames(frame: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_frame(frame)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, np.nan, np.float32("nan"), pd.NA, pd.NaT, np.datetime64("NaT")])
def test_missing(value: Any) -> None:
    assert is_missing(value)


@pytest.mark.parametrize("value", [0, "", "nan", False, 1.0])
def test_not_missing(value: Any) -> None:
    assert not is_missing(value)


def test_without_narwhals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "narwhals", None)
    with pytest.raises(MissingPackage, match=r"data of the type Series needs narwhals, .*the extra 'tables'"):
        read_frame(pd.Series([1]))
