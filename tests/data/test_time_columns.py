from __future__ import annotations

from datetime import date, datetime, time
from typing import Any

import polars as pl
import pytest

from hidvae.config import DatasetConfig
from hidvae.data.notes import Notes
from hidvae.data.prepare import assemble
from hidvae.data.sources.frames import tables_from
from hidvae.errors import DataError

USERS, ITEMS = ["u", "u", "u", "v", "v", "v"], ["a", "b", "c", "b", "a", "c"]
DAYS = ["2014-01-03", "2014-01-02", "2014-01-01", "2014-02-03", "2014-02-02", "2014-02-01"]
"""Each user's events backwards, so that the order of the file is the wrong one."""
BACKWARDS = {"u": ["c", "b", "a"], "v": ["c", "a", "b"]}
FILE = "interactions: no timestamp and no position, so events count in the order of the file"


def read(columns: dict[str, list[Any]], **settings: Any) -> tuple[dict[str, list[str]], list[str]]:
    """Histories of a log, and what was said of it."""
    log = pl.DataFrame({"user_id": USERS, "item_id": ITEMS, **columns})
    config, notes = DatasetConfig(**settings), Notes()
    made = assemble(tables_from(None, log, config), config, notes)
    items = made.items["item_id"]
    sequences = made.split.sequences
    found = {
        user: items.gather(sequences.items[start:end]).to_list()
        for user, start, end in zip(
            made.users["user_id"], sequences.offsets[:-1], sequences.offsets[1:], strict=True
        )
    }
    return found, [decision.said for decision in notes.decisions]


def later(days: list[str], number: int) -> list[str]:
    """Days as many days later, in another order for each event."""
    return [
        str(date.fromordinal(date.fromisoformat(day).toordinal() + number * (place % 3)))
        for place, day in enumerate(days)
    ]


def clocks(days: list[str]) -> list[str]:
    return [f"{day} 10:0{place}" for place, day in enumerate(days)]


@pytest.mark.parametrize(
    ("columns", "taken"),
    [
        ({"bought": DAYS}, "'bought' is taken for the timestamp, as its values are times"),
        (
            {"bought": DAYS, "geboren": ["1980-01-02"] * 3 + ["1990-03-04"] * 3},
            "'bought' is taken for the timestamp, as its values are times; 'geboren' by name or "
            "values are no times of the events themselves",
        ),
        (
            {"since": [f"201{'abc'.index(item)}-01-01" for item in ITEMS], "bought": DAYS},
            "'bought' is taken for the timestamp, as its values are times; 'since' by name or "
            "values are no times of the events themselves",
        ),
        (
            {"updated_at": later(DAYS, 9), "bought": DAYS},
            "'bought' is taken for the timestamp, as its values are times; 'updated_at' by name "
            "or values are no times of the events themselves",
        ),
        (
            {"created_at": ["2010-01-02"] * 3 + ["2011-03-04"] * 3, "bought": DAYS},
            "'bought' is taken for the timestamp, as its values are times; 'created_at' by name "
            "or values are no times of the events themselves",
        ),
        (
            {"paid": DAYS, "stamp": clocks(DAYS)},
            "'stamp' is taken for the timestamp, which orders the events as 'paid' does",
        ),
        (
            {"arrived": later(DAYS, 9), "bought": DAYS},
            "'bought' is taken for the timestamp, as it is never after 'arrived'",
        ),
        (
            {"created_at": DAYS, "visited": clocks(DAYS)},
            "'visited' is taken for the timestamp, which orders the events as 'created_at' does",
        ),
        (
            {
                "when": [datetime.fromisoformat(day) for day in DAYS],
                "phone": [1_600_000_000 + (user == "u") for user in USERS],
            },
            "'when' is taken for the timestamp, as its values are times",
        ),
        (
            {"tag": [int(day.replace("-", "")) for day in DAYS], "arrived": later(DAYS, 9)},
            "'tag' is taken for the timestamp, as it is never after 'arrived'",
        ),
    ],
)
def test_the_time_of_the_events_is_chosen_and_said(
    columns: dict[str, list[Any]], taken: str
) -> None:
    for order in (list(columns), list(reversed(columns))):
        found, said = read({name: columns[name] for name in order})
        assert found == BACKWARDS
        name = taken.split("'")[1]
        assert f'interactions: {taken} (DatasetConfig.column_names=["timestamp={name}"])' in said


def test_numbers_may_be_ids() -> None:
    order = [1_600_000_000 - 7**number for number in range(6)]
    found, said = read({"order_id": order})
    assert found == {"u": ["a", "b", "c"], "v": ["b", "a", "c"]}
    assert said[0] == (
        f"{FILE}; 'order_id' may be a time, or an id "
        '(DatasetConfig.column_names=["timestamp=order_id"])'
    )
    assert read({"order_id": order[::-1], "bought": DAYS})[0] == BACKWARDS
    assert read({"bought_at": order})[0] == BACKWARDS


def test_times_of_some_events_only() -> None:
    some = [DAYS[0], None, *DAYS[2:]]
    found, said = read({"returned": some})
    assert found == {"u": ["a", "b", "c"], "v": ["b", "a", "c"]}
    assert said[0].startswith(FILE)
    assert read({"paid": some[::-1], "bought": DAYS})[0] == BACKWARDS


