"""Dates of a series: read in one way, in two or not at all, and how far apart they are."""

from datetime import datetime, timedelta

import pytest

from gatewise.config.spans import parse_span
from gatewise.data.calendar import Calendar, read_dates
from gatewise.data.pace import Pace, pace_of
from gatewise.errors import UsageError


@pytest.mark.parametrize(
    ("fields", "after"),
    [
        (("2024-02-27", "2024-02-28", "2024-02-29"), "2024-03-01"),
        (("2024-10", "2024-11", "2024-12"), "2025-01"),
        (("2024-01-01", "2024-02-01", "2024-03-01"), "2024-04-01"),
        (("2022-06-30", "2023-06-30", "2024-06-30"), "2025-06-30"),
        (("2023-12-31", "2024-01-31", "2024-02-29"), "2024-03-31"),
        (("2024-03-31", "2024-06-30", "2024-09-30"), "2024-12-31"),
        (("01.12.2024", "02.12.2024", "03.12.2024"), "04.12.2024"),
        (("12/30/2024", "12/31/2024", "01/01/2025"), "01/02/2025"),
        (("30/12/2024", "31/12/2024", "01/01/2025"), "02/01/2025"),
        (("2024-03-30 22:00", "2024-03-30 23:00", "2024-03-31 00:00"), "2024-03-31 01:00"),
        (("2024-03-30T22:00:00Z", "2024-03-30T22:00:10Z", "2024-03-30T22:00:20Z"), "2024-03-30T22:00:30Z"),
        (
            ("2024-03-30T22:00:00.000Z", "2024-03-30T22:00:00.500Z", "2024-03-30T22:00:01.000Z"),
            "2024-03-30T22:00:01.500Z",
        ),
        (
            ("2024-03-31T00:00:00+01:00", "2024-03-31T01:00:00+01:00", "2024-03-31T03:00:00+02:00"),
            "2024-03-31T03:00:00+01:00",
        ),
        (("12/31/2024 10:00 PM", "12/31/2024 11:00 PM", "1/1/2025 12:00 AM"), "01/01/2025 01:00 AM"),
        (("2024年3月", "2024年4月", "2024年5月"), "2024年06月"),
        (("2024-11-27", "2024-11-28", "2024-11-29", "2024-12-02"), "2024-12-03"),
        (("Oct 29, 2023", "Oct 30, 2023", "Oct 31, 2023"), "Nov 01, 2023"),
        (("January 1949", "February 1949", "March 1949"), "April 1949"),
        (("29-Jan-2023", "30-Jan-2023", "31-Jan-2023"), "01-Feb-2023"),
        (("20.03.24 22:00", "20.03.24 23:00", "21.03.24 00:00"), "21.03.24 01:00"),
        (("12/30/98", "12/31/98", "1/1/99"), "01/02/99"),
        (("30/12/98", "31/12/98", "1/1/99"), "02/01/99"),
        (("Oct-68", "Nov-68", "Dec-68", "Jan-69", "Feb-69"), "Mar-69"),
        (("2020-W52", "2020-W53", "2021-W01"), "2021-W02"),
        (("1990Q2", "1990Q3", "1990Q4"), "1991Q1"),
        (("1990-Q2", "1990-Q3", "1990-Q4"), "1991-Q1"),
        (("Q2 1990", "Q3 1990", "Q4 1990"), "Q1 1991"),
        (("194910", "194911", "194912"), "195001"),
    ],
)
def test_the_next_date(fields: tuple[str, ...], after: str) -> None:
    (dates,) = read_dates(fields)
    pace = pace_of(dates.times)
    assert dates.doubt == 0 and [pace.number(time) for time in dates.times] == list(range(len(fields)))
    assert Calendar(pace, dates.notation).text(len(fields)) == after


@pytest.mark.parametrize(
    "fields",
    [
        ("2024-01-01", "2024-01-02"),
        ("2024-01-01", "x", "2024-01-03"),
        ("2024-01-01", "", "2024-01-03"),
        ("2024-01-01", "2024/01/02", "2024-01-03"),
        ("2023-02-29", "2023-03-01", "2023-03-02"),
        (1, 2, 3),
        ("1990Q4", "1990Q5", "1990Q6"),
        ("10011", "10012", "10013"),
    ],
)
def test_no_dates(fields: tuple[object, ...]) -> None:
    assert read_dates(fields) == []


def test_day_and_month_are_told_apart_by_the_pace_or_not_at_all() -> None:
    assert len(read_dates(("01/02/2024", "02/03/2024", "07/08/2024"))) == 2
    assert len(read_dates(("03/04/2024", "03/05/2024", "03/06/2024"))) == 2
    assert [dates.times[1].day for dates in read_dates(("09/04/2024", "10/04/2024", "12/04/2024", "01/05/2024"))] == [
        10
    ]


