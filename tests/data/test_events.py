from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import groupby

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hidvae.config import DatasetConfig
from hidvae.data import events as events_module
from hidvae.data.events import Events, find_ties, k_core, keep_repeated, put_in_order, read_events
from hidvae.data.notes import Notes
from hidvae.data.tables import SourceTables
from hidvae.errors import DataError

Row = tuple[str, str, int]
ITEMS = pl.DataFrame({"item_id": list("vwxyz")})
ROWS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("vwxyz"), st.integers(0, 3)),
    min_size=1,
    max_size=40,
)
FILE_ORDER = DatasetConfig(tie_order="file")


def tables_of(rows: list[Row]) -> SourceTables:
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return SourceTables("t", ITEMS, log.lazy(), "items.csv", "log.csv")


def read(rows: list[Row]) -> Events:
    return read_events(tables_of(rows), ITEMS, Notes())[0]


def rows_of(events: Events) -> list[Row]:
    users = events.users["user_id"].gather(events.user).to_list()
    items = ITEMS["item_id"].gather(events.item).to_list()
    return list(zip(users, items, events.order[0].tolist(), strict=True))


def in_order(rows: list[Row], config: DatasetConfig = FILE_ORDER) -> list[Row]:
    return rows_of(put_in_order(read(rows), ITEMS, config))


def by_hand(rows: list[Row]) -> list[Row]:
    """Users as they first appear, events by time, then as in the file, exact repeats left out."""
    users = list(dict.fromkeys(user for user, _, _ in rows))
    return sorted(dict.fromkeys(rows), key=lambda row: (users.index(row[0]), row[2]))


@settings(max_examples=30)
@given(ROWS)
def test_batches_change_nothing(rows: list[Row]) -> None:
    log = tables_of(rows)
    whole, size = read_events(log, ITEMS, Notes())
    before = events_module._ROWS_PER_BATCH
    try:
        events_module._ROWS_PER_BATCH = 3
        parts, same_size = read_events(log, ITEMS, Notes())
    finally:
        events_module._ROWS_PER_BATCH = before
    assert size == same_size
    assert rows_of(parts) == rows_of(whole) == rows
    assert parts.users.rows() == whole.users.rows()
    first_rows = {user: 1 + [row[0] for row in rows].index(user) for user, _, _ in rows}
    assert dict(whole.users.rows()) == first_rows


@settings(max_examples=30)
@given(ROWS)
def test_order_in_the_file_breaks_ties_on_request(rows: list[Row]) -> None:
    assert in_order(rows) == by_hand(rows)


@settings(max_examples=30)
@given(ROWS, st.randoms())
def test_seeded_ties_do_not_depend_on_the_file(rows: list[Row], shuffler: object) -> None:
    config = DatasetConfig()
    found = in_order(rows, config)
    expected = by_hand(rows)
    assert [row[::2] for row in found] == [row[::2] for row in expected]  # users and times as ever
    assert Counter(found) == Counter(expected)
    shuffled = list(rows)
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined]
    again = in_order(shuffled, config)
    key = lambda row: row[0]  # noqa: E731
    assert {u: list(r) for u, r in groupby(again, key)} == {
        u: list(r) for u, r in groupby(found, key)
    }


def test_seeded_ties_are_a_fair_draw_for_each_user(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"u{user}", item, 0) for user in range(1000) for item in "xy"]
    orders = {}
    for seed in (0, 1):
        monkeypatch.setattr(events_module, "TIE_SEED", seed)
        found = in_order(rows, DatasetConfig())
        orders[seed] = np.array([item == "x" for _, item, _ in found[::2]])  # is x first?
        assert abs(orders[seed].mean() - 0.5) < 0.06  # 4 standard deviations
    assert abs((orders[0] == orders[1]).mean() - 0.5) < 0.06  # another seed, another draw


def test_a_position_decides_between_equal_times() -> None:
    log = pl.DataFrame(
        {
            "user_id": ["a"] * 3,
            "item_id": list("xyz"),
            "timestamp": [5, 5, 1],
            "position": [2, 1, 9],
        }
    )
    tables = replace(tables_of([("a", "x", 0)]), interactions=log.lazy())
    events = put_in_order(read_events(tables, ITEMS, Notes())[0], ITEMS, DatasetConfig())
    assert [row[1] for row in rows_of(events)] == ["z", "y", "x"]
    assert not find_ties(events)[0].size


def test_without_times_the_file_decides_and_nothing_is_a_duplicate() -> None:
    log = pl.DataFrame({"user_id": list("abaa"), "item_id": list("xyxv")})
    tables = replace(tables_of([("a", "x", 0)]), interactions=log.lazy())
    events = put_in_order(read_events(tables, ITEMS, Notes())[0], ITEMS, DatasetConfig())
    assert events.user.tolist() == [0, 0, 0, 1]
    assert ITEMS["item_id"].gather(events.item).to_list() == ["x", "x", "v", "y"]


def test_whole_numbers_and_fractions_in_different_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "_ROWS_PER_BATCH", 1)
    log = pl.DataFrame({"user_id": ["a"] * 3, "item_id": list("xyz"), "timestamp": [2.5, 2.0, 1.0]})
    tables = replace(tables_of([("a", "x", 0)]), interactions=log.lazy())
    events = put_in_order(read_events(tables, ITEMS, Notes())[0], ITEMS, FILE_ORDER)
    assert events.order[0].tolist() == [1.0, 2.0, 2.5]


