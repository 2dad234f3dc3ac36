from __future__ import annotations

import datetime
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from hidvae.data.given import frame_of, given_id, given_ids, given_lists, whole_number
from hidvae.data.sources.frames import tables_from
from hidvae.errors import ConfigError, DataError, HidvaeError

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
torch = pytest.importorskip("torch")


def generator(values: list[Any]) -> Iterator[Any]:
    yield from values


TEXT: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "generator": generator,
    "keys": lambda ids: dict.fromkeys(ids).keys(),
    "NumPy object": lambda ids: np.array(ids, dtype=object),
    "pandas object": lambda ids: pd.Series(ids, dtype=object),
    "pandas index": lambda ids: pd.Index(ids),
    "odd index": lambda ids: pd.Series(ids, index=[9, 0, 0][: len(ids)]),
    "Polars": pl.Series,
    "Arrow": pa.array,
    "Arrow chunks": lambda ids: pa.chunked_array([ids[:1], ids[1:]]),
    "dict": lambda ids: {"item_id": ids, "other": 1},
    "Polars frame": lambda ids: pl.DataFrame({"n": range(len(ids)), "item_id": ids}),
    "lazy": lambda ids: pl.LazyFrame({"n": range(len(ids)), "item_id": ids}),
    "pandas frame": lambda ids: pd.DataFrame({"n": range(len(ids)), "item_id": ids}),
    "Arrow table": lambda ids: pa.table({"n": list(range(len(ids))), "item_id": ids}),
}
ONLY_TEXT: dict[str, Callable[[list[Any]], Any]] = {
    "NumPy text": np.array,
    "pandas string": lambda ids: pd.Series(ids, dtype="string"),
    "pandas category": lambda ids: pd.Series(ids, dtype="category"),
    "Polars category": lambda ids: pl.Series(ids, dtype=pl.Categorical),
    "Arrow dictionary": lambda ids: pa.array(ids).dictionary_encode(),
}
NUMBERS: dict[str, Callable[[list[Any]], Any]] = {
    "NumPy int": np.array,
    "NumPy float": lambda ids: np.array(ids, dtype=np.float32),
    "NumPy unsigned": lambda ids: np.array(ids, dtype=np.uint8),
    "pandas nullable": lambda ids: pd.Series(ids, dtype="Int64"),
    "torch": torch.tensor,
    "scalars": lambda ids: [np.int64(ids[0]), torch.tensor(ids[1]), Decimal(ids[2])],
    "floats": lambda ids: [float(value) for value in ids],
}


@pytest.mark.parametrize("form", [*TEXT, *ONLY_TEXT])
def test_ids_of_every_form(form: str) -> None:
    make = (TEXT | ONLY_TEXT)[form]
    assert given_ids(make(["b", " a", "c "]), "history") == ["b", "a", "c"]
    assert given_ids(make([]), "history") == []


@pytest.mark.parametrize("form", [*TEXT, *NUMBERS])
def test_whole_numbers_are_ids_as_in_tables(form: str) -> None:
    made = (TEXT | NUMBERS)[form]([7, 3, 11])
    found = given_ids(made, "history")
    assert found == ["7", "3", "11"] and all(type(item_id) is str for item_id in found)


def test_what_is_missing_is_left_out() -> None:
    gone = [None, float("nan"), np.nan, pd.NA, pd.NaT, np.datetime64("NaT"), Decimal("NaN"), " "]
    assert given_ids([*gone, "a", *gone], "history") == ["a"]
    for made in (
        pd.Series([7, None, 8]),
        pd.Series([7, None, 8], dtype="Int64"),
        pd.Series(["7", None, "8"], dtype="string"),
        pd.Series(["7", np.nan, "8"], dtype=object),
        pl.Series([7, None, 8]),
        pl.Series([7.0, float("nan"), 8.0]),
        pa.array([7, None, 8]),
        np.ma.masked_array([7, 5, 8], [False, True, False]),
    ):
        assert given_ids(made, "history") == ["7", "8"]


