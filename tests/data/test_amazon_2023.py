from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    lines = [json.dumps(dict(record, categories={"a": "b"})) for record in metadata_2023()]
    write_lines(tmp_path / "meta_All_Beauty.jsonl.gz", lines)
    with pytest.raises(DataError, match=r"jsonl\.gz, line 1, field categories: expected a list"):
        tables_of(tmp_path)


def test_one_odd_value_is_null_and_counted(tmp_path: Path, tables: SourceTables) -> None:
    records = metadata_2023()
    records[100]["images"] = ["a"]
    write_2023(tmp_path)
    write_lines(tmp_path / "meta_All_Beauty.jsonl.gz", [json.dumps(record) for record in records])
    odd = tables_of(tmp_path)
    assert odd.counts["odd_metadata_lines"] == 1
    assert item(odd, 101) == item(tables, 101) | {"image": None}
    assert item(odd, 7) == item(tables, 7)


def as_the_hub_has_it() -> list[dict[str, Any]]:
    """The same records in the form that the library ``datasets`` gives them."""
    sizes = ("hi_res", "large", "thumb", "variant")
    return [
        record
        | {
            "images": {size: [image.get(size) for image in record["images"]] for size in sizes},
            "details": json.dumps(record["details"]),
            "price": str(record["price"]),
        }
        for record in metadata_2023()
    ]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "parts"])
def test_what_the_hub_hands_out(tmp_path: Path, tables: SourceTables, kind: str) -> None:
    folder = tmp_path / "hub"
    records = as_the_hub_has_it()
    events = tables.interactions.collect().rename({"item_id": "parent_asin"})
    if kind == "jsonl":
        write_lines(folder / "raw_meta_All_Beauty.jsonl", [json.dumps(row) for row in records])
        events.write_ndjson(folder / "raw_review_All_Beauty.jsonl")
    elif kind == "parquet":
        folder.mkdir()
        pl.DataFrame(records).write_parquet(folder / "raw_meta_All_Beauty.parquet")
        events.write_parquet(folder / "raw_review_All_Beauty.parquet")
    else:
        for name, frame in (("meta", pl.DataFrame(records)), ("review", events)):
            place = folder / f"raw_{name}_All_Beauty"
            place.mkdir(parents=True)
            frame[:100].write_parquet(place / "full-00000-of-00002.parquet")
            frame[100:].write_parquet(place / "full-00001-of-00002.parquet")
    assert amazon_2023.categories_in(folder) == ["All_Beauty"]
    again = tables_of(folder)
    assert again.interactions.collect().equals(tables.interactions.collect())
    columns = ["item_id", "categories", "title", "brand", "description", "image", "main_category"]
    assert again.items.height == tables.items.height
    for number in (0, 2, 3, 4, 7):
        found, known = item(again, number), item(tables, number)
        assert {name: found[name] for name in columns} == {name: known[name] for name in columns}
        assert found["price"] == known["price"]


def test_benchmark_tables_without_metadata(tmp_path: Path, tables: SourceTables) -> None:
    log = tables.interactions.collect().rename({"item_id": "parent_asin"})
    log = log.with_columns(rating=5.0).select("user_id", "parent_asin", "rating", "timestamp")
    folder = tmp_path / "benchmark"
    folder.mkdir()
    log.write_csv(folder / "Gift_Cards.csv")
    read = amazon_2023.read(amazon_2023.find_files(folder, "Gift_Cards") or {}, "g", "Gift_Cards")
    assert read.interactions.collect().rows() == tables.interactions.collect().rows()
    assert read.items["item_id"].to_list() == tables.items["item_id"].to_list()
    (folder / "Gift_Cards.csv").unlink()
    history = log.with_columns(history=pl.lit("A B"))
    for number, part in enumerate(amazon_2023.PARTS):
        history[number::3].write_csv(folder / f"Gift_Cards.{part}.csv")
    assert amazon_2023.categories_in(folder) == ["Gift_Cards"]
    files = amazon_2023.find_files(folder, "Gift_Cards") or {}
    assert list(files) == [f"Gift_Cards.{part}.csv" for part in amazon_2023.PARTS]
    events = amazon_2023.read(files, "g", "Gift_Cards").interactions.collect()
    assert events["position"].unique().sort().to_list() == [0, 1, 2]
    assert events.height == log.height


def test_files_of_another_category(tmp_path: Path) -> None:
    write_2023(tmp_path)
    assert amazon_2023.find_files(tmp_path, "Toys_and_Games") is None
    (tmp_path / "meta_All_Beauty.jsonl.gz").unlink()
    with pytest.raises(DataError, match=r"without meta_All_Beauty\.jsonl; put the missing"):
        amazon_2023.find_files(tmp_path, "All_Beauty")
