from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from hidvae.config import DatasetConfig
from hidvae.data.prepare import read_source
from hidvae.data.schema import check_events, check_items
from hidvae.data.sources.folder import has_tables, read_folder, source_files
from hidvae.data.sources.recbole import name_fields
from hidvae.data.tables import SourceTables
from hidvae.errors import DataError

INTER = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "196\t007\t3\t881250949\n"
    "22\t7\t1\t8.78887116e8\n"
)
ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "007\tToy Story\t1995\tAnimation Children's Comedy\n"
    '7\t"Net", the uncut\t\t\n'
)


def dataset(tmp_path: Path, **files: str) -> DatasetConfig:
    folder = tmp_path / "ml-tiny"
    folder.mkdir()
    for kind, content in files.items():
        (folder / f"ml-tiny.{kind}").write_text(content)
    return DatasetConfig(folder=str(folder))


def checked(tables: SourceTables) -> tuple[pl.DataFrame, pl.DataFrame]:
    items = check_items(tables.items, tables.items_file)
    return items, check_events(tables.interactions.collect(), tables.interactions_file)


def test_atomic_files_are_read(tmp_path: Path) -> None:
    user = "user_id:token\tage:token\n196\t49\n"
    config = dataset(tmp_path, inter=INTER, item=ITEM, user=user, link="ignored")
    assert has_tables(Path(config.folder))
    assert list(source_files(config)) == ["ml-tiny.item", "ml-tiny.inter"]
    tables = read_folder(config)
    assert (tables.name, dict(tables.counts)) == ("ml-tiny", {})
    items, events = checked(tables)
    assert items.to_dict(as_series=False) == {
        "item_id": ["007", "7"],
        "categories": [["Animation", "Children's", "Comedy"], None],
        "title": ["Toy Story", '"Net", the uncut'],
        "release_year": ["1995", None],
    }
    assert events.rows() == [("196", "007", 881250949.0, 2), ("22", "7", 878887116.0, 3)]


def test_compressed_and_renamed(tmp_path: Path) -> None:
    config = dataset(tmp_path, item=ITEM.replace("item_id", "movie_id"))
    log = INTER.replace("user_id", "uid")
    (tmp_path / "ml-tiny" / "ml-tiny.inter.gz").write_bytes(gzip.compress(log.encode()))
    names = ("user_id=uid", "item_id=movie_id", "title=release_year")
    items, events = checked(read_folder(DatasetConfig(folder=config.folder, column_names=names)))
    assert items["item_id"].to_list() == events["item_id"].to_list() == ["007", "7"]
    assert items["title"].to_list() == ["1995", None]  # yours comes before the usual field
    assert "movie_title" in items.columns


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("categories", ["A B > C", "A B"]),
        ("category", ["A B|C", "A B"]),
        ("genre", ["'A B', 'C'", "A B"]),
        ("class", ["A_B  C ", " A_B"]),
    ],
)
def test_labels_of_a_path(field: str, values: list[str]) -> None:
    found = name_fields(pl.DataFrame({"item_id": ["a", "b", "c"], field: [*values, None]}))
    labels = check_items(found, "f")["categories"].to_list()
    first = values[0][1:4] if "'" in values[0] else values[0][:3]
    assert labels == [[first, "C"], [first], None]


def test_items_can_come_from_the_log(tmp_path: Path) -> None:
    tables = read_folder(dataset(tmp_path, inter=INTER + " 007 \t7\t1\t5\n196\t \t1\t6\n"))
    assert tables.items.to_dict(as_series=False) == {"item_id": ["007", "7"]}
    assert dict(tables.counts) == {"items_from_log": 2}


def test_items_of_a_log_come_in_its_order(tmp_path: Path) -> None:
    ids = [str(n * 7919 % 5003) for n in range(5000)]
    lines = "".join(f"u\t{item}\t1\t1\n" for item in ids * 2)
    tables = read_folder(dataset(tmp_path, inter=INTER.splitlines()[0] + "\n" + lines))
    assert tables.items["item_id"].to_list() == ids


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"inter": "user_id\titem_id\nu\ti\n"}, "expected a header of name:type with tabs"),
        ({"inter": INTER, "train.inter": INTER}, r"one \*.inter file; found ml-tiny.inter, ml-ti"),
        ({"inter": "a:token\ta:float\n1\t2\n"}, "each field once; found 'a' with two types"),
        ({"inter": ""}, "found an empty file"),
        ({"inter": "user_id:token\twhat:token\nu\ti\n"}, "missing item_id; found user_id, what"),
        (
            {"inter": "user_id:token\titem_id:token\nu\ti\tx\n"},
            r"expected 2 values in each line, with tabs between; found 3 values in line 2 \('u",
        ),
        ({"inter": INTER, "item": "item_id:token\n"}, "found 0 rows under the columns item_id"),
    ],
)
def test_files_that_break_the_format(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    config = dataset(tmp_path, **files)
    with pytest.raises(DataError, match=expected) as caught:
        checked(read_folder(config))
    assert "\n" not in str(caught.value)


LISTS = "user_id:token\titem_id_list:token_seq\titem_id:token\ttimestamp:float\n"


@pytest.mark.parametrize(
    "rows",
    [
        ["a b\tc", "a\tb", "a b c\td"],
        ["a b c\td"],
        ["a\tb", "a b c\td"],
        ["a\tb", "a b\tc", "b c\td"],  # lists of two at most
        ["\ta", "a\tb", "a b\tc", "a b c\td"],
    ],
)
def test_rows_with_the_history_before_the_target(tmp_path: Path, rows: list[str]) -> None:
    lines = [f"u\t{row}\t9\n" for row in rows]
    other = "v\tc\td\t7\n"
    _, events = checked(read_folder(dataset(tmp_path, inter=LISTS + other + "".join(lines))))
    histories = {
        user: events.filter(user_id=user).sort("position")["item_id"].to_list() for user in "uv"
    }
    assert histories == {"u": ["a", "b", "c", "d"], "v": ["c", "d"]}
    assert events.filter(user_id="v")["row"].to_list() == [2, 2]


def test_histories_in_parts(tmp_path: Path) -> None:
    header = LISTS.replace("user_id", "session_id")
    parts = {"train": "u\ta\tb\t1", "valid": "u\ta b\tc\t2", "test": "u\ta b c\td\t3"}
    files = {f"{part}.inter": f"{header}{row}\n" for part, row in parts.items()}
    tables = read_source(dataset(tmp_path, **files))
    assert tables.interactions.collect().sort("position")["item_id"].to_list() == list("abcd")
    assert any("a user's history, item_id_list" in each.text for each in tables.decisions)


@pytest.mark.parametrize("field", ["user_id", "item_id"])
def test_histories_without_user_or_target(tmp_path: Path, field: str) -> None:
    inter = LISTS.replace(f"{field}:", "other:") + "u\ta\tb\t1\n"
    with pytest.raises(DataError, match="expected the fields user_id and item_id, the target"):
        read_folder(dataset(tmp_path, inter=inter))


def test_two_formats_at_once(tmp_path: Path) -> None:
    config = dataset(tmp_path, inter=INTER)
    (tmp_path / "ml-tiny" / "items.csv").write_text("item_id\n1\n")
    with pytest.raises(DataError, match="either items.* or RecBole's files; found both"):
        read_folder(config)