@settings(max_examples=30)
@given(ROWS)
def test_ties_by_hand(rows: list[Row]) -> None:
    events = put_in_order(read(rows), ITEMS, FILE_ORDER)
    found = rows_of(events)
    sizes = Counter(row[::2] for row in found)
    tied, group = find_ties(events)
    assert tied.tolist() == [e for e, row in enumerate(found) if sizes[row[::2]] > 1]
    names = [found[e][::2] for e in tied]
    assert len(set(names)) == len(set(zip(names, group.tolist(), strict=True))) == len(set(group))


@settings(max_examples=30)
@given(ROWS)
def test_repeated_items_first_and_last(rows: list[Row]) -> None:
    events = put_in_order(read(rows), ITEMS, FILE_ORDER)
    found = rows_of(events)
    first = {row[:2]: e for e, row in reversed(list(enumerate(found)))}
    last = {row[:2]: e for e, row in enumerate(found)}
    assert rows_of(keep_repeated(events, "first")) == [found[e] for e in sorted(first.values())]
    assert rows_of(keep_repeated(events, "last")) == [found[e] for e in sorted(last.values())]
    assert keep_repeated(events, "keep") is events


@settings(max_examples=30)
@given(ROWS, st.integers(0, 4), st.integers(0, 4))
def test_k_core_is_the_fixed_point_of_naive_removal(
    rows: list[Row], users_min: int, items_min: int
) -> None:
    left = list(rows)
    while True:  # remove one offender at a time: the fixed point does not depend on the order
        users, items = [u for u, _, _ in left], [i for _, i, _ in left]
        bad = [r for r in left if users.count(r[0]) < users_min or items.count(r[1]) < items_min]
        if not bad:
            break
        left.remove(bad[0])
    assert rows_of(k_core(read(rows), users_min, items_min)) == left


def test_k_core_iterates() -> None:
    # y has one event; without it user b has one; without b, item x has one; nothing is left.
    chain = read([("a", "x", 0), ("b", "x", 0), ("b", "y", 0)])
    assert rows_of(k_core(chain, 1, 2)) == [("a", "x", 0), ("b", "x", 0)]
    assert not len(k_core(chain, 2, 2))


def left_out(rows: list[Row], *, strict: bool = False) -> list[str]:
    notes = Notes(strict=strict)
    read_events(tables_of(rows), ITEMS, notes)
    return [each.text for each in notes.decisions if "left out" in each.text]


def test_rows_left_out_are_counted_over_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "_ROWS_PER_BATCH", 2)
    rows = [("a", "x", 0), ("", "y", 1), ("a", "z", 2), (" ", "z", 3)]
    assert left_out(rows) == ["log.csv: 2 rows without a user id are left out (row 2, 4)"]
    assert [row[:2] for row in rows_of(read(rows))] == [("a", "x"), ("a", "z")]
    with pytest.raises(DataError, match=r"log.csv, column user_id: .* 1 bad row \(row 2: ''\)"):
        left_out(rows, strict=True)


def test_events_of_unknown_items_are_left_out() -> None:
    rows = [("a", item, time) for time, item in enumerate("xqqrstyzxy")]
    assert [item for _, item, _ in rows_of(read(rows))] == list("xyzxy")
    assert left_out(rows) == [
        "log.csv: 5 rows of items that items.csv lacks are left out (row 2, 3, 4, …)"
    ]
    with pytest.raises(DataError, match=r"expected an id of items.csv; found 5 bad rows \(row 2"):
        left_out(rows, strict=True)


def test_ids_that_do_not_match_are_refused() -> None:
    unknown: list[Row] = [("a", f"{item}!", time) for time, item in enumerate("xyzv" * 5)]
    match = r"in 20 of 20 events, such as 'x!' \(row 1\), did you mean 'x'\?; write the ids alike"
    with pytest.raises(DataError, match=match):
        read(unknown)
    with pytest.raises(DataError, match="in 20 of 21 events"):  # one matches by chance
        read([*unknown, ("a", "x", 99)])
    assert len(read([*unknown, ("a", "x", 99), ("a", "y", 100)])) == 2


def test_a_log_without_a_usable_row_is_refused() -> None:
    with pytest.raises(DataError, match="expected events; found none that can be used"):
        read([("", "x", 0)])


def sorted_log(key: str) -> list[tuple[str, str]]:
    rows = [(f"u{user}", item) for user in range(4) for item in "abcdefg"]
    return sorted(rows, key=lambda row: row[::-1] if key == "item" else row)


def test_a_log_without_times_that_is_sorted_by_item_is_refused() -> None:
    items = pl.DataFrame({"item_id": [*"abcdefg"]})

    def decided(rows: list[tuple[str, str]]) -> list[str]:
        log = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").lazy()
        notes = Notes()
        read_events(SourceTables("x", items, log, "items", "log"), items, notes)
        return [decision.text for decision in notes.decisions]

    with pytest.raises(DataError, match="log: expected a timestamp.* found rows sorted by item"):
        decided(sorted_log("item"))
    assert "log: every user's events are sorted by item" in decided(sorted_log("user"))[0]
    shuffled = sorted_log("user")
    shuffled[3:5] = shuffled[4:2:-1]
    assert decided(shuffled) == []
