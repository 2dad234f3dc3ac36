from __future__ import annotations

import polars as pl
import pytest

from hidvae.config import DatasetConfig
from hidvae.data.events import read_events
from hidvae.data.ids import NO_ID_WORDS, drops_zero, find_spelling, ids_as_text, is_no_id
from hidvae.data.notes import Notes
from hidvae.data.schema import check_events, check_items
from hidvae.data.sources.frames import tables_from
from hidvae.data.tables import SourceTables
from hidvae.errors import DataError


def as_text(values: pl.Series) -> list[str | None] | None:
    found = ids_as_text(values.alias("item_id").to_frame(), "item_id", "f", Notes(), 1)
    return None if found is None else found.to_list()


def test_whole_numbers_are_the_same_in_every_type() -> None:
    for dtype in (pl.Int8, pl.UInt64, pl.Float32, pl.Float64, pl.Decimal(10, 2), pl.String):
        assert as_text(pl.Series([7, None, 12]).cast(dtype)) == ["7", None, "12"], dtype
    assert as_text(pl.Series(["a", "b"], dtype=pl.Categorical)) == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (pl.Series([1.0, 2.0**53]), "row 2: 9007199254740992.0"),
        (pl.Series([2.0**24], dtype=pl.Float32), "row 1: 16777216.0"),
        (pl.Series(["1.23457E+12"]), "row 1: '1.23457E+12'"),
        (pl.Series(["100000", "1e+16"]), "row 2: '1e+16'"),
    ],
)
def test_ids_that_lost_digits_are_refused(values: pl.Series, shown: str) -> None:
    with pytest.raises(DataError) as caught:
        as_text(values)
    assert "f, column item_id: expected ids with all their digits" in str(caught.value)
    assert shown in str(caught.value)


@pytest.mark.parametrize("values", [[[1]], [{"a": 1}], [b"a"], [True]])
def test_types_that_name_nothing(values: list[object]) -> None:
    with pytest.raises(DataError, match="expected text or whole numbers; found"):
        as_text(pl.Series(values))


def test_words_for_no_id() -> None:
    words = pl.Series([*NO_ID_WORDS, "NULL", "NaN", r"\N", "0", "Nan1", None])
    assert is_no_id(words).to_list() == [True] * (len(NO_ID_WORDS) + 3) + [False] * 3


def test_point_zero_counts_if_all_ids_have_it() -> None:
    notes = Notes()
    assert drops_zero(pl.LazyFrame({"item_id": ["27.0", "NA", " 3.0", ""]}), "item_id", "f", notes)
    assert not drops_zero(pl.LazyFrame({"item_id": ["27.0", "3"]}), "item_id", "f", notes)
    assert not drops_zero(pl.LazyFrame({"item_id": [27.0]}), "item_id", "f", notes)
    assert len(notes.decisions) == 1
    items = check_items(pl.DataFrame({"item_id": ["27.0", "3.00"]}), "f")
    assert items["item_id"].to_list() == ["27", "3"]
    log = pl.DataFrame({"user_id": ["1.0", "x"], "item_id": ["27.0", "3.0"]})
    assert check_events(log, "f").select("user_id", "item_id").rows() == [("1.0", "27"), ("x", "3")]


@pytest.mark.parametrize(
    ("written", "known", "difference"),
    [
        ("27.0", "27", ".0 at the end"),
        ("007", "7", "leading zeros"),
        ("7", "007", "leading zeros"),
        ("sku1", "SKU1", "upper and lower case"),
        ("sku 1", "sku1", "blanks"),
        ("sku\u200b1", "sku1", "blanks"),
        ("Caf\u0065\u0301", "Caf\u00e9", "the Unicode form"),
        ("\uff13", "3", "the Unicode form"),
        ("SKU-007.0", "sku-007.0 ", "blanks, upper and lower case"),
        ("007.0", "7", ".0 at the end, leading zeros"),
    ],
)
def test_the_difference_is_named(written: str, known: str, difference: str) -> None:
    unknown = pl.DataFrame({"item_id": [written, "other"], "count": [3, 1]})
    found = find_spelling(unknown, pl.Series("item_id", ["zzz", known]))
    assert found is not None
    assert (found.difference, found.num_events) == (difference, 3)
    assert (found.log_id, found.known_id) == (written, known)


