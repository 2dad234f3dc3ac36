from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from hidvae.config import DatasetConfig
from hidvae.data.schema import check_items
from hidvae.data.sources.folder import (
    has_tables,
    match_columns,
    read_folder,
    read_tables,
    source_files,
    table_files,
)
from hidvae.data.tables import LINE, SourceTables, names_of
from hidvae.errors import ConfigError, DataError

ITEMS = "sku,name,farbe\n007,Oil,red\n7,Salt,\n"
LOG = "customer,sku,ts,rating\nu,007,1600000000000000001,5\n01,7,2,4\n"
NAMES = ("user_id=customer", "item_id=sku", "timestamp = ts", "title=name")


def shop(tmp_path: Path, items: str = ITEMS, log: str = LOG) -> Path:
    folder = tmp_path / "my-shop"
    folder.mkdir(parents=True)
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
    assert source_files(config) == table_files(folder, config) == files
    assert (tables.items_file, tables.interactions_file) == tuple(map(str, files.values()))


def test_columns_get_our_names_and_ids_stay_text(tmp_path: Path) -> None:
    tables = read_folder(config_of(shop(tmp_path), *NAMES))
    assert tables.items.columns == [LINE, "item_id", "title", "farbe"]
    assert tables.items["item_id"].to_list() == ["007", "7"]
    log = tables.interactions.collect()
    assert log.columns == [LINE, "user_id", "item_id", "timestamp"]  # rating is of no use
    assert log.rows() == [(2, "u", "007", "1600000000000000001"), (3, "01", "7", "2")]


def test_mapped_ids_stay_text_in_every_format(tmp_path: Path) -> None:
    expected = read_folder(config_of(shop(tmp_path), *NAMES)).interactions.drop(LINE)
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
        found = read_folder(config_of(folder, *NAMES)).interactions.drop(LINE, strict=False)
        assert found.collect().equals(expected.collect())


def test_a_log_without_ids_keeps_its_columns_for_the_message(tmp_path: Path) -> None:
    folder = shop(tmp_path, log=LOG.replace("customer", "who"))
    tables = read_folder(config_of(folder, "item_id=sku"))
    assert names_of(tables.interactions) == ["who", "item_id", "ts", "rating"]


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


def test_a_name_that_is_nearly_ours_is_said(tmp_path: Path) -> None:
    tables = read_folder(config_of(shop(tmp_path), *NAMES[:3], "titlle=name", "colour=farbe"))
    assert "titlle" in tables.items.columns
    said = [decision.said for decision in tables.decisions]
    assert (
        "DatasetConfig.column_names: 'titlle' is no column that is used; did you mean 'title'? "
        '(DatasetConfig.column_names=["title=name"])'
    ) in said
    assert not any("colour" in each for each in said)


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
        table_files(tmp_path, DatasetConfig())


def test_prepared_tables_are_read_under_a_given_name(tmp_path: Path) -> None:
    folder = shop(tmp_path)
    config = DatasetConfig(source="amazon", dataset_split="beauty")
    assert read_tables(folder, config, "amazon-beauty-2014").name == "amazon-beauty-2014"


def said_of(tables: SourceTables) -> list[str]:
    return [re.sub(r"\S*/", "", decision.text) for decision in tables.decisions]


def test_usual_names_are_recognised_and_said(tmp_path: Path) -> None:
    items = "movieId,movie_title,Genres\n007,Oil,a|b\n7,Salt,c\n"
    log = "userId,movieId,rating,visited\n01,007,5,2014-01-03\n2,7,3,2014-01-04\n"
    tables = read_folder(config_of(shop(tmp_path, items, log)))
    assert names_of(tables.items) == ["item_id", "title", "categories"]
    assert tables.items["item_id"].to_list() == ["007", "7"]
    assert tables.interactions.drop(LINE).collect().rows() == [
        ("01", "007", "2014-01-03"),
        ("2", "7", "2014-01-04"),
    ]
    assert said_of(tables) == [
        "interactions.csv: columns taken by their names: user_id=userId, item_id=movieId, "
        "timestamp=visited",
        "items.csv: columns taken by their names: item_id=movieId, title=movie_title, "
        "categories=Genres",
    ]


def test_names_that_could_both_be_it(tmp_path: Path) -> None:
    items = "item_id,title\n1,a\n"
    both = shop(tmp_path / "1", items, "customer,uid,item_id\nu,v,1\n")
    with pytest.raises(DataError, match="expected a column user_id; found 'customer', 'uid', each"):
        read_folder(config_of(both))
    won = read_folder(config_of(both, "user_id=uid"))
    assert won.interactions.collect()["user_id"].to_list() == ["v"]