def test_usual_names_of_other_times() -> None:
    usual = {"ts": [DAYS[0]] * 3 + [DAYS[3]] * 3, "date": ["2014-01-01"] * 6}
    assert read({**usual, "bought": DAYS})[0] == BACKWARDS
    assert read(usual)[0] == {"u": ["a", "b", "c"], "v": ["b", "a", "c"]}


def test_times_that_tell_two_orders_are_refused() -> None:
    other = [DAYS[place] for place in (1, 2, 0, 5, 3, 4)]
    with pytest.raises(DataError) as caught:
        read({"begun": DAYS, "ended": other})
    assert str(caught.value) == (
        "interactions: expected one column with the time of an event; found 'begun' and 'ended', "
        'which order the events differently; set DatasetConfig.column_names=["timestamp=begun"] or '
        "another of them"
    )
    assert read({"begun": DAYS, "ended": other}, column_names=("timestamp=begun",))[0] == BACKWARDS


def test_times_of_users_and_items_leave_the_order_of_the_file() -> None:
    found, said = read({"birth_date": DAYS, "time": ["10:05", "9:00", "8:00"] * 2})
    assert found == {"u": ["a", "b", "c"], "v": ["b", "a", "c"]}
    assert said[0].startswith(
        f"{FILE}; 'time' without a date orders no events; 'birth_date', by name or values, of "
        "something else"
    )


def test_a_position_comes_before_times_of_odd_names() -> None:
    found, _ = read({"position": [1, 2, 3] * 2, "bought": DAYS, "paid": DAYS})
    assert found == {"u": ["a", "b", "c"], "v": ["b", "a", "c"]}


def test_the_users_format_says_what_a_time_is() -> None:
    days = [f"{day[8:]}|{day[5:7]}|{day[:4]}" for day in DAYS]
    assert read({"date": days}, time_format="%d|%m|%Y")[0] == BACKWARDS


TIMES = ["12:00", "11:59", "9:05", "12:00", "9:30", "08:00"]
DATES = ["2014-01-14", "2014-01-14", "2014-01-13", "2014-01-15", "2014-01-14", "2014-01-14"]


def written(form: str) -> list[str]:
    return [date.fromisoformat(day).strftime(form) for day in DATES]


@pytest.mark.parametrize(
    ("days", "clock"),
    [
        (DATES, TIMES),
        (written("%d.%m.%Y"), [f"{text}:01" for text in TIMES]),
        (written("%Y-%m-%d 00:00:00"), ["1:00 PM", "12:30 pm", "9:05 AM"] * 2),
        (list(map(int, written("%Y%m%d"))), [23, 5, 0] * 2),
        (list(map(date.fromisoformat, DATES)), [time(12, 0), time(11, 59), time(9, 5)] * 2),
        (
            list(map(datetime.fromisoformat, DATES)),
            ["1899-12-31 12:00:00", "1899-12-31 11:00:00", "9:00"] * 2,
        ),
        (written("%b %d, %Y"), TIMES),
    ],
)
def test_a_date_and_a_time_of_day_are_joined(days: list[Any], clock: list[Any]) -> None:
    for names in (("date", "time"), ("order_date", "order_time"), ("day", "hour")):
        if clock[0] == 23 and names[1] != "hour":
            continue
        found, said = read({names[0]: days, names[1]: clock})
        assert found == BACKWARDS, names
        assert (
            f"interactions: the date in {names[0]!r} and the time of day in {names[1]!r} are "
            f'joined to the timestamp (DatasetConfig.column_names=["timestamp={names[0]}"])'
        ) in said


def test_what_is_joined_to_a_date() -> None:
    day = ["2014-01-03"] * 6
    hour_minute = [1400, 905, 5, 2359, 100, 0]
    assert read({"date": day, "hourmin": hour_minute})[0] == BACKWARDS
    other = {"ship_time": TIMES[::-1], "duration": TIMES[::-1], "time": TIMES}
    assert read({"date": day, **other})[0] == BACKWARDS
    found, said = read({"date": [*day[:5], None], "time": [*TIMES[:4], "", "8:00"]})
    assert found == {"u": ["c", "b", "a"], "v": ["a", "b"]}
    assert any("1 row without a time" in line for line in said)
    assert not any("joined" in line for line in read({"date": clocks(DAYS), "time": TIMES})[1])
    _, said = read({"date": day, "time": TIMES}, column_names=("timestamp=date",))
    assert not any("joined" in line for line in said)
    _, said = read({"date": DATES, "time": TIMES}, time_format="%Y-%m-%d")
    assert any("'time' is not joined to the date in 'date'" in line for line in said)


def test_a_date_in_three_columns() -> None:
    year, month, day = (list(map(int, written(form))) for form in ("%Y", "%m", "%d"))
    columns = {"Year": year, "month": list(map(str, month)), "day": list(map(float, day))}
    found, said = read({**columns, "hour": [23, 5, 0] * 2})
    assert found == BACKWARDS
    assert said[0].startswith("interactions: 'Year', 'month', 'day' are joined to the date")
    assert any("'day' and the time of day in 'hour' are joined" in line for line in said)
    _, said = read({**columns, "month": [13] * 6})
    assert said[0].startswith(FILE)


@pytest.mark.parametrize("clock", [TIMES, [time(9)] * 6])
def test_a_time_of_day_is_no_order(clock: list[Any]) -> None:
    with pytest.raises(DataError, match="expected dates; found times of day, .*which order no ev"):
        read({"timestamp": clock})
