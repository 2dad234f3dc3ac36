from __future__ import annotations

from datetime import datetime

import polars as pl
import pytest

from hidvae.data.notes import Notes
from hidvae.data.schema import check_events, check_items
from hidvae.errors import DataError


def refused(check: object, frame: pl.DataFrame) -> str:
    """What ``strict`` says."""
    with pytest.raises(DataError) as caught:
        check(frame, "table.csv", notes=Notes(strict=True))  # type: ignore[operator]
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("table.csv")
    return message


def checked(**columns: list[object]) -> pl.DataFrame:
    return check_events(pl.DataFrame(columns), "f")


def pairs(**columns: list[object]) -> list[tuple[str, str]]:
    return checked(**columns).select("user_id", "item_id").rows()


def test_a_batch_keeps_its_order_and_only_known_columns() -> None:
    found = checked(
        rating=[5, 4], position=[9, 1], item_id=["c", "x"], user_id=["u", "v"], timestamp=[2, 1]
    )
    assert found.columns == ["user_id", "item_id", "timestamp", "position", "row"]
    assert found.rows() == [("u", "c", 2, 9, 1), ("v", "x", 1, 1, 2)]


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        (["1600000000000000001", " 1600000000000000000"], None),  # too long for a float
        (["2.5", "1e0"], [2.5, 1.0]),
        ([2.5, 1.0], [2.5, 1.0]),
        ([2.0, 1.0], [2, 1]),
        ([datetime(1970, 1, 1, 0, 0, 2), datetime(1970, 1, 1)], [2_000_000, 0]),
    ],
)
def test_numbers_as_text_floats_and_dates(
    stamps: list[object], expected: list[float] | None
) -> None:
    found = checked(user_id=["u"] * 2, item_id=["b", "a"], timestamp=stamps)["timestamp"]
    assert found.to_list() == (expected or [1600000000000000001, 1600000000000000000])


def test_ids_become_clean_text() -> None:
    assert pairs(user_id=[1.0, 2.0], item_id=[" 007 ", "7"]) == [("1", "007"), ("2", "7")]
    assert pairs(user_id=[1.5], item_id=[3]) == [("1.5", "3")]


ODD_IDS = ["a b", "ключ/№ 1", "x,y;z", "007", "7", '"q"', "a>b|c", "😀", "i" * 5000, "1e5", "&amp;"]


def test_ids_are_any_strings() -> None:
    found = pairs(user_id=["u"] * len(ODD_IDS), item_id=ODD_IDS)
    assert [item for _, item in found] == ODD_IDS
    items = check_items(pl.DataFrame({"item_id": ODD_IDS}), "f")
    assert items["item_id"].to_list() == ODD_IDS


def test_ids_do_not_depend_on_their_neighbours() -> None:
    # A log is checked in batches: one fraction in a batch must not rename the other ids.
    found = pairs(user_id=["u", "u"], item_id=[7.0, 1.5])
    assert [item for _, item in found] == ["7", "1.5"]


def test_rows_count_from_the_start_of_the_batch() -> None:
    frame = pl.DataFrame({"user_id": ["u", ""], "item_id": ["b", "a"]})
    with pytest.raises(DataError, match="row 1000002: ''"):
        check_events(frame, "f", first_row=1_000_001, notes=Notes(strict=True))


def test_every_rule_is_noted_where_the_check_goes_on() -> None:
    notes = Notes(strict=True, go_on=True)
    events = pl.DataFrame(
        {"user_id": ["u", None], "timestamp": ["1", "x"], "position": [0.5, None]}
    )
    check_events(events, "log.csv", 11, notes)
    items = pl.DataFrame({"item_id": ["a", "a", None], "categories": ["A > > B", "A", "C"]})
    check_items(items, "items.csv", notes)
    check_items(pl.DataFrame({"item_id": [[1]]}), "lists", notes)
    starts = [
        "log.csv: expected columns user_id, item_id; missing item_id",
        "log.csv, column user_id: expected a user id; found 1 bad row (row 12: null)",
        "log.csv, column timestamp: expected a time: a number or a date; found 1 bad row (row 12",
        "log.csv, column position: expected a whole number; found 2 bad rows (row 11: 0.5, row 12",
        "items.csv, column item_id: expected an item id; found 1 bad row (row 3: null)",
        "items.csv, column item_id: expected each item once; found 1 bad row (row 2: 'a')",
        "items.csv, column categories: expected no empty label before a path's last one; found 1",
        "lists, column item_id: expected text or whole numbers; found List(Int64)",
    ]
    assert len(notes.problems) == len(starts)
    for start in starts:
        assert any(str(error).startswith(start) for error in notes.problems), start


def test_rows_that_cannot_be_used_are_left_out_and_counted() -> None:
    notes = Notes()
    log = pl.DataFrame(
        {"__line__": [2, 4, 5, 6], "user_id": ["u", None, "NA", "v"], "item_id": [*"aba", r"\N"]}
    )
    assert check_events(log, "log.csv", notes=notes)["row"].to_list() == [2]
    items = pl.DataFrame({"item_id": [*"aabb"], "title": [*"xxyz"]})
    assert check_items(items, "items.csv", notes)["title"].to_list() == ["x", "y"]
    assert [decision.text for decision in notes.decisions] == [
        "log.csv: 1 row without a user id is left out (line 4)",
        "log.csv: 1 row of guests, such as NA or null, is left out (line 5)",
        "log.csv: 1 row of no item, such as NA or null, is left out (line 6)",
        "items.csv: 1 row repeating an item is left out (row 4)",
    ]


