from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from tests.data.amazon_samples import NUM_ITEMS, asin, metadata_2023, write_2023, write_lines

from hidvae.data.schema import check_items
from hidvae.data.sources import amazon_2023
from hidvae.data.tables import SourceTables
from hidvae.errors import DataError


def tables_of(folder: Path) -> SourceTables:
    files = amazon_2023.find_files(folder, "All_Beauty")
    assert files is not None
    return amazon_2023.read(files, "amazon-all-beauty-2023", "All_Beauty")


@pytest.fixture
def tables(tmp_path: Path) -> SourceTables:
    write_2023(tmp_path)
    return tables_of(tmp_path)


def item(tables: SourceTables, number: int) -> dict[str, object]:
    items = check_items(tables.items, tables.items_file)
    return items.row(by_predicate=pl.col("item_id") == asin(number), named=True)


def test_the_log_is_joined_by_parent_asin(tables: SourceTables) -> None:
    events = tables.interactions.collect(engine="streaming")
    assert events.height == 599
    assert events.row(0) == (f"AG{0:026d}", asin(0), 1_588_687_728_923)
    assert tables.items["item_id"].to_list() == events["item_id"].unique().sort().to_list()
    assert tables.items.height == NUM_ITEMS
    assert tables.counts == {
        "broken_lines": 1,
        "broken_metadata_lines": 1,
        "duplicate_metadata_lines": 1,
        "items_without_metadata": 2,
    }


def test_an_item_in_full(tables: SourceTables) -> None:
    assert item(tables, 7) == {
        "item_id": asin(7),
        "categories": ["Beauty & Personal Care", "Makeup", "Lips"],
        "title": "Lipstick 7",
        "brand": "Acme",
        "price": 12.5,
        "description": "First. Second.",
        "image": "https://m.media-amazon.com/7.jpg",
        "all_category_paths": [["Beauty & Personal Care", "Makeup", "Lips"]],
        "main_category": "All Beauty",
    }


def test_entities_and_blank_labels(tables: SourceTables) -> None:
    tea = item(tables, 0)
    assert tea["title"] == "Tea & Honey"
    assert tea["categories"] == ["Bath & Body"]


def test_what_is_missing_is_null_and_what_stands_in(tables: SourceTables) -> None:
    bare = item(tables, 1)
    assert [bare[name] for name in ("title", "brand", "price", "image")] == [None] * 4
    cheap = item(tables, 2)
    assert cheap["price"] == 12.99
    assert cheap["brand"] == "Brand of details"
    assert cheap["description"] == "Vegan Matte"
    priceless = item(tables, 3)
    assert priceless["price"] is None
    assert priceless["brand"] == "Aqua"
    plain = item(tables, 4)
    assert plain["categories"] is None
    assert plain["description"] is None
    assert plain["image"] == "https://m.media-amazon.com/4_h.jpg"
    assert set(item(tables, 6).values()) == {asin(6), None}


def test_the_first_line_of_an_item_counts(tables: SourceTables) -> None:
    assert item(tables, 5)["title"] == "Lipstick 5"


def test_unpacked_files_are_the_same(tmp_path: Path, tables: SourceTables) -> None:
    write_2023(tmp_path / "plain", suffix="")
    plain = tables_of(tmp_path / "plain")
    assert plain.items.equals(tables.items)
    assert plain.interactions.collect().equals(tables.interactions.collect())


def test_fields_of_another_release_are_refused(tmp_path: Path) -> None:
    write_2023(tmp_path)
    lines = [json.dumps(dict(record, details="Brand: Acme")) for record in metadata_2023()]
    write_lines(tmp_path / "meta_All_Beauty.jsonl.gz", lines)
    with pytest.raises(DataError, match=r"meta_All_Beauty\.jsonl\.gz: expected") as caught:
        tables_of(tmp_path)
    assert "Brand: Acme" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_of_another_category(tmp_path: Path) -> None:
    write_2023(tmp_path)
    assert amazon_2023.find_files(tmp_path, "Toys_and_Games") is None
    (tmp_path / "meta_All_Beauty.jsonl.gz").unlink()
    with pytest.raises(DataError, match=r"without meta_All_Beauty\.jsonl; put the missing"):
        amazon_2023.find_files(tmp_path, "All_Beauty")