def test_two_digits_of_a_year_are_one_from_1930_to_2029() -> None:
    (dates,) = read_dates(("Jan-49", "Feb-49", "Mar-49"))
    assert (dates.times[0].year, read_dates(("Jan-29", "Feb-29", "Mar-29"))[0].times[0].year) == (1949, 2029)
    assert len(read_dates(("24/03/20", "24/03/21", "24/03/22"))) == 2  # years of one day, or days of one month


def of(*days: str) -> Pace:
    return pace_of([datetime.fromisoformat(day) for day in days])


def test_steps_that_are_missing_keep_their_numbers() -> None:
    hours = [datetime(2024, 1, 1) + timedelta(hours=hour) for hour in (0, 1, 2, 5, 6, 7, 9)]
    pace = pace_of(hours)
    assert [pace.number(time) for time in hours] == [0, 1, 2, 5, 6, 7, 9]
    months = of("2024-01-31", "2024-02-29", "2024-03-31", "2024-06-30")
    assert months.number(datetime(2024, 6, 30)) == 5 and months.number(datetime(2024, 6, 29)) is None
    assert months.number(datetime(2023, 12, 31)) == -1


def test_days_that_never_occur_are_no_gaps() -> None:
    """Trading days skip the weekend, and a holiday is a gap; a shop closed on Sundays is known after three weeks."""
    pace = of("2024-01-04", "2024-01-05", "2024-01-08", "2024-01-10")
    assert pace.weekdays == (0, 1, 2, 3, 4)
    assert [pace.number(datetime(2024, 1, day)) for day in (4, 5, 6, 8, 9, 10)] == [0, 1, None, 2, 3, 4]
    days = [datetime(2024, 1, 1) + timedelta(days=day) for day in range(40)]
    assert pace_of([day for day in days if day.weekday() != 6]).weekdays == (0, 1, 2, 3, 4, 5)
    assert pace_of([day for day in days if day.day != 5]).step == timedelta(days=1)


@pytest.mark.parametrize(
    ("pace", "span", "steps"),
    [
        (of("2024-01-01T00", "2024-01-01T01"), "24 hours", 24),
        (of("2024-01-01T00", "2024-01-01T01"), "2 weeks", 336),
        (of("2024-01-01T00:00", "2024-01-01T00:10"), "1h", 6),
        (of("2024-01-01", "2024-01-02"), "14d", 14),
        (of("2024-01-01", "2024-02-01"), "12 months", 12),
        (of("2024-01-01", "2024-02-01"), "1 year", 12),
        (of("2024-01-01", "2024-04-01"), "2 quarters", 2),
        (of("2024-01-04", "2024-01-05", "2024-01-08"), "2 weeks", 10),
        (of("2024-01-04", "2024-01-05", "2024-01-08"), "3 days", 3),
        (of("2024-01-01T00", "2024-01-01T07"), "24 hours", "24 hours is not a whole number of steps of 7 hours"),
        (of("2024-01-01", "2024-01-02"), "6h", "6 hours is not a whole number of steps of 1 day"),
        (
            of("2024-01-01", "2024-01-02"),
            "1 month",
            "a step is 1 day, and 1 month has no fixed number of these; give s",
        ),
        (
            of("2024-01-01", "2024-02-01"),
            "30 days",
            "a step is 1 month, and 30 days has no fixed number .* give months",
        ),
        (of("2024-01-01", "2024-02-01", "2024-03-01"), "999999999 weeks", "has no fixed number"),
        (of("2024-01-01", "2024-01-02"), "999999999 weeks", "is too long"),
    ],
)
def test_a_span_in_steps(pace: Pace, span: str, steps: int | str) -> None:
    if isinstance(steps, int):
        assert pace.steps_in(parse_span(span)) == steps
    else:
        with pytest.raises(ValueError, match=steps):
            pace.steps_in(parse_span(span))


@pytest.mark.parametrize(
    "text", ["", "24", "hours", "0 days", "-1 day", "1.5 days", "2 m", "2 fortnights", "1 day 2 h"]
)
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number of steps, or a number and a unit, such as '24 hours'"):
        parse_span(text)


@pytest.mark.parametrize(
    ("first", "second", "season"),
    [
        ("2024-01-01T00:00", "2024-01-01T01:00", 24),
        ("2024-01-01T00:00", "2024-01-01T00:15", 96),
        ("2024-01-01T00:00", "2024-01-01T00:07", 0),
        ("2024-01-01", "2024-01-02", 7),
        ("2024-01-01", "2024-01-08", 52),
        ("2024-01-01", "2024-01-03", 0),
        ("2024-01-01", "2024-02-01", 12),
        ("2024-01-31", "2024-04-30", 4),
        ("2023-01-01", "2024-01-01", 0),
    ],
)
def test_the_season_of_a_pace(first: str, second: str, season: int) -> None:
    assert of(first, second).season == season


def test_no_date_is_written_beyond_the_last_year() -> None:
    for pace in (of("9999-11-01", "9999-12-01"), of("9999-12-30", "9999-12-31"), of("9999-12-30", "9999-12-31T00")):
        with pytest.raises(UsageError, match="step 5,000 of the series is beyond the year 9999"):
            Calendar(pace, "%Y-%m-%d").text(5000)
