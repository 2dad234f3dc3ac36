from __future__ import annotations

from datetime import UTC, date, datetime, time

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidvae.data.notes import Notes
from hidvae.data.times import find_time_form, looks_like_times, say_times
from hidvae.errors import ConfigError, DataError

FIRST = 1_388_743_200_000_000  # 2014-01-03 10:00 UTC in microseconds


def read(values: list[object], time_format: str = "") -> tuple[list[object], list[str]]:
    """The numbers, and what is said of them."""
    notes = Notes()
    column = pl.Series("timestamp", values)
    form = find_time_form(column.to_frame().lazy(), "timestamp", "log.csv", time_format, notes)
    numbers = form.read(column)
    say_times(numbers.drop_nulls().to_numpy(), form, "timestamp", "log.csv", notes)
    prefix = "log.csv, column timestamp: "
    return numbers.to_list(), [each.text.removeprefix(prefix) for each in notes.decisions]


@pytest.mark.parametrize(
    "text",
    [
        "2014-01-03T10:00:00",
        "2014-01-03T10:00:00Z",
        "2014-01-03 10:00:00 UTC",
        "2014-01-03 12:00:00.000+02:00",
        "2014-01-03T05:30-0430",
        " 2014/1/3 10:00 ",
        "2014.01.03 10:00:00,0",
        "20140103T100000Z",
        "Fri, 03 Jan 2014 10:00:00 GMT",
        "03/Jan/2014:10:00:00 +0000",
        "3 January 2014 10:00",
        "Jan 3, 2014 10:00 AM",
        "January 3rd 2014 10:00",
    ],
)
def test_forms_that_say_the_day(text: str) -> None:
    assert read([text])[0] == [FIRST]


def test_one_form_holds_for_the_column() -> None:
    numbers, said = read(["2014-01-03T10:00:00Z", "2014-01-04", "yesterday", "2014-02-30", None])
    assert numbers == [FIRST, FIRST + 14 * 3600 * 10**6, None, None, None]
    assert said == ["ISO 8601, from 2014-01-03 to 2014-01-04"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["03.01.2014", "13.01.2014 10:15"], "day, month, year, from 2014-01-03 to 2014-01-13"),
        (["1/3/14 9:05 PM", "1/13/14 9:05"], "month, day, year, from 2014-01-03 to 2014-01-13"),
        (["09 14, 2018", "12 1, 2018"], "month, day, year, from 2018-09-14 to 2018-12-01"),
    ],
)
def test_the_part_above_12_is_the_day(values: list[object], said: str) -> None:
    assert read(values)[1] == [said]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            ["01/03/2014 9:05 PM", "02/03/2014 9:05 PM"],
            "a number above 12 nowhere, as in '01/03/2014 9:05 PM'; set "
            "DatasetConfig.time_format='%d/%m/%Y %I:%M %p' or "
            "DatasetConfig.time_format='%m/%d/%Y %I:%M %p'",
        ),
        (["13.01.2014", "01.13.2014"], "both in the first and in the second place"),
        (
            ["14-01-03", "13-02-05", "14-12-31"],
            "two digits of it that may stand first, as in '14-01-03'; set "
            "DatasetConfig.time_format='%y-%m-%d', or DatasetConfig.time_format='%d-%m-%y' if",
        ),
        ([31012014, 5022013], "dates as digits with the year last, such as 31012014; set"),
        ([time(3)], "found times of day, which order no events"),
        ([1_600_000_000, 1_600_000_000_000], "1 event in seconds and 1 in milliseconds"),
    ],
)
def test_what_would_be_a_guess_is_refused(values: list[object], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(values)
    assert message in str(caught.value)
    assert str(caught.value).startswith("log.csv, column timestamp: expected ")


@pytest.mark.parametrize("units", [1, 10**3, 10**6, 10**9])
def test_numbers_since_1970(units: int) -> None:
    name = {1: "seconds", 10**3: "milliseconds", 10**6: "microseconds", 10**9: "nanoseconds"}[units]
    stamps: list[object] = [1_388_743_200 * units, 1_420_000_000 * units]
    said = f"{name} since 1970, from 2014-01-03 to 2014-12-31"
    assert read(stamps) == (stamps, [said])
    assert read([str(stamp) for stamp in stamps]) == (stamps, [said])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([3, 1, 2], ["numbers from 1 to 3, which are no dates and only order the events"]),
        ([20140103, 20140201], ["dates as digits, from 2014-01-03 to 2014-02-01"]),
        (["20140103101500", "20150103101500"], ["dates as digits, from 2014-01-03 to 2015-01-03"]),
        ([date(2014, 1, 3), date(2014, 1, 5)], ["dates, from 2014-01-03 to 2014-01-05"]),
        (
            [datetime(2014, 1, 3), datetime(2014, 1, 3)],
            [
                "dates with a time, from 2014-01-03 to 2014-01-03",
                "all 2 events have the same time, so nothing orders them",
            ],
        ),
        (
            [0, -5, *range(1_600_000_000, 1_600_000_005)],
            [
                "seconds since 1970, from 2020-09-13 to 2020-09-13",
                "2 events at a time before 1970 or after 2100, such as 0; they are kept in that "
                "order",
            ],
        ),
    ],
)
def test_what_is_said(values: list[object], said: list[str]) -> None:
    assert read(values)[1] == said


def test_the_users_format() -> None:
    assert read(["3.1.14 10:00"], "%d.%m.%y %H:%M")[0] == [FIRST]
    assert read([20140103], "%Y%m%d")[0] == [FIRST - 10 * 3600 * 10**6]
    fractions, _ = read(["2014-01-03 10:00:00.25", "?"], "%Y-%m-%d %H:%M:%S.%f")
    assert fractions == [FIRST + 250_000, None]
    with pytest.raises(ConfigError, match="expected %f after a point"):
        read(["1"], "%S%f")


@given(st.lists(st.datetimes(datetime(1971, 1, 1), datetime(2099, 1, 1)), min_size=1))
def test_written_times_keep_their_order(times: list[datetime]) -> None:
    expected = [round(each.replace(tzinfo=UTC).timestamp() * 10**6) for each in times]
    for form in ("%Y-%m-%dT%H:%M:%S.%f", "%Y/%m/%d %H:%M:%S.%f"):
        assert read([each.strftime(form) for each in times])[0] == expected
    seconds = [stamp - each.microsecond for stamp, each in zip(expected, times, strict=True)]
    assert read([each.strftime("%d %b %Y, %I:%M:%S %p") for each in times])[0] == seconds


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["2014-01-03", "2014-01-04"], True),
        ([1_600_000_000, 1_600_000_001], True),
        ([20140103], True),
        ([35, 12, 7], False),
        (["red", "blue"], False),
        ([date(2014, 1, 3)], True),
        (["", ""], False),
    ],
)
def test_what_looks_like_a_time(values: list[object], expected: bool) -> None:
    assert looks_like_times(pl.Series(values)) is expected


def test_no_event_says_nothing() -> None:
    notes = Notes()
    form = find_time_form(pl.LazyFrame({"t": [1]}), "t", "log.csv", "", notes)
    say_times(np.empty(0, np.int64), form, "t", "log.csv", notes)
    assert not notes.decisions
