"""Tables whose file names do not say what they are: their columns do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hidvae.config import DatasetConfig
from hidvae.data.sources.folder import read_folder, source_files
from hidvae.data.tables import SourceTables
from hidvae.errors import DataError

PRODUCTS = "".join(f"{number},W-{number},Thing {number},A > B\n" for number in range(10, 20))
PRODUCTS = "ID,SKU,Name,Categories\n" + PRODUCTS
ORDERS = "order,date,customer_id,product_id\n" + "".join(
    f"{100 + n},2025-01-{1 + n % 28:02d},{1 + n % 4},{10 + n * 3 % 10}\n" for n in range(24)
)


def folder_of(tmp_path: Path, **files: str) -> DatasetConfig:
    """A folder with files, whose names have ``__`` for the point."""
    for name, content in files.items():
        (tmp_path / name.replace("__", ".")).write_text(content)
    return DatasetConfig(folder=str(tmp_path))


def said(tables: SourceTables) -> str:
    return " ".join(each.text for each in tables.decisions)


def test_tables_of_any_names_are_known_by_their_columns(tmp_path: Path) -> None:
    config = folder_of(tmp_path, wc_products__csv=PRODUCTS, export_7__csv=ORDERS)
    tables = read_folder(config)
    assert set(source_files(config)) == {"wc_products.csv", "export_7.csv"}
    assert tables.items["title"].to_list() == [f"Thing {number}" for number in range(10, 20)]
    assert "export_7.csv: taken for the log" in said(tables)
    assert "wc_products.csv: taken for the items" in said(tables)


def test_of_two_columns_of_ids_the_one_that_the_log_holds_counts(tmp_path: Path) -> None:
    """Before, the SKU was taken, and the run refused as all events name unknown items."""
    config = folder_of(tmp_path, items__csv=PRODUCTS, interactions__csv=ORDERS)
    tables = read_folder(config)
    assert tables.items["item_id"].to_list() == [str(number) for number in range(10, 20)]
    assert "of SKU, ID the log holds ID" in said(tables)
    (tmp_path / "interactions.csv").write_text(
        "customer_id,item_id\n" + "".join(f"{n % 4},W-{10 + n % 10}\n" for n in range(24))
    )
    assert read_folder(config).items["item_id"][0] == "W-10"


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("users__csv", "id,name\n" + "".join(f"{n},Ann {n}\n" for n in range(10, 20))),
        ("extra__csv", "id,name,email\n" + "".join(f"{n},Ann,a@b\n" for n in range(10, 20))),
        ("vectors__csv", "item_id,v0,v1\n" + "".join(f"{n},1,2\n" for n in range(10, 20))),
        ("others__csv", "id,title\n" + "".join(f"{n},T{n}\n" for n in range(50, 70))),
    ],
)
def test_a_table_that_may_be_another_is_not_taken_for_the_items(
    tmp_path: Path, name: str, table: str
) -> None:
    tables = read_folder(folder_of(tmp_path, orders__csv=ORDERS, **{name: table}))
    assert "no items table" in said(tables)
    assert f"{name.replace('__', '.')} not read" in said(tables)


def test_two_logs_are_a_choice_and_columns_that_say_nothing_are_shown(tmp_path: Path) -> None:
    config = folder_of(tmp_path, a__csv=ORDERS, b__csv=ORDERS)
    with pytest.raises(DataError, match=r"one table of events; found a\.csv, b\.csv") as error:
        read_folder(config)
    assert "\n" not in str(error.value)
    config = folder_of(tmp_path, a__csv="x,y\n1,2\n", b__csv="p,q\n1,2\n")
    with pytest.raises(DataError, match=r"a\.csv has x, y; b\.csv has p, q.*column_names"):
        read_folder(config)
    named = DatasetConfig(folder=config.folder, column_names=("user_id=x", "item_id=y"))
    assert set(source_files(named)) == {"a.csv"}


def test_a_fault_of_an_unnamed_table_is_said_as_its_own(tmp_path: Path) -> None:
    config = folder_of(tmp_path, a__json='{"x": [1,', b__json='{"y": [2,')
    with pytest.raises(DataError, match=r"a\.json, line 1"):
        read_folder(config)


def test_names_in_latin_1_above_the_columns(tmp_path: Path) -> None:
    """Before: the codec's own words about surrogates."""
    rows = "".join(f"{n % 4};M{n % 7};0{1 + n % 9}.01.2025;1,20\n" for n in range(28))
    table = "Lesernummer;Signatur;Ausleihdatum;Gebühr\n" + rows
    (tmp_path / "Ausleihen.csv").write_bytes(table.encode("latin-1"))
    books = "Signatur;Titel;Sachgruppe\n" + "".join(
        f"M{n};Der Fluß {n};Märchen\n" for n in range(7)
    )
    (tmp_path / "Medien.csv").write_bytes(books.encode("latin-1"))
    tables = read_folder(DatasetConfig(folder=str(tmp_path)))
    assert tables.items["title"][0] == "Der Fluß 0"
    assert tables.interactions.collect()["user_id"].to_list()[:3] == ["0", "1", "2"]
    assert "datum;Gebühr' in line 1" in said(tables)


def test_what_differs_among_the_events_of_an_item_is_no_title(tmp_path: Path) -> None:
    """The Name of a shop's export is the order's; before, items were called #1001."""
    rows = "".join(f"#{n},u{n % 5},k{n % 6},2025-01-{1 + n:02d}\n" for n in range(24))
    tables = read_folder(folder_of(tmp_path, orders__csv="Name,Email,SKU,Created at\n" + rows))
    assert "title" not in tables.items.columns or tables.items["title"].null_count() == 6
    assert "Name differs among the events of an item" in said(tables)
    rows = "".join(f"Mug {n % 6},u{n % 5},k{n % 6},2025-01-{1 + n:02d}\n" for n in range(24))
    tables = read_folder(folder_of(tmp_path, orders__csv="Name,Email,SKU,Created at\n" + rows))
    assert sorted(tables.items["title"]) == [f"Mug {n}" for n in range(6)]


def test_objects_with_an_id_are_ids(tmp_path: Path) -> None:
    events = [
        {"user": {"id": n % 4, "country": "DE"}, "recipe": {"_id": {"$oid": f"r{n % 5}"}}, "at": n}
        for n in range(20)
    ]
    items = [{"_id": {"$oid": f"r{n}"}, "name": f"Soup {n}"} for n in range(5)]
    config = folder_of(tmp_path, cooked__json=json.dumps(events), recipes__json=json.dumps(items))
    tables = read_folder(config)
    assert tables.items["item_id"].to_list() == [f"r{n}" for n in range(5)]
    log = tables.interactions.collect()
    assert log["item_id"].to_list() == [f"r{n % 5}" for n in range(20)]
    assert log["user_id"].to_list() == [n % 4 for n in range(20)]
    assert "of its objects the _id.$oid counts" in said(tables)
