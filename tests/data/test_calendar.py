"""Dates of a series: read in one way or not at all, and the dates that follow."""

import pytest

from gatewise.data.calendar import read_calendar


@pytest.mark.parametrize(
    ("fields", "after"),
    [
        (("2024-02-27", "2024-02-28", "2024-02-29"), "2024-03-01"),
        (("2024-10", "2024-11", "2024-12"), "2025-01"),
        (("2024-01-01", "2024-02-01", "2024-03-01"), "2024-04-01"),
        (("2022-06-30", "2023-06-30", "2024-06-30"), "2025-06-30"),
        (("01.12.2024", "02.12.2024", "03.12.2024"), "04.12.2024"),
        (("12/30/2024", "12/31/2024", "01/01/2025"), "01/02/2025"),
        (("30/12/2024", "31/12/2024", "01/01/2025"), "02/01/2025"),
        (("2024-03-30 22:00", "2024-03-30 23:00", "2024-03-31 00:00"), "2024-03-31 01:00"),
        (("2024-03-30T22:00:00Z", "2024-03-30T22:00:10Z", "2024-03-30T22:00:20Z"), "2024-03-30T22:00:30Z"),
        (("2024年3月", "2024年4月", "2024年5月"), "2024年06月"),
        ((" 2024-01-03 ", "2024-01-02", "2024-01-01"), "2023-12-31"),
    ],
)
def test_the_next_date(fields: tuple[str, ...], after: str) -> None:
    calendar = read_calendar(fields)
    assert calendar is not None and calendar.is_even
    assert calendar.position(1) == after


@pytest.mark.parametrize(
    "fields",
    [
        ("2024-01-01", "2024-01-02"),
        ("2024-01-01", "x", "2024-01-03"),
        ("2024-01-01", "", "2024-01-03"),
        ("2024-01-01", "2024/01/02", "2024-01-03"),
        ("2023-02-29", "2023-03-01", "2023-03-02"),
        ("01/02/2024", "02/03/2024", "07/08/2024"),
        ("03/04/2024", "03/05/2024", "03/06/2024"),
        (1, 2, 3),
    ],
)
def test_no_calendar(fields: tuple[object, ...]) -> None:
    assert read_calendar(fields) is None


def test_a_gap_is_found() -> None:
    calendar = read_calendar([f"2024-01-01 {hour:02}:00" for hour in (0, 1, 2, 5, 6, 7, 9)])
    assert calendar is not None and not calendar.is_even and calendar.first_gap == 3
