from __future__ import annotations

from datetime import datetime

import polars as pl
import pytest

from hidvae.data.schema import check_interactions, check_items
from hidvae.errors import DataError


def refused(check: object, frame: pl.DataFrame) -> str:
    with pytest.raises(DataError) as caught:
        check(frame, "table.csv")  # type: ignore[operator]
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("table.csv")
    return message


def order_of(**columns: list[object]) -> list[tuple[str, str]]:
    return check_interactions(pl.DataFrame(columns), "f").select("user_id", "item_id").rows()


def test_timestamp_orders_before_position_before_file() -> None:
    users, items = ["u", "v", "u", "u"], ["c", "x", "a", "b"]
    by_file = [("u", "c"), ("u", "a"), ("u", "b"), ("v", "x")]
    by_number = [("u", "a"), ("u", "b"), ("u", "c"), ("v", "x")]
    assert order_of(user_id=users, item_id=items) == by_file
    assert order_of(user_id=users, item_id=items, position=[9, 0, 1, 2]) == by_number
    assert (
        order_of(user_id=users, item_id=items, position=[0, 1, 2, 3], timestamp=[9, 0, 1, 2])
        == by_number
    )


def test_ties_keep_the_order_of_the_file() -> None:
    items = [f"i{n}" for n in range(50)]
    stamps = [1 if n % 2 else 0 for n in range(50)]
    found = [i for _, i in order_of(user_id=["u"] * 50, item_id=items, timestamp=stamps)]
    assert found == items[0::2] + items[1::2]


@pytest.mark.parametrize(
    "stamps",
    [
        ["1600000000000000001", "1600000000000000000", "1600000000000000002"],  # not in a float
        ["2.5", "1e0", "3"],
        [2.5, 1.0, 3.0],
        [datetime(2020, 2, 1), datetime(2020, 1, 1), datetime(2020, 3, 1)],
    ],
)
def test_numbers_as_text_floats_and_dates(stamps: list[object]) -> None:
    found = order_of(user_id=["u"] * 3, item_id=["b", "a", "c"], timestamp=stamps)
    assert [i for _, i in found] == ["a", "b", "c"]


def test_ids_become_clean_text() -> None:
    assert order_of(user_id=[1.0, 2.0], item_id=[" 007 ", "7"]) == [("1", "007"), ("2", "7")]
    assert order_of(user_id=[1.5], item_id=[3]) == [("1.5", "3")]


def test_rows_count_from_one_in_the_file() -> None:
    frame = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["b", "a"], "timestamp": [2, 1]})
    assert check_interactions(frame, "f")["row"].to_list() == [2, 1]


def test_missing_columns_name_the_ones_found() -> None:
    message = refused(check_interactions, pl.DataFrame({"User ID": ["u"], "asin": ["i"]}))
    assert "missing user_id, item_id; found User ID, asin; rename 'User ID' to 'user_id'" in message
    assert "missing item_id; found sku" in refused(check_items, pl.DataFrame({"sku": ["i"]}))


@pytest.mark.parametrize("value", [None, "", "   "])
def test_empty_ids(value: str | None) -> None:
    events = pl.DataFrame({"user_id": ["u", value], "item_id": ["i", "j"]})
    shown = "null" if value is None else repr(value)
    message = refused(check_interactions, events)
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
    assert "expected each item once; found 5 bad rows" in message
    assert "(row 1: 'a', row 3: 'a', row 4: ' a' and 2 more); keep one row per item" in message


@pytest.mark.parametrize(
    ("column", "values", "shown"),
    [
        (
            "timestamp",
            ["1", "2014-01-03", None],
            "found 2 bad rows (row 2: '2014-01-03', row 3: null)",
        ),
        ("timestamp", [1.0, float("nan"), 2.0], "found 1 bad row (row 2: nan)"),
        ("timestamp", [True, False, True], "found 3 bad rows (row 1: True"),
        ("position", ["0", "1.5", "x"], "found 2 bad rows (row 2: '1.5', row 3: 'x')"),
    ],
)
def test_order_columns_hold_numbers(column: str, values: list[object], shown: str) -> None:
    frame = pl.DataFrame({"user_id": ["u"] * 3, "item_id": ["i"] * 3, column: values})
    message = refused(check_interactions, frame)
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
