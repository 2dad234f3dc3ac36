from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from tests.data.amazon_samples import NUM_ITEMS, asin, item_of, write_p5

from hidvae.data.sources import amazon_p5
from hidvae.data.tables import SourceTables
from hidvae.errors import DataError


def tables_of(folder: Path) -> SourceTables:
    files = amazon_p5.find_files(folder, "beauty")
    assert files is not None
    return amazon_p5.read(files, "amazon-beauty-2014", "beauty")


def edit_log(folder: Path, row: int, line: str) -> None:
    path = folder / "sequential_data.txt"
    lines = path.read_text().splitlines()
    lines[row] = line
    path.write_text("\n".join(lines))


def test_lines_become_events_in_order(tmp_path: Path) -> None:
    write_p5(tmp_path)
    tables = tables_of(tmp_path)
    events = tables.interactions.collect()
    expected = [(str(u + 1), asin(item_of(u, s)), s) for u in range(60) for s in range(10)]
    assert events.rows() == expected
    assert tables.counts == {
        "broken_lines": 0,
        "broken_metadata_lines": 1,
        "duplicate_metadata_lines": 1,
        "items_without_metadata": 2,
    }


def test_items_are_asins_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_p5(tmp_path)
    items = tables_of(tmp_path).items
    assert items["item_id"].to_list() == [asin(n) for n in range(NUM_ITEMS)]
    assert items["p5_id"].to_list() == list(range(1, NUM_ITEMS + 1))
    assert items["title"][7] == "Lipstick 7"
    assert items["categories"].to_list()[7:9] == [["Beauty", "Makeup", "Lips"], ["Health", "Care"]]


def test_items_that_nobody_has_are_left_out(tmp_path: Path) -> None:
    write_p5(tmp_path)
    maps = json.loads((tmp_path / "datamaps.json").read_text())
    maps["item2id"]["B009999999"] = "999"
    (tmp_path / "datamaps.json").write_text(json.dumps(maps))
    assert "B009999999" not in tables_of(tmp_path).items["item_id"]


@pytest.mark.parametrize("place", [".", "raw", "beauty", "raw/beauty", "data/beauty"])
def test_the_files_are_found_where_archives_put_them(tmp_path: Path, place: str) -> None:
    write_p5(tmp_path / place)
    files = amazon_p5.find_files(tmp_path, "beauty")
    assert files is not None
    assert list(files) == ["sequential_data.txt", "datamaps.json", "meta.json.gz"]
    if place.endswith("beauty"):
        assert amazon_p5.find_files(tmp_path, "toys") is None


def test_a_missing_companion_is_named(tmp_path: Path) -> None:
    write_p5(tmp_path)
    (tmp_path / "datamaps.json").unlink()
    with pytest.raises(DataError, match=r"without datamaps\.json; put the missing files there"):
        amazon_p5.find_files(tmp_path, "beauty")


def test_too_many_broken_lines(tmp_path: Path) -> None:
    write_p5(tmp_path)
    edit_log(tmp_path, 4, "5 12 x 9")
    edit_log(tmp_path, 9, "10")
    with pytest.raises(DataError, match="found 2 of 60 lines broken, first line 5: '5 12 x 9'"):
        tables_of(tmp_path)


def test_a_few_broken_lines_are_counted(tmp_path: Path) -> None:
    write_p5(tmp_path)
    log = tmp_path / "sequential_data.txt"
    more = [f"{user} 1\t2  3 " for user in range(100, 200)]
    log.write_text(log.read_text() + "\n".join(more))
    edit_log(tmp_path, 4, "5 12 x 9")
    tables = tables_of(tmp_path)
    assert tables.counts["broken_lines"] == 1
    events = tables.interactions.collect()
    assert "5" not in events["user_id"]
    assert events.filter(pl.col("user_id") == "150")["item_id"].to_list() == [
        asin(0),
        asin(1),
        asin(2),
    ]


def test_a_user_on_two_lines(tmp_path: Path) -> None:
    write_p5(tmp_path)
    edit_log(tmp_path, 9, "3 1 2 3 4 5")
    with pytest.raises(DataError, match=r"expected each user on one line; found .*row 10: 3"):
        tables_of(tmp_path)


def test_an_item_that_the_maps_do_not_know(tmp_path: Path) -> None:
    write_p5(tmp_path)
    edit_log(tmp_path, 9, "10 1 2 3 4 777")
    with pytest.raises(DataError, match=r"item numbers of .*datamaps\.json; found .*row 10: 777"):
        tables_of(tmp_path)


@pytest.mark.parametrize(
    "maps", ["[]", "{}", "not json", '{"item2id": {"a": "one"}}', '{"item2id": {"a": 1, "b": "1"}}']
)
def test_unusable_maps(tmp_path: Path, maps: str) -> None:
    write_p5(tmp_path)
    (tmp_path / "datamaps.json").write_text(maps)
    with pytest.raises(DataError, match="whose item2id maps ASINs to numbers; found") as caught:
        tables_of(tmp_path)
    assert "\n" not in str(caught.value)
