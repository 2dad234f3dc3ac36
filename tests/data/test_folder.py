from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from hidvae.config import DatasetConfig
from hidvae.data.sources.folder import (
    has_tables,
    match_columns,
    read_folder,
    read_tables,
    source_files,
    table_files,
)
from hidvae.errors import ConfigError, DataError

ITEMS = "sku,name,farbe\n007,Oil,red\n7,Salt,\n"
LOG = "customer,sku,ts,rating\nu,007,1600000000000000001,5\n01,7,2,4\n"
NAMES = ("user_id=customer", "item_id=sku", "timestamp = ts", "title=name")


def shop(tmp_path: Path, items: str = ITEMS, log: str = LOG) -> Path:
    folder = tmp_path / "my-shop"
    folder.mkdir()
    (folder / "items.csv").write_text(items)
    (folder / "interactions.csv").write_text(log)
    return folder


def config_of(folder: Path, *names: str) -> DatasetConfig:
    return DatasetConfig(folder=str(folder), column_names=names)


def test_own_folder_is_read_by_its_name(tmp_path: Path) -> None:
    folder = shop(tmp_path, "item_id\na\n", "user_id,item_id\nu,a\n")
    config = config_of(folder)
    tables = read_folder(config)
    assert tables.name == "my-shop"
    assert tables.items["item_id"].to_list() == ["a"]
    assert isinstance(tables.interactions, pl.LazyFrame)
    files = {name: folder / name for name in ("items.csv", "interactions.csv")}
    assert source_files(config) == table_files(folder) == files
    assert (tables.items_file, tables.interactions_file) == tuple(map(str, files.values()))


def test_columns_get_our_names_and_ids_stay_text(tmp_path: Path) -> None:
    tables = read_folder(config_of(shop(tmp_path), *NAMES))
    assert tables.items.columns == ["item_id", "title", "farbe"]
    assert tables.items["item_id"].to_list() == ["007", "7"]
    log = tables.interactions.collect()
    assert log.columns == ["user_id", "item_id", "timestamp"]  # rating is of no use
    assert log.rows() == [("u", "007", "1600000000000000001"), ("01", "7", "2")]


def test_mapped_ids_stay_text_in_every_format(tmp_path: Path) -> None:
    expected = read_folder(config_of(shop(tmp_path), *NAMES)).interactions.collect()
    text = pl.read_csv(tmp_path / "my-shop" / "interactions.csv", infer_schema=False)
    for number, suffix in enumerate(("tsv", "jsonl", "parquet")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "items.csv").write_text(ITEMS)
        path = folder / f"interactions.{suffix}"
        if suffix == "tsv":
            text.write_csv(path, separator="\t")
        elif suffix == "jsonl":
            text.write_ndjson(path)
        else:
            text.write_parquet(path)
        assert read_folder(config_of(folder, *NAMES)).interactions.collect().equals(expected)


def test_a_log_without_ids_keeps_its_columns_for_the_message(tmp_path: Path) -> None:
    tables = read_folder(config_of(shop(tmp_path), "item_id=sku"))
    assert tables.interactions.collect_schema().names() == ["customer", "item_id", "ts", "rating"]


def test_tables_may_have_different_names_for_one_column() -> None:
    columns = {"items": ["product"], "log": ["user", "sku"]}
    found = match_columns([("item_id", "product"), ("item_id", "sku")], columns)
    assert found == {"items": {"product": "item_id"}, "log": {"sku": "item_id"}}


def test_names_can_be_exchanged() -> None:
    entries = [("title", "keywords"), ("keywords", "title")]
    renames = match_columns(entries, {"items": ["title", "keywords"]})["items"]
    assert renames == {"keywords": "title", "title": "keywords"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("title=nam",), "expected a column of {items} or {log} after the =; found 'nam'; did you"),
        (("title=zzz",), "found 'zzz'; there are sku, name, farbe, customer, sku, ts, rating"),
        (("title=name", "brand=name"), 'each of your columns once; found "title=name" and "brand='),
        (("title=name", "title=farbe"), "one column of {items} for 'title'; found 'name' and 'far"),
        (("name=farbe",), "one column of {items} for 'name'; found 'farbe' and 'name' itself"),
        (("rating=ts",), "expected one column of {log} for 'rating'; found 'ts' and 'rating'"),
    ],
)
def test_names_that_do_not_go_with_the_tables(
    tmp_path: Path, names: tuple[str, ...], expected: str
) -> None:
    folder = shop(tmp_path)
    with pytest.raises(ConfigError) as caught:
        read_folder(config_of(folder, *names))
    files = {"items": folder / "items.csv", "log": folder / "interactions.csv"}
    assert expected.format(**files) in str(caught.value)
    assert str(caught.value).startswith("DatasetConfig.column_names: expected ")
    assert "\n" not in str(caught.value)


def test_nearest_name_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found 'Costumer'; did you mean 'customer'"):
        read_folder(config_of(shop(tmp_path), "user_id=Costumer"))


@pytest.mark.parametrize(("items", "log"), [("item_id\n", LOG), (ITEMS, "user_id,item_id\n")])
def test_empty_tables(tmp_path: Path, items: str, log: str) -> None:
    with pytest.raises(DataError, match="expected at least one row; found 0 rows under"):
        read_folder(config_of(shop(tmp_path, items, log)))


def test_a_folder_with_one_table_says_what_is_missing(tmp_path: Path) -> None:
    assert not has_tables(tmp_path)
    (tmp_path / "items.jsonl.zst").touch()
    assert has_tables(tmp_path)
    with pytest.raises(DataError, match=r"expected a table interactions\.\* .*; found none"):
        table_files(tmp_path)


def test_prepared_tables_are_read_under_a_given_name(tmp_path: Path) -> None:
    folder = shop(tmp_path)
    config = DatasetConfig(source="amazon", dataset_split="beauty")
    assert read_tables(folder, config, "amazon-beauty-2014").name == "amazon-beauty-2014"