def test_a_time_needs_the_values_of_one(tmp_path: Path) -> None:
    log = "user_id,item_id,time,when\nu,1,35,2014-01-03\nu,1,12,2014-01-04\n"
    tables = read_folder(config_of(shop(tmp_path, "item_id\n1\n", log)))
    assert tables.interactions.collect()["timestamp"].to_list() == ["2014-01-03", "2014-01-04"]
    assert said_of(tables) == [
        "interactions.csv: 'when' is taken for the timestamp, as its values are times"
    ]
    assert tables.decisions[0].change == 'DatasetConfig.column_names=["timestamp=when"]'


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("category_1,category_2,category_3", ()),
        ("l1,l2,l3", ()),
        ("Main_Category,Sub_Category,price", ()),
        ("hierarchicalCategories.lvl0,hierarchicalCategories.lvl1,x", ()),
        ("a,b,c", ("categories=a>b>c",)),
    ],
)
def test_paths_in_several_columns(tmp_path: Path, header: str, names: tuple[str, ...]) -> None:
    items = f"item_id,{header}\n1,Home,Light,7\n2,Home,,\n"
    tables = read_folder(config_of(shop(tmp_path, items, "user_id,item_id\nu,1\n"), *names))
    paths = check_items(tables.items, "f")["categories"].to_list()
    num_levels = 2 if header.endswith(("price", "x")) else 3
    assert paths == [["Home", "Light", "7"][:num_levels], ["Home"]]
    assert any("the category path stands in" in text for text in said_of(tables))


def test_levels_that_repeat_the_path_so_far(tmp_path: Path) -> None:
    items = "item_id,lvl0,lvl1\n1,Home,Home > Light\n2,Home,\n"
    tables = read_folder(config_of(shop(tmp_path, items, "user_id,item_id\nu,1\n")))
    assert check_items(tables.items, "f")["categories"].to_list() == [["Home", "Light"], ["Home"]]


def test_a_level_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found 'farb'; did you mean 'farbe'"):
        read_folder(config_of(shop(tmp_path), *NAMES, "categories=farb>name"))


def test_a_log_brings_its_items(tmp_path: Path) -> None:
    log = "user_id,item_id,time,product_name,category,price\n"
    log += "u,1,2014-01-03,Oil,A,\nv,1,2014-01-04,,B,3\nv,NA,2014-01-04,x,y,1\nu,2,2014-01-05,,,\n"
    folder = shop(tmp_path, "", log)
    (folder / "items.csv").unlink()
    tables = read_folder(config_of(folder))
    assert tables.items.rows() == [("1", "Oil", "B", "3"), ("2", None, None, None)]
    assert said_of(tables)[-1] == (
        "interactions.csv: no items table, so its 2 items with their last known title, categories, "
        "price"
    )
    (folder / "interactions.csv").write_text("user_id,item_id,timestamp\nu,1,5\n")
    assert said_of(read_folder(config_of(folder))) == [
        "interactions.csv: no items table, so its 1 item with ids only"
    ]


def test_events_are_rows_that_fulfil_the_conditions(tmp_path: Path) -> None:
    folder = shop(tmp_path, log="userId,sku,ts,rating\nu,007,5,5\nu,7,6,3\nv,7,7,4\n")

    def users(*conditions: str) -> list[str]:
        config = DatasetConfig(folder=str(folder), column_names=NAMES[1:], events_where=conditions)
        tables = read_folder(config)
        assert any("rows are events, as " in text for text in said_of(tables))
        return tables.interactions.collect()["user_id"].to_list()

    assert users("rating >= 4") == ["u", "v"]
    assert users("rating >= 4", "user_id = v", "ts > 6") == ["v"]
    with pytest.raises(DataError, match="expected rows that fulfil .* found none of 3"):
        users("rating > 5")


@pytest.mark.parametrize(
    ("log", "items"),
    [("events.csv", None), ("ratings.tsv", "products.csv"), ("what_they_took.csv", None)],
)
def test_tables_of_other_names_are_found_and_said(
    log: str, items: str | None, tmp_path: Path
) -> None:
    separator = "\t" if log.endswith("tsv") else ","
    rows = [("user_id", "item_id"), ("u", "a"), ("u", "b"), ("v", "b"), ("v", "a")]
    (tmp_path / log).write_text("".join(separator.join(row) + "\n" for row in rows))
    (tmp_path / "README.txt").write_text("about the shop\n")
    if items:
        (tmp_path / items).write_text("item_id,title\na,Lamp\nb,Vase\n")
    tables = read_folder(DatasetConfig(folder=str(tmp_path)))
    assert tables.items["item_id"].to_list() == ["a", "b"]
    assert ("title" in tables.items.columns) == bool(items)
    said = [decision.text for decision in tables.decisions]
    assert f"{tmp_path / log}: taken for the log" in said
    assert (f"{tmp_path}/{items}: taken for the items" in said) == bool(items)


@pytest.mark.parametrize("name", ["product", "movie"])
def test_an_id_comes_before_a_name(name: str, tmp_path: Path) -> None:
    items = f"id,{name},category\n1,Oil,a\n2,Salt,b\n"
    tables = read_folder(config_of(shop(tmp_path, items, "user_id,item_id\nu,1\nu,2\n")))
    assert tables.items["item_id"].to_list() == ["1", "2"]