def test_missing_columns_name_the_ones_found() -> None:
    message = refused(check_events, pl.DataFrame({"User ID": ["u"], "asin": ["i"]}))
    assert "missing user_id, item_id; found User ID, asin; rename 'User ID' to 'user_id'" in message
    assert "missing item_id; found sku" in refused(check_items, pl.DataFrame({"sku": ["i"]}))


@pytest.mark.parametrize("value", [None, "", "   "])
def test_empty_ids(value: str | None) -> None:
    events = pl.DataFrame({"user_id": ["u", value], "item_id": ["i", "j"]})
    shown = "null" if value is None else repr(value)
    message = refused(check_events, events)
    assert f"column user_id: expected a user id; found 1 bad row (row 2: {shown})" in message
    items = pl.DataFrame({"item_id": ["a", "b", value]})
    message = refused(check_items, items)
    assert f"column item_id: expected an item id; found 1 bad row (row 3: {shown})" in message


def test_nan_ids_are_empty() -> None:
    message = refused(check_items, pl.DataFrame({"item_id": [1.0, float("nan")]}))
    assert "row 2" in message


def test_list_ids_are_refused() -> None:
    assert "found List(Int64)" in refused(check_items, pl.DataFrame({"item_id": [[1], [2]]}))


def test_duplicate_item_ids() -> None:
    message = refused(check_items, pl.DataFrame({"item_id": ["a", "b", "a", " a", "a", "a"]}))
    assert "expected each item once; found 4 bad rows" in message
    assert "(row 3: 'a', row 4: ' a', row 5: 'a' and 1 more); keep one row per item" in message


@pytest.mark.parametrize(
    ("column", "values", "shown"),
    [
        (
            "timestamp",
            ["1", "yesterday", None],
            "found 2 bad rows (row 2: 'yesterday', row 3: null)",
        ),
        ("timestamp", [1.0, float("nan"), 2.0], "found 1 bad row (row 2: nan)"),
        ("timestamp", [True, False, True], "found 3 bad rows (row 1: True"),
        ("position", ["0", "1.5", "x"], "found 2 bad rows (row 2: '1.5', row 3: 'x')"),
    ],
)
def test_order_columns_hold_numbers(column: str, values: list[object], shown: str) -> None:
    frame = pl.DataFrame({"user_id": ["u"] * 3, "item_id": ["i"] * 3, column: values})
    message = refused(check_events, frame)
    assert f"column {column}: expected a" in message
    assert shown in message


def test_items_keep_other_columns_and_order() -> None:
    raw = pl.DataFrame(
        {
            "title": ["Oil &amp; Vinegar", " ", "x"],
            "colour": ["red", "  ", None],
            "item_id": [3, 1, 2],
            "stock": [5, 6, None],
            "nothing": [None, None, None],
        }
    )
    found = check_items(raw, "f")
    assert found.columns == ["item_id", "categories", "title", "colour", "stock", "nothing"]
    assert found["item_id"].to_list() == ["3", "1", "2"]
    assert found["title"].to_list() == ["Oil & Vinegar", None, "x"]
    assert found["colour"].to_list() == ["red", None, None]
    assert found["stock"].to_list() == [5, 6, None]
    assert found["categories"].to_list() == [None, None, None]
    assert found.schema["categories"] == pl.List(pl.String)
    assert found.schema["nothing"] == pl.String


def test_columns_are_made_plain() -> None:
    notes = Notes()
    raw = pl.DataFrame(
        {
            "item_id": ["a", "b"],
            "title": [["Blue", "lamp"], None],
            "keywords": [["x", None, "y"], []],
            "description": [{"en": "One", "n": 2}, None],
            "details": [{}, {}],
            "nested": [{"a": [1, None]}, None],
            "picture": [b"x", None],
            "price": [1.5, float("inf")],
            "ratio": [float("nan"), 2.0],
            "flag": [True, None],
        },
        schema_overrides={"details": pl.Struct([])},
    )
    found = check_items(raw, "f", notes)
    assert found.drop("categories").to_dicts() == [
        {
            "item_id": "a",
            "title": "Blue lamp",
            "keywords": "x, y",
            "description": "One 2",
            "nested": '{"a": [1, null]}',
            "price": 1.5,
            "ratio": None,
            "flag": True,
        },
        {
            "item_id": "b",
            "title": None,
            "keywords": None,
            "description": None,
            "nested": None,
            "price": None,
            "ratio": 2.0,
            "flag": None,
        },
    ]
    said = [each.text for each in notes.decisions]
    assert "f, column title: lists of texts are joined to one" in said
    assert "f, column details: empty objects, left out" in said
    assert "f, column nested: objects, kept as JSON text" in said
    assert "f: 1 of 2 items have no text in title, keywords, description" in said


def test_an_empty_time_column_is_none() -> None:
    notes = Notes()
    log = pl.DataFrame({"user_id": ["u"], "item_id": ["i"], "timestamp": [" "]})
    assert check_events(log, "f", notes=notes).columns == ["user_id", "item_id", "row"]
    assert notes.decisions[0].text == "f: column timestamp is empty and orders nothing"


def test_words_for_no_id_in_categories_of_a_frame() -> None:
    log = pl.DataFrame({"user_id": ["NA", "u"], "item_id": ["a", "b"]})
    log = log.with_columns(pl.col("user_id").cast(pl.Categorical))
    assert check_events(log, "log.csv")["user_id"].to_list() == ["u"]
