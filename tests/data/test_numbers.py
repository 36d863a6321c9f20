"""Columns of numbers in the notations of spreadsheets: read in one way, or refused."""

import pytest

from gatewise.data.numbers import is_number, read_numbers
from gatewise.errors import DataError


def read(*fields: object) -> list[float]:
    return read_numbers(fields, [f"a.csv:{row}" for row in range(2, len(fields) + 2)], "x").tolist()


@pytest.mark.parametrize(
    ("fields", "numbers"),
    [
        (("1", " 2.5 ", "-3e2", "+.5", "7."), [1, 2.5, -300, 0.5, 7]),
        (("1,234.5", "12", "1,000,000"), [1234.5, 12, 1e6]),
        (("1.234,5", "12", "-1.000.000"), [1234.5, 12, -1e6]),
        (("3,14", "10", "0,5"), [3.14, 10, 0.5]),
        (("1 234,5", "12"), [1234.5, 12]),
        (("1'234.5", "12", "7.25"), [1234.5, 12, 7.25]),
        (("1\u00a0234", "12,5"), [1234, 12.5]),
        (("1,234", "5,5"), [1.234, 5.5]),
        (("1,234", "5.5"), [1234, 5.5]),
        ((1, 2.5, "3"), [1, 2.5, 3]),
    ],
)
def test_notations(fields: tuple[object, ...], numbers: list[float]) -> None:
    assert read(*fields) == numbers


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("1", "1,234"), r"a\.csv:3: '1,234' in column 'x' may be 1\.234 or 1234; expected numbers"),
        (("1", "2,5", "3.5"), r"a\.csv:3: '2,5' in column 'x'; expected a number"),
        (("1", ""), r"a\.csv:3: an empty field in column 'x'"),
        (("1", None), r"a\.csv:3: an empty field in column 'x'"),
        (("1", "1_000"), r"a\.csv:3: '1_000' in column 'x'"),
        (("1", "12%"), r"a\.csv:3: '12%' in column 'x'"),
        (("1", True), r"a\.csv:3: True in column 'x'"),
        (("1", "nan"), r"a\.csv:3: nan in column 'x'; expected a finite number"),
        (("1", float("inf")), r"a\.csv:3: inf in column 'x'; expected a finite number"),
        (("1", "1,23,456"), r"a\.csv:3: '1,23,456'"),
        (("1", "٣"), r"a\.csv:3: '٣'"),
    ],
)
def test_what_is_no_number_or_two(fields: tuple[object, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(*fields)


def test_is_number() -> None:
    assert all(map(is_number, ("1", "1e5", "nan", "1,5", "1.234.567", 3, 2.5)))
    assert not any(map(is_number, ("", "x", "2024-01-01", "12:30", True, None, "1_0")))