def test_other_ids_have_no_spelling() -> None:
    unknown = pl.DataFrame({"item_id": ["x"], "count": [3]})
    assert find_spelling(unknown, pl.Series("item_id", ["y"])) is None


def tables_of(items: list[str], log: list[str]) -> tuple[SourceTables, pl.DataFrame]:
    frame = pl.DataFrame({"item_id": items})
    users = [f"u{number % 2}" for number in range(len(log))]
    events = pl.LazyFrame({"user_id": users, "item_id": log, "timestamp": range(len(log))})
    return SourceTables("shop", frame, events, "items", "log"), check_items(frame, "items")


def test_loose_ids_are_joined_and_said() -> None:
    tables, items = tables_of(["1", "2", "X"], ["01", "2", "x", "01"])
    notes = Notes()
    events, size = read_events(tables, items, notes, DatasetConfig(match_ids="loose"))
    assert events.item.tolist() == [0, 1, 2, 0]
    assert size.num_unknown == 0
    assert "log, column item_id: 2 ids joined with another spelling in items, such as '01'" in str(
        notes.decisions
    )
    notes = Notes()
    events, size = read_events(tables, items, notes)
    assert (events.item.tolist(), size.num_unknown) == ([1], 3)
    said = next(each for each in notes.decisions if "differ from known ones" in each.text)
    assert (
        "the ids of 3 events differ from known ones only by upper and lower case, leading zeros"
        in said.text
    )
    assert said.change == "DatasetConfig.match_ids=loose"


def test_the_error_says_how_the_ids_differ() -> None:
    tables, items = tables_of(["7", "8"], ["007", "008"])
    with pytest.raises(DataError) as caught:
        read_events(tables, items, Notes())
    assert "such as '007' for '7'; --set DatasetConfig.match_ids=loose joins them" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("items", "log", "message"),
    [
        (["a", "A"], ["a", "A", " a-", "Ａ"], "items, column item_id: .* 'A' and 'a', which"),
        (["a", "b"], ["a", "A", "b"], "log, column item_id: .* 'A' and 'a', which would be one"),
        (["7", "b"], ["07", "007", "b"], "log, column item_id: .* '007' and '07', which"),
    ],
)
def test_two_ids_of_one_table_stay_apart(items: list[str], log: list[str], message: str) -> None:
    tables, checked = tables_of(items, log)
    with pytest.raises(DataError, match=message):
        read_events(tables, checked, Notes(), DatasetConfig(match_ids="loose"))


def test_numbers_with_an_exponent_are_the_numbers() -> None:
    notes = Notes()
    log = pl.DataFrame({"user_id": ["1e+05", "100000"], "item_id": ["1.2E+07", "12000000"]})
    events = check_events(log, "f", notes=notes)
    assert events.select("user_id", "item_id").rows() == [("100000", "12000000")] * 2
    assert [decision.text for decision in notes.decisions] == [
        f"f, column {name}: whole numbers written with an exponent, such as 1e+05 for 100000, are "
        "taken for the numbers"
        for name in ("user_id", "item_id")
    ]
    others = ["1e05", "1e+5", "e+05", "x1e+05"]
    assert as_text(pl.Series(others)) == others


def test_items_of_a_log_with_exponents() -> None:
    log = {"user_id": ["u", "u", "v"], "item_id": ["100000", "1e+05", "7"], "title": ["a", "b", ""]}
    tables = tables_from(None, log)
    assert tables.items.rows() == [("100000", "b"), ("7", None)]
    assert "its 2 items" in tables.decisions[1].text


@pytest.mark.parametrize(
    ("items", "log"), [(["1e+05", "7"], ["100000", "7"]), (["100000", "7"], ["1e+05", "7"])]
)
def test_an_exponent_in_one_table(items: list[str], log: list[str]) -> None:
    tables, checked = tables_of(items, log)
    events, size = read_events(tables, checked, Notes())
    assert (events.item.tolist(), size.num_unknown) == ([0, 1], 0)