def test_large_and_odd_numbers_keep_their_digits() -> None:
    large = 12345678901234567890
    given = [large, Decimal(large), 7.5, np.float32(0.5), np.array(3), uuid.UUID(int=1)]
    assert given_ids(given, "x") == [
        str(large), str(large), "7.5", "0.5", "3", str(uuid.UUID(int=1))
    ]  # fmt: skip
    assert given_id(np.int32(7), "item_id") == "7"
    with pytest.raises(DataError, match="item_id: expected an item id; found nan"):
        given_id(np.nan, "item_id")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("item-1", r"expected a list of item ids; found the text 'item-1'; put it into a list"),
        (b"item-1", "found the text b'item-1'"),
        ({"a", "b"}, "found a set, which has no order; give a list, oldest first"),
        (frozenset("a"), "found a set"),
        (7, "found 7; put it into a list"),
        (None, "found None; put it into a list"),
        (np.array("a"), "found 'a'; put it into a list"),
        ([["a"], ["b"]], r"found \['a'\] at place 1; for several users use recommend_many"),
        (np.array([["a", "b"]]), "at place 1; for several users"),
        (pl.Series([["a"]]), "at place 1; for several users"),
        (["a", b"b"], "found b'b' at place 2; give its id as text"),
        ([True], "found True at place 1"),
        (np.array([2.0**53]), "a float that has lost digits; give the ids as text"),
        (np.array([True]), "found True at place 1"),
        ([{"item_id": "a"}], "at place 1; give its id as text"),
        ([datetime.date(2024, 1, 1)], "at place 1; give its id as text"),
        ({"sku": ["a"]}, "or a table with the column item_id; found .* with sku; give its column"),
        (pl.DataFrame({"sku": ["a"]}), "found a DataFrame with sku"),
        (pl.LazyFrame({"sku": ["a"]}), "found a LazyFrame with sku"),
        (pd.DataFrame({"sku": ["a"]}), "found a DataFrame with sku"),
        (pa.table({"sku": ["a"]}), "found a Table with sku"),
    ],
)
def test_what_is_no_list_of_ids_is_one_line(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as failed:
        given_ids(given, "history")
    assert "\n" not in str(failed.value) and str(failed.value).startswith("history: expected")


def test_a_set_will_do_where_order_means_nothing() -> None:
    assert sorted(given_ids({"a", "b"}, "items", in_order=False)) == ["a", "b"]


@pytest.mark.parametrize(
    "make",
    [
        list,
        generator,
        lambda lists: pl.Series(lists),
        lambda lists: pd.Series([np.array(each) for each in lists]),
        lambda lists: pa.array(lists),
        lambda lists: np.array(lists),
    ],
)
def test_several_lists_of_every_form(make: Callable[[Any], Any]) -> None:
    lists = given_lists(make([["a", "b"], ["c", "d"]]), "histories")
    assert [given_ids(each, "history") for each in lists] == [["a", "b"], ["c", "d"]]


@pytest.mark.parametrize(
    "given", ["ab", {"u": ["a"]}, pd.DataFrame({"u": [1]}), pl.DataFrame({"u": [1]}), 7]
)
def test_what_is_no_list_of_lists_is_one_line(given: Any) -> None:
    with pytest.raises(DataError, match="histories: expected a list of lists of item ids; found"):
        given_lists(given, "histories")


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)])
def test_whole_numbers_of_any_type(value: Any) -> None:
    assert whole_number(value, "k") == 3 and type(whole_number(value, "k")) is int


@pytest.mark.parametrize("value", [2.0, "2", True, None, np.float64(2), np.array([1, 2])])
def test_others_are_refused_by_name(value: Any) -> None:
    with pytest.raises(ConfigError, match="k: expected a whole number; found"):
        whole_number(value, "k")


# Tables

FRAME = pl.DataFrame({"user_id": [*"uuvv"], "item_id": [*"abba"], "timestamp": [1, 2, 3, 4]})
FORMS: dict[str, Callable[[], Any]] = {
    "dict": lambda: FRAME.to_dict(as_series=False),
    "dict of arrays": lambda: {name: FRAME[name].to_numpy() for name in FRAME.columns},
    "dict of series": lambda: {name: FRAME[name].to_pandas() for name in FRAME.columns},
    "dict of Arrow": lambda: {name: FRAME[name].to_arrow() for name in FRAME.columns},
    "rows": FRAME.to_dicts,
    "lazy": FRAME.lazy,
    "Arrow table": FRAME.to_arrow,
    "Arrow batch": lambda: FRAME.to_arrow().to_batches()[0],
    "pandas": FRAME.to_pandas,
    "odd index": lambda: FRAME.to_pandas().set_index(pd.Index([5, 5, 1, 0])),
    "index of ids": lambda: FRAME.to_pandas().set_index("item_id"),
    "index of two": lambda: FRAME.to_pandas().set_index(["user_id", "timestamp"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_tables_of_every_form(form: str) -> None:
    tables = tables_from(None, FORMS[form]())
    assert tables.interactions.select(FRAME.columns).collect().equals(FRAME)


def test_an_index_that_means_nothing_is_left_out() -> None:
    frame = FRAME.to_pandas()
    plain = tables_from(None, frame).fingerprints
    assert tables_from(None, frame.rename_axis("row")).fingerprints == plain
    twice = frame.set_index("item_id", drop=False)
    assert tables_from(None, twice).fingerprints == plain


def test_missing_cells_are_null() -> None:
    rows = [{"item_id": "a", "title": "x", "price": 1.5}, {"item_id": "b", "title": np.nan}]
    columns = {
        "item_id": ["a", "b"],
        "title": ["x", float("nan")],
        "price": np.array([1.5, np.nan]),
    }
    for given in (rows, columns, pd.DataFrame(rows)):
        assert frame_of(given, "items").collect()["title"].to_list() == ["x", None]
        assert frame_of(given, "items").collect()["price"].to_list() == [1.5, None]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (7, "items: expected a Polars or pandas frame, a dict of columns or a list of rows; found"),
        (pl.Series(["a"]), "found a Series"),
        ([["a"]], r"expected a mapping from column to value per row; found \['a'\]"),
        ({"item_id": "a"}, "column item_id: expected a list of values; found 'a'"),
        ({"item_id": 7}, "column item_id: expected a list of values; found 7"),
        ({"item_id": ["a", "b"], "title": ["x"]}, "expected columns of one type and length each"),
        ({"item_id": ["a", 7]}, "expected columns of one type and length each"),
        (pd.DataFrame({"item_id": ["a", 7]}), "expected columns of one type"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "expected columns of one type"),
    ],
)
def test_what_is_no_table_is_one_line(given: Any, message: str) -> None:
    with pytest.raises(HidvaeError, match=message) as failed:
        frame_of(given, "items").collect()
    assert "\n" not in str(failed.value)
