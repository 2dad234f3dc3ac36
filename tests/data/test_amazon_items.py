from __future__ import annotations

import itertools

import polars as pl
import pytest

from hidvae.data.sources.amazon_items import (
    ALL_PATHS,
    METADATA_SCHEMA,
    build_items,
    choose_paths,
    clean_paths,
    parse_price,
)

PATHS = pl.List(pl.List(pl.String))


def chosen(paths: list[list[list[str]] | None], department: str | None = "Beauty") -> list[object]:
    return choose_paths(pl.Series(paths, dtype=PATHS), department).to_list()


def metadata(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=METADATA_SCHEMA)


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ("12.5", 12.5),
        ("$1,299.00", 1299.0),
        ("from 3.99", 3.99),
        ("$5.99 - $10.99", 5.99),
        (".99", 0.99),
        ("7", 7.0),
        ("—", None),
        ("nan", None),
        ("", None),
        (None, None),
    ],
)
def test_prices(price: str | None, expected: float | None) -> None:
    frame = pl.DataFrame({"price": pl.Series([price], dtype=pl.String)})
    assert frame.select(parse_price(pl.col("price"))).item() == expected


def test_paths_of_the_department_come_first() -> None:
    home, away = ["Beauty", "Bath"], ["Health", "Bath", "Soaps", "Bars"]
    assert chosen([[away, home], [away]]) == [home, away]
    assert chosen([[away, home], [away]], department=None) == [away, away]


def test_the_more_common_branch_wins_level_by_level() -> None:
    nails, lips = ["Beauty", "Makeup", "Nails"], ["Beauty", "Makeup", "Lips"]
    rare = ["Beauty", "Gifts", "Sets", "Nails", "Kits"]
    others: list[list[list[str]] | None] = [[nails], [nails], [lips]]
    assert chosen([[rare, lips, nails], *others])[0] == nails
    assert chosen([[rare, lips], *others])[0] == lips


def test_an_item_counts_once_for_a_prefix() -> None:
    many = [["Beauty", "A", str(n)] for n in range(9)]
    two: list[list[list[str]] | None] = [[["Beauty", "B"]], [["Beauty", "B"]]]
    assert chosen([many, [["Beauty", "A", "0"], ["Beauty", "B", "x"]], *two])[1] == [
        "Beauty",
        "B",
        "x",
    ]


def test_a_path_that_goes_on_is_preferred() -> None:
    short, long = ["Beauty", "Makeup"], ["Beauty", "Makeup", "Nails"]
    assert chosen([[short, long], [short]]) == [long, short]


def test_the_order_of_the_paths_does_not_matter() -> None:
    paths = [["Beauty", "B", "x"], ["Beauty", "A", "y"], ["Beauty", "A", "x"], ["Toys", "A"]]
    results = {
        tuple(chosen([list(order)])[0])  # type: ignore[arg-type]
        for order in itertools.permutations(paths)
    }
    assert results == {("Beauty", "A", "x")}


def test_items_without_a_path_get_none() -> None:
    assert chosen([None, [["Beauty"]]]) == [None, ["Beauty"]]
    assert chosen([None, None]) == [None, None]


def test_paths_are_cleaned() -> None:
    raw = [
        [["Bath &amp;amp; Body", " Soap "], ["Bath & Body", "Soap"]],
        [["Beauty", "", "Lost"], ["", "Lost"], []],
        [[""]],
        [],
        None,
    ]
    cleaned = clean_paths(pl.Series(ALL_PATHS, raw, dtype=PATHS))
    assert cleaned.to_list() == [[["Bath & Body", "Soap"]], [["Beauty"]], None, None, None]
    assert cleaned.dtype == PATHS


def test_the_first_of_several_lines_counts_and_no_item_is_lost() -> None:
    found = metadata(
        {"item_id": "b", "title": "first"},
        {"item_id": "b", "title": "second", "brand": "x"},
        {"item_id": "elsewhere", "title": "not in the log"},
    )
    items, counts = build_items(pl.Series(["c", "b", "a"]), found, "Beauty")
    assert items["item_id"].to_list() == ["c", "b", "a"]
    assert items["title"].to_list() == [None, "first", None]
    assert items["brand"].to_list() == [None, None, None]
    assert counts == {"duplicate_metadata_lines": 1, "items_without_metadata": 2}


def test_placeholders_are_missing_values() -> None:
    words = ["nan", "Unknown", "None", " ", "N/A", " Unknown Worlds ", "Nana"]
    found = metadata(*({"item_id": str(n), "brand": word} for n, word in enumerate(words)))
    items, _ = build_items(pl.Series([str(n) for n in range(len(words))]), found, None)
    assert items["brand"].to_list() == [None] * 5 + ["Unknown Worlds", "Nana"]


def test_no_metadata_at_all_is_a_table_of_ids() -> None:
    items, counts = build_items(pl.Series(["a"]), metadata(), "Beauty")
    assert items.row(0) == ("a",) + (None,) * (items.width - 1)
    assert counts["items_without_metadata"] == 1
