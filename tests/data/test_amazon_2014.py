from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from tests.data.amazon_samples import NUM_ITEMS, asin, metadata_2014, write_2014, write_lines

from hidvae.data.schema import check_items
from hidvae.data.sources import amazon_2014
from hidvae.data.tables import SourceTables
from hidvae.errors import DataError


def tables_of(folder: Path) -> SourceTables:
    files = amazon_2014.find_files(folder, "beauty")
    assert files is not None
    return amazon_2014.read(files, "amazon-beauty-2014", "beauty")


@pytest.fixture
def tables(tmp_path: Path) -> SourceTables:
    write_2014(tmp_path)
    return tables_of(tmp_path)


def item(tables: SourceTables, number: int) -> dict[str, object]:
    items = check_items(tables.items, tables.items_file)
    return items.row(by_predicate=pl.col("item_id") == asin(number), named=True)


def test_log_and_counts(tables: SourceTables) -> None:
    events = tables.interactions.collect(engine="streaming")
    assert events.height == 598
    assert events.row(0) == ("A0000000000000", asin(0), 1_389_916_800)
    assert events["timestamp"].diff().drop_nulls().unique().sort()[-1] == 86_400  # whole days
    assert tables.counts == {
        "broken_lines": 2,
        "broken_metadata_lines": 1,
        "duplicate_metadata_lines": 1,
        "items_without_metadata": 2,
    }
    assert tables.name == "amazon-beauty-2014"


def test_items_are_those_of_the_log(tables: SourceTables) -> None:
    logged = tables.interactions.collect()["item_id"].unique().sort()
    assert tables.items["item_id"].to_list() == logged.to_list()
    assert tables.items.height == NUM_ITEMS


def test_an_item_in_full(tables: SourceTables) -> None:
    assert item(tables, 7) == {
        "item_id": asin(7),
        "categories": ["Beauty", "Makeup", "Lips"],
        "title": "Lipstick 7",
        "brand": "Acme",
        "price": 17.0,
        "description": None,
        "image": "http://ecx.images-amazon.com/images/I/7.jpg",
        "all_category_paths": [["Health", "Care"], ["Beauty", "Makeup", "Lips"]],
    }


def test_entities_are_decoded_and_the_departments_path_taken(tables: SourceTables) -> None:
    tea = item(tables, 0)
    assert tea["title"] == "Tea & Honey"
    assert tea["description"] == '5" tall'
    assert tea["categories"] == ["Beauty", "Bath & Body"]
    assert tea["all_category_paths"] == [
        ["Health", "Bath"],
        ["Beauty", "Bath & Body"],
    ]


def test_what_is_missing_is_null(tables: SourceTables) -> None:
    bare = item(tables, 1)
    assert [bare[name] for name in ("title", "brand", "price", "image")] == [None] * 4
    named = item(tables, 2)
    assert [named[name] for name in ("title", "brand", "price")] == [None, None, 1299.0]
    assert item(tables, 3)["categories"] is None
    assert item(tables, 8)["categories"] == ["Health", "Care"]
    assert set(item(tables, 6).values()) == {asin(6), None}  # no metadata
    broken = tables.items["item_id"].to_list().index(asin(51))
    assert tables.items["title"][broken] is None  # its only line is broken


def test_quotes_inside_a_literal(tables: SourceTables) -> None:
    assert item(tables, 4)["title"] == "Dr. Scholl's 'asin': 'X' balm"


def test_the_first_line_of_an_item_counts(tables: SourceTables) -> None:
    assert item(tables, 5)["title"] == "Lipstick 5"


def test_a_literal_cannot_run_code(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    lines = [repr(record) for record in metadata_2014()]
    lines[8] = f"{{'asin': '{asin(9)}', 'title': open({str(target)!r}, 'w').write('x')}}"
    path = write_lines(tmp_path / "meta.json", lines)
    wanted = pl.Series([asin(n) for n in range(NUM_ITEMS)])
    found, num_broken = amazon_2014.read_metadata(path, wanted)
    assert num_broken == 1
    assert asin(9) not in found["item_id"]
    assert not target.exists()


def test_lines_of_other_items_are_not_parsed(tmp_path: Path) -> None:
    lines = [repr({"asin": "a", "title": "A"}), "{'asin': 'b', 'title': oops}"]
    found, num_broken = amazon_2014.read_metadata(
        write_lines(tmp_path / "meta.json", lines), pl.Series(["a"])
    )
    assert found["item_id"].to_list() == ["a"]
    assert num_broken == 0


def test_a_line_without_an_asin_is_broken(tmp_path: Path) -> None:
    lines = [repr({"asin": str(n)}) for n in range(150)] + ["{'title': 'whose?'}"]
    wanted = pl.Series([str(n) for n in range(150)])
    found, num_broken = amazon_2014.read_metadata(write_lines(tmp_path / "m.json", lines), wanted)
    assert (found.height, num_broken) == (150, 1)


def test_a_metadata_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "meta.json", ["", "<html>", "</html>"])
    with pytest.raises(DataError) as caught:
        amazon_2014.read_metadata(path, pl.Series(["a"]))
    assert "found 2 of 2 lines broken, first line 2: '<html>'; download" in str(caught.value)


def test_files_may_be_unpacked_and_the_5_core_is_preferred(tmp_path: Path) -> None:
    write_2014(tmp_path, log="reviews_Beauty.json")
    files = amazon_2014.find_files(tmp_path, "beauty")
    assert files is not None
    assert list(files) == ["reviews_Beauty.json", "meta_Beauty.json.gz"]
    assert tables_of(tmp_path).interactions.collect().height == 598
    write_2014(tmp_path)
    files = amazon_2014.find_files(tmp_path, "beauty")
    assert files is not None
    assert list(files) == ["reviews_Beauty_5.json.gz", "meta_Beauty.json.gz"]
    assert amazon_2014.find_files(tmp_path, "toys") is None


def test_a_log_without_metadata_is_refused(tmp_path: Path) -> None:
    write_2014(tmp_path)
    (tmp_path / "meta_Beauty.json.gz").unlink()
    with pytest.raises(DataError, match=r"without meta_Beauty\.json; put the missing files there"):
        amazon_2014.find_files(tmp_path, "beauty")