def test_locations_are_no_levels(tmp_path: Path) -> None:
    items = "item_id,category,location1,location2,application_1,application_2\n1,Oil,B,X,p,q\n"
    tables = read_folder(config_of(shop(tmp_path, items, "user_id,item_id\nu,1\n")))
    assert tables.items["categories"].to_list() == ["Oil"]


def test_a_position_does_not_hide_the_time(tmp_path: Path) -> None:
    log = "user_id,item_id,date,position\nu,1,2014-01-03,9\nu,2,2014-01-04,2\n"
    tables = read_folder(config_of(shop(tmp_path, "item_id\n1\n2\n", log)))
    assert tables.interactions.collect()["timestamp"].to_list() == ["2014-01-03", "2014-01-04"]


def test_conditions_on_truth_and_on_what_is_no_number(tmp_path: Path) -> None:
    log = "user_id,item_id,bought,status\nu,1,True,1\nv,1,false,new\nw,1,true,\n"
    folder = shop(tmp_path, "item_id\n1\n", log)

    def users(condition: str) -> list[str]:
        tables = read_folder(DatasetConfig(folder=str(folder), events_where=(condition,)))
        return tables.interactions.collect()["user_id"].to_list()

    assert users("bought = True") == users("bought != false") == ["u", "w"]
    assert users("status != 1") == ["v"]
    assert users("status != 1 | old") == ["v"]


def test_a_second_log_is_said_not_to_be_read(tmp_path: Path) -> None:
    folder = shop(tmp_path, "item_id\n1\n", "user_id,item_id\nu,1\n")
    (folder / "purchases.csv").write_text("user_id,item_id\nu,1\n")
    assert said_of(read_folder(config_of(folder)))[0].endswith(": purchases.csv not read")


@pytest.mark.parametrize(
    ("values", "condition", "kept"),
    [
        (("True", "False", "true"), "bought = 1", "uw"),
        (("True", "False", "true"), "bought != 0", "uw"),
        (("True", "False", "true"), "bought >= 1", "uw"),
        (("True", "", "true"), "bought = yes", "uw"),
        (("1", "0", "1.0"), "bought = true", "uw"),
        (("1", "0", "1"), "bought = False", "v"),
        (("yes", "no", "Yes"), "bought = true", "uw"),
        (("Y", "N", "y"), "bought = 1", "uw"),
        (("1", "0", "4"), "bought >= 1", "uw"),
        (("t", "1", "tall"), "bought = 1", "v"),
    ],
)
def test_true_is_written_in_many_ways(
    tmp_path: Path, values: tuple[str, ...], condition: str, kept: str
) -> None:
    rows = "".join(f"{user},1,{value}\n" for user, value in zip("uvw", values, strict=True))
    folder = shop(tmp_path, "item_id\n1\n", f"user_id,item_id,bought\n{rows}")
    config = DatasetConfig(folder=str(folder), events_where=(condition,))
    assert "".join(read_folder(config).interactions.collect()["user_id"]) == kept


@pytest.mark.parametrize("condition", ["bought = 1", "bought = true", "bought = yes", "bought > 0"])
def test_true_as_a_type(tmp_path: Path, condition: str) -> None:
    folder = shop(tmp_path, "item_id\n1\n", "")
    (folder / "interactions.csv").unlink()
    log = pl.DataFrame({"user_id": ["u", "v"], "item_id": ["1", "1"], "bought": [True, False]})
    for dtype in (pl.Boolean, pl.Int8, pl.Float64):
        log.with_columns(pl.col("bought").cast(dtype)).write_parquet(folder / "events.parquet")
        tables = read_folder(DatasetConfig(folder=str(folder), events_where=(condition,)))
        assert tables.interactions.collect()["user_id"].to_list() == ["u"]


def test_a_condition_that_no_row_meets_says_what_there_is(tmp_path: Path) -> None:
    log = "user_id,item_id,event\nu,1,Purchase\nu,1,view\nu,1,Purchase\n"
    config = DatasetConfig(
        folder=str(shop(tmp_path, "item_id\n1\n", log)), events_where=("event = purchase",)
    )
    with pytest.raises(DataError, match="none of 3; event holds 'Purchase', 'view'; correct"):
        read_folder(config)


def test_columns_by_number_are_those_of_a_header_too(tmp_path: Path) -> None:
    log = "kunde,artikel,datum\nu,1,2014-01-03\nv,1,2014-01-04\n"
    numbers = ("user_id=1", "item_id=2")
    tables = read_folder(config_of(shop(tmp_path / "1", "item_id\n1\n", log), *numbers))
    assert tables.interactions.collect().rows() == [
        (2, "u", "1", "2014-01-03"),
        (3, "v", "1", "2014-01-04"),
    ]
    log = "user_id,item_id,other\nu,1,x\n"
    exchanged = ("user_id=3", "item_id=2")
    tables = read_folder(config_of(shop(tmp_path / "2", "item_id\n1\n", log), *exchanged))
    assert tables.interactions.drop(LINE).collect().rows(named=True) == [
        {"item_id": "1", "user_id": "x"}
    ]
