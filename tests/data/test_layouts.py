"""Every known layout, on small files that are written here as their publishers write them."""

from __future__ import annotations

import ast
import contextlib
import csv
import gzip
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl
import pytest
from tests.data.amazon_samples import asin, write_2014, write_2023
from tests.data.spreadsheet import write_excel
from tests.data.test_kuairand import write_release as write_kuairand
from tests.data.test_movielens import WRITERS

from hidvae.config import DatasetConfig
from hidvae.data.check import find_problems
from hidvae.data.notes import Notes
from hidvae.data.prepare import Assembled, assemble, raw_fingerprints, read_source
from hidvae.data.sources import layouts
from hidvae.data.sources.layouts import recognise
from hidvae.errors import DataError

USERS, ITEMS = range(1, 7), range(1, 9)
PAIRS = [(user, (user + step) % len(ITEMS) + 1, step) for user in USERS for step in range(4)]
"""User, item and place among the user's events."""


def write(path: Path, lines: Iterable[str], encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{line}\n" for line in lines).encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_csv(
    path: Path, header: str, rows: Iterable[Iterable[object]], separator: str = ","
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        if header:
            writer.writerow(header.split(","))
        writer.writerows(rows)


def yelp(folder: Path) -> None:
    reviews = [
        {
            "review_id": f"r{u}{step}",
            "user_id": f"u{u}",
            "business_id": f"b{i}",
            "stars": 4.0,
            "useful": 0,
            "text": 'Good, "really"\nindeed',
            "date": f"2018-07-0{step + 1} 22:09:11",
        }
        for u, i, step in reversed(PAIRS)
    ]
    write(folder / "yelp_academic_dataset_review.json", map(json.dumps, reviews))
    businesses = [
        {
            "business_id": f"b{i}",
            "name": f"Café {i}",
            "city": "Tucson",
            "state": "AZ",
            "stars": 3.5,
            "review_count": 9,
            "attributes": {"WiFi": "u'no'"},
            "categories": "Bakeries, Restaurants" if i % 2 else "Restaurants",
        }
        for i in ITEMS
    ]
    write(folder / "yelp_academic_dataset_business.json", map(json.dumps, businesses))


def hm(folder: Path) -> None:
    rows = [(f"2018-09-2{step}", f"c{u}", f"010{i}", 0.05, 2) for u, i, step in PAIRS]
    header = "t_dat,customer_id,article_id,price,sales_channel_id"
    write_csv(folder / "transactions_train.csv", header, rows)
    header = (
        "article_id,product_code,prod_name,product_type_no,product_type_name,product_group_name,"
        "colour_group_name,index_group_name,detail_desc"
    )
    articles = [
        (
            f"010{i}",
            "010",
            f"Top {i}",
            253,
            "Vest top",
            "Garment Upper body",
            "Black",
            "Ladieswear",
            "",
        )
        for i in ITEMS
    ]
    write_csv(folder / "articles.csv", header, articles)


def instacart(folder: Path) -> None:
    orders = [(10 * u + step, u, "prior", step + 1, 2, 8, "") for u in USERS for step in range(4)]
    header = (
        "order_id,user_id,eval_set,order_number,order_dow,order_hour_of_day,days_since_prior_order"
    )
    write_csv(folder / "orders.csv", header, orders)
    baskets = [(10 * u + step, i, 1, 0) for u, i, step in reversed(PAIRS)]
    header = "order_id,product_id,add_to_cart_order,reordered"
    write_csv(folder / "order_products__prior.csv", header, baskets[6:])
    write_csv(folder / "order_products__train.csv", header, baskets[:6])
    products = [(i, f"Milk, {i} %", 84, 16) for i in ITEMS]
    write_csv(folder / "products.csv", "product_id,product_name,aisle_id,department_id", products)
    write_csv(folder / "aisles.csv", "aisle_id,aisle", [(84, "milk")])
    write_csv(folder / "departments.csv", "department_id,department", [(16, "dairy eggs")])


def online_retail(folder: Path) -> None:
    header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
    rows: list[tuple[object, ...]] = [
        (
            536_365 + step,
            f"8{i}A",
            f"LAMP {i} £",
            6,
            f"12/{step + 1}/2010 8:26",
            2.55,
            f"{u}.0",
            "UK",
        )
        for u, i, step in PAIRS
    ]
    rows.insert(3, ("C536379", "81A", "Discount", -1, "12/1/2010 9:41", 27.5, "1.0", "UK"))
    rows.insert(4, (536_380, "81A", "LAMP 1 £", 1, "12/13/2010 9:41", 27.5, "", "UK"))
    path = folder / "OnlineRetail.csv"
    write_csv(path, header, rows)
    path.write_bytes(path.read_bytes().decode().encode("cp1252"))


def online_retail_2(folder: Path) -> None:
    header = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country"
    rows = [
        (
            489_434 + step,
            f"8{i}A",
            f"LAMP {i}",
            6,
            f"2009-12-0{step + 1} 07:45:00",
            2.5,
            float(u),
            "UK",
        )
        for u, i, step in PAIRS
    ]
    write_csv(folder / "online_retail_II.csv", header, rows)


def yoochoose(folder: Path) -> None:
    rows = [(u, f"2014-04-0{step + 1}T10:51:09.277Z", 2145 + i, 0) for u, i, step in PAIRS]
    write_csv(folder / "yoochoose-clicks.dat", "", rows)
    write_csv(folder / "yoochoose-buys.dat", "", [(1, "2014-04-04T10:51:09.277Z", 2146, 12462, 1)])


def gowalla(folder: Path) -> None:
    rows = [
        (u, f"2010-10-1{step}T23:55:27Z", 30.2, -97.7, 22_000 + i) for u, i, step in reversed(PAIRS)
    ]
    write_csv(folder / "loc-gowalla_totalCheckins.txt", "", rows, "\t")


def foursquare(folder: Path) -> None:
    days = ("Tue", "Wed", "Thu", "Fri")
    rows = [
        (
            u,
            f"49bbd{i}",
            "4bf58",
            "Café",
            40.7,
            -74.0,
            -240,
            f"{days[step]} Apr 0{step + 3} 18:00:09 +0000 2012",
        )
        for u, i, step in PAIRS
    ]
    write(
        folder / "dataset_TSMC2014_NYC.txt", ("\t".join(map(str, row)) for row in rows), "latin-1"
    )


def lastfm_2k(folder: Path) -> None:
    rows = [(u, i, 13, 1_238_536_800_000 + step * 86_400_000) for u, i, step in PAIRS]
    write_csv(
        folder / "user_taggedartists-timestamps.dat", "userID,artistID,tagID,timestamp", rows, "\t"
    )
    write_csv(folder / "user_artists.dat", "userID,artistID,weight", [(1, 1, 13_883)], "\t")
    artists = [f'{i}\tThe "Best" {i}\thttp://last.fm\thttp://images' for i in ITEMS]
    write(folder / "artists.dat", ["id\tname\turl\tpictureURL", *artists])


def lastfm_1k(folder: Path) -> None:
    lines = [
        f'user_{u:06d}\t2009-05-0{step + 1}T23:08:57Z\t\tBand {i}\t\tSong "{step}'
        for u, i, step in reversed(PAIRS)
    ]
    write(folder / "userid-timestamp-artid-artname-traid-traname.tsv", lines)


DECLARED: dict[str, Callable[[Path], None]] = {
    "Yelp's academic dataset": yelp,
    "H&M Personalized Fashion Recommendations": hm,
    "Instacart Market Basket Analysis": instacart,
    "Online Retail": online_retail,
    "Online Retail II": online_retail_2,
    "Yoochoose (RecSys Challenge 2015)": yoochoose,
    "Gowalla": gowalla,
    "Foursquare check-ins": foursquare,
    "Last.fm 2K (HetRec 2011)": lastfm_2k,
    "Last.fm 1K": lastfm_1k,
}


def made(folder: Path, **settings: object) -> tuple[Assembled, list[str]]:
    config = DatasetConfig(folder=str(folder), **settings)  # type: ignore[arg-type]
    notes = Notes()
    assembled = assemble(read_source(config), config, notes)
    return assembled, [decision.said for decision in notes.decisions]


def histories(assembled: Assembled) -> dict[str, list[str]]:
    ids = assembled.items["item_id"].to_list()
    sequences = assembled.split.sequences
    bounds = zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    users = assembled.users["user_id"].to_list()
    return {
        user: [ids[item] for item in sequences.items[start:end]]
        for user, (start, end) in zip(users, bounds, strict=True)
    }


@pytest.mark.parametrize("name", DECLARED)
def test_a_declared_layout(name: str, tmp_path: Path) -> None:
    DECLARED[name](tmp_path)
    found = recognise(tmp_path)
    assert found is not None
    assert found.name == name
    assembled, said = made(tmp_path)
    assert said[0].startswith(f"this folder holds {name} (")
    by_user = histories(assembled)
    assert len(by_user) == len(USERS)
    assert all(len(history) == 4 for history in by_user.values())
    # items end in their number, but for the A of a stock code
    numbers = [[int(item.rstrip("A")[-1]) for item in history] for history in by_user.values()]
    expected = [[i for u, i, _ in PAIRS if u == user] for user in USERS]
    if name in ("Yoochoose (RecSys Challenge 2015)",):
        numbers = [[(number - 5) % 10 for number in history] for history in numbers]
    assert sorted(numbers) == sorted(expected)
    config = DatasetConfig(folder=str(tmp_path))
    assert find_problems(read_source(config), config).is_clean
    assert set(raw_fingerprints(config)) == set(found.files)


def test_what_items_get(tmp_path: Path) -> None:
    expected = {
        "Yelp's academic dataset": ("Café 1", ["Restaurants", "Bakeries"]),
        "H&M Personalized Fashion Recommendations": (
            "Top 1",
            ["Ladieswear", "Garment Upper body", "Vest top"],
        ),
        "Instacart Market Basket Analysis": ("Milk, 1 %", ["dairy eggs", "milk"]),
        "Online Retail": ("LAMP 1 £", None),
        "Foursquare check-ins": ("Café", ["Café"]),
        "Last.fm 2K (HetRec 2011)": ('The "Best" 1', None),
    }
    for name, (title, path) in expected.items():
        folder = tmp_path / name
        DECLARED[name](folder)
        items = made(folder)[0].items.sort("item_id")
        assert (items["title"][0], items["categories"].to_list()[0]) == (title, path)


def test_cancelled_invoices_and_guests(tmp_path: Path) -> None:
    online_retail(tmp_path)
    assembled, said = made(tmp_path)
    assert histories(assembled)["1"][0] == "82A"
    assert any("without a user id is left out (line 6)" in line for line in said)


def test_online_retail_in_excel(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel", reason="no package for Excel here: pip install fastexcel")
    for number, write_as_csv in enumerate((online_retail, online_retail_2)):
        folder = tmp_path / str(number)
        write_as_csv(folder)
        source = next(folder.glob("*.csv"))
        rows = list(csv.reader(source.read_bytes().decode("cp1252").splitlines()))
        half = len(rows) // 2
        sheets = {"one": rows[:half], "two": [rows[0], *rows[half:]]}
        (folder / "csv").mkdir()
        source.rename(folder / "csv" / source.name)
        write_excel(folder / "retail.xlsx", sheets)
        found = recognise(folder)
        assert found is not None and list(found.files) == ["retail.xlsx"]
        assert found.name == ("Online Retail", "Online Retail II")[number]
        assert histories(made(folder)[0]) == histories(made(folder / "csv")[0])


def steam(folder: Path, *, is_json: bool = False) -> None:
    def line(record: dict[str, object]) -> str:
        return json.dumps(record) if is_json else re.sub(r"(?<=[{ \[])'", "u'", repr(record))

    reviews = [
        {
            "username": f"O'Neil \\ \u2122 {u}" if u == 1 else f'"User" {u}',
            "hours": 2.5,
            "products": 41.0,
            "product_id": f"{700 + i}",
            "page_order": 0,
            "date": f"2017-12-1{step}",
            "text": "bad, 'product_id': '1'",
            "early_access": False,
        }
        for u, i, step in reversed(PAIRS)
    ]
    write(folder / "steam_reviews.json.gz", map(line, reviews))
    games = [
        {
            "publisher": "P",
            "genres": ["Indie", "Action"] if i % 2 else ["Action"],
            "app_name": f"Game {i}",
            "title": f"Game's {i}",
            "id": f"{700 + i}",
            "developer": "Dev",
            "sentiment": "Mixed",
        }
        for i in ITEMS
    ]
    write(folder / "steam_games.json.gz", map(line, games))


@pytest.mark.parametrize("is_json", [False, True])
def test_steam(tmp_path: Path, is_json: bool) -> None:
    steam(tmp_path, is_json=is_json)
    assembled, said = made(tmp_path)
    assert said[0].startswith("this folder holds Steam (steam_reviews.json, steam_games.json): a")
    expected = {
        f"O'Neil \\ \u2122 {u}" if u == 1 else f'"User" {u}': [
            f"{700 + i}" for user, i, _ in PAIRS if user == u
        ]
        for u in USERS
    }
    assert histories(assembled) == expected
    first = assembled.items.row(0, named=True)
    assert (first["title"], first["categories"]) == ("Game's 1", ["Action", "Indie"])
    assert "sentiment" not in first


def test_steam_of_australian_users(tmp_path: Path) -> None:
    dates = ("November 5, 2011", "July 15, 2014", "June 24", "September 8")
    by_user = {u: [(i, step) for user, i, step in PAIRS if user == u] for u in USERS}
    reviews = [
        {
            "user_id": f"u{u}",
            "reviews": [
                {"item_id": f"{i}", "posted": f"Posted {dates[step]}.", "recommend": True}
                for i, step in reversed(events)
            ],
        }
        for u, events in by_user.items()
    ]
    owned = [
        {
            "user_id": f"u{u}",
            "items_count": 4,
            "items": [{"item_id": f"{i}", "item_name": f"Game {i}"} for i, _ in events],
        }
        for u, events in by_user.items()
    ]
    expected = {f"u{u}": [f"{i}" for i, _ in events] for u, events in by_user.items()}
    write(tmp_path / "australian_users_items.json.gz", map(repr, owned))
    assembled, said = made(tmp_path)
    assert "in the order of their list, as there are no times" in said[0]
    assert histories(assembled) == expected
    write(tmp_path / "australian_user_reviews.json.gz", map(repr, reviews))
    assembled, said = made(tmp_path)
    assert histories(assembled) == expected
    assert assembled.items["title"][0] == f"Game {assembled.items['item_id'][0]}"


def test_broken_lines_of_steam(tmp_path: Path) -> None:
    steam(tmp_path)
    with gzip.open(tmp_path / "steam_reviews.json.gz", "at") as file:
        file.write("{u'username': u'x'}\n")
    with pytest.raises(DataError, match="an object with username, product_id and date.*line 25"):
        made(tmp_path)


def test_times_of_online_retail_by_the_order_that_fits(tmp_path: Path) -> None:
    online_retail(tmp_path)
    path = tmp_path / "OnlineRetail.csv"
    text = path.read_text(encoding="cp1252")
    for day in range(1, 5):
        text = text.replace(f"12/{day}/2010", f"1{day}/12/2010")
    path.write_text(text.replace("12/13/2010", "13/12/2010"))
    assert histories(made(tmp_path)[0])["1"] == ["82A", "83A", "84A", "85A"]


def test_conditions_name_the_files_columns(tmp_path: Path) -> None:
    yelp(tmp_path)
    with pytest.raises(DataError, match="expected events; found none that can be used"):
        made(tmp_path, events_where=("stars >= 5",))
    assert len(histories(made(tmp_path, events_where=("stars >= 4",))[0])) == len(USERS)


@pytest.mark.parametrize("release", ["100k", "1m", "32m"])
def test_movielens_is_named(release: str, tmp_path: Path) -> None:
    WRITERS[release](tmp_path / f"ml-{release}")
    for folder in (tmp_path, tmp_path / f"ml-{release}"):
        assembled, said = made(folder)
        asked = f"DatasetConfig.source=movielens, DatasetConfig.dataset_split={release}"
        assert said[0].startswith(f"this folder holds MovieLens {release.upper()} (")
        assert said[0].endswith(f"({asked})")
        assert 'DatasetConfig.events_where="rating >= 4"' in said[1]
        assert assembled.metrics["num_users"] == 30


def test_amazon_is_named_with_its_year(tmp_path: Path) -> None:
    write_2014(tmp_path / "a")
    write_2023(tmp_path / "b")
    for folder, name in (("a", "2014 Beauty"), ("b", "2023 All_Beauty")):
        assert made(tmp_path / folder)[1][0].startswith(
            f"this folder holds Amazon Reviews {name} ("
        )
    with pytest.raises(DataError, match=r"one dataset; found Amazon .* in a, Amazon .* in b; name"):
        recognise(tmp_path)
    write_2023(tmp_path / "a")
    with pytest.raises(
        DataError, match="one category of Amazon Reviews; found Beauty of 2014, All"
    ):
        recognise(tmp_path / "a")


def test_mind(tmp_path: Path) -> None:
    news = [
        f'N{i}\tnews\tnewsworld\tTitle "{i}\tAn abstract.\thttps://x\t[]\t[]' for i in range(10, 30)
    ]
    write(tmp_path / "news.tsv", news)
    shown = "N15-0 N16-1 N17-0"
    lines = [
        f"1\tU1\t11/13/2019 1:05:58 PM\tN10 N11\t{shown}",
        "2\tU2\t11/12/2019 9:05:58 AM\t\tN20-1 N21-0",
        "3\tU1\t11/12/2019 11:05:58 AM\tN10 N11\tN18-0 N19-1",
        "4\tU2\t11/13/2019 12:05:58 AM\tN20\tN22-1",
    ]
    write(tmp_path / "behaviors.tsv", lines)
    assembled, said = made(tmp_path)
    assert said[0].startswith("this folder holds MIND (Microsoft News) (behaviors.tsv, news.tsv)")
    assert histories(assembled) == {"U1": ["N10", "N11", "N19", "N16"], "U2": ["N20", "N22"]}
    first = assembled.items.row(0, named=True)
    assert first["title"] == 'Title "10'
    assert first["categories"] == ["news", "newsworld"]
    write(tmp_path / "behaviors.tsv", ["1\tU1\t11/13/2019 1:05:58 PM\t\tN15 N16"])
    with pytest.raises(DataError, match="take the part train or dev, as test has no clicks"):
        made(tmp_path)


def test_retailrocket(tmp_path: Path) -> None:
    rows = [
        (1_433_221_332_117 + step, u, "transaction" if step else "view", i, "")
        for u, i, step in reversed(PAIRS)
    ]
    write_csv(tmp_path / "events.csv", "timestamp,visitorid,event,itemid,transactionid", rows)
    plain, said = made(tmp_path)
    assert said[0].startswith("this folder holds Retailrocket (events.csv)")
    assert plain.items["categories"].null_count() == len(ITEMS)
    header = "timestamp,itemid,property,value"
    first = [(1_435_460_400_000, i, "categoryid", 1338) for i in ITEMS if i < 6]
    later = [(1_436_460_400_000, i, "categoryid", 7) for i in ITEMS if i < 7]
    write_csv(tmp_path / "item_properties_part1.csv", header, [*later, (1, 1, "888", "n1.0 99")])
    write_csv(tmp_path / "item_properties_part2.csv", header, first)
    write_csv(
        tmp_path / "category_tree.csv", "categoryid,parentid", [(1338, 20), (20, ""), (7, "")]
    )
    assembled, said = made(tmp_path, events_where=("event = transaction",))
    assert 'DatasetConfig.events_where="event = addtocart | transaction"' in said[1]
    assert all(len(history) == 3 for history in histories(assembled).values())
    paths = dict(assembled.items.select("item_id", "categories").iter_rows())
    assert (paths["1"], paths["6"], paths["7"]) == (["20", "1338"], ["7"], None)


def write_lcrec(folder: Path, *, names: bool = True) -> None:
    log = {str(u): [i - 1 for user, i, _ in PAIRS if user == u] for u in USERS}
    texts = {
        str(i - 1): {
            "title": f"Game {i}",
            "description": "Fun.",
            "brand": "",
            "categories": "Games,PC, old",
        }
        for i in ITEMS
    }
    codes = {str(i - 1): [f"<a_{i % 3}>", f"<b_{i % 4}>", f"<c_{i}>"] for i in ITEMS}
    for kind, content in (("inter", log), ("item", texts), ("index", codes)):
        write(folder / f"Games.{kind}.json", [json.dumps(content)])
    if names:
        write(folder / "Games.item2id", [f"B00{i}\t{i - 1}" for i in ITEMS])
        write(folder / "Games.user2id", [f"A{u}\t{u}" for u in USERS])


@pytest.mark.parametrize("names", [True, False])
def test_lcrec(names: bool, tmp_path: Path) -> None:
    write_lcrec(tmp_path, names=names)
    assembled, said = made(tmp_path)
    assert said[0].startswith(
        "this folder holds a dataset of LC-Rec, LETTER or MiniOneRec (Games.i"
    )
    assert "ids import" in said[1]
    expected = ["B002", "B003", "B004", "B005"] if names else ["1", "2", "3", "4"]
    assert histories(assembled)["A1" if names else "1"] == expected
    items = assembled.items
    assert items["title"].to_list() == [f"Game {i}" for i in ITEMS]
    assert items["categories"].to_list()[0] == ["Games", "PC, old"]


def test_minionerec(tmp_path: Path) -> None:
    write_lcrec(tmp_path / "index", names=False)
    (tmp_path / "index" / "Games.inter.json").unlink()
    header = (
        "user_id,history_item_title,item_title,history_item_id,item_id,history_item_sid,item_sid"
    )
    for part, step in (("train", 1), ("valid", 2), ("test", 3)):
        rows = []
        for u in USERS:
            items = [i - 1 for user, i, _ in PAIRS if user == u]
            titles = [f"Game, {i}" for i in items]
            rows.append(
                (f"A{u}", titles[:step], "x", items[:step], items[step], ["<a_1>"], "<a_2>")
            )
        write_csv(tmp_path / part / "Games_5_2016-10-2018-11.csv", header, rows)
    assembled, said = made(tmp_path)
    assert "MiniOneRec (train/Games_5_2016-10-2018-11.csv, valid/" in said[0]
    assert f"hidvae ids import {tmp_path}/index/Games.index.json --output RUN" in said[1]
    assert histories(assembled)["A1"] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("kind", "content", "fault"),
    [
        ("inter", "[1]", "expected a JSON object of users and their lists of items; found [1]"),
        ("inter", '{"1": 5}', "user '1': expected a list of item numbers; found 5"),
        ("item", "{", "expected a JSON object of items and their texts; found: Expecting"),
        (
            "item",
            '{"1": "x"}',
            "item '1': expected an object with title and description; found 'x'",
        ),
    ],
)
def test_broken_files_of_lcrec(tmp_path: Path, kind: str, content: str, fault: str) -> None:
    write_lcrec(tmp_path)
    write(tmp_path / f"Games.{kind}.json", [content])
    with pytest.raises(DataError, match=re.escape(fault)):
        made(tmp_path)


@pytest.mark.parametrize("has_times", [True, False])
def test_recbole_in_parts(has_times: bool, tmp_path: Path) -> None:
    header = ["user_id:token", "item_id:token", *(["timestamp:float"] if has_times else [])]
    for part, steps in (("train", (0, 1)), ("valid", (2,)), ("test", (3,))):
        rows = [(f"u{u}", f"i{i}", 5)[: len(header)] for u, i, step in PAIRS if step in steps]
        write_csv(tmp_path / f"toy.{part}.inter", ",".join(header), rows, "\t")
    assembled, said = made(tmp_path)
    assert said[0].startswith(
        "this folder holds a benchmark of RecBole (toy.train.inter, toy.valid"
    )
    history = histories(assembled)["u1"]
    assert (set(history[:2]), history[2:]) == ({"i2", "i3"}, ["i4", "i5"])
    items = [(f"i{i}", f"Item {i}") for i in ITEMS]
    write_csv(tmp_path / "toy.item", "item_id:token,title:token_seq", items, "\t")
    assert made(tmp_path)[0].items["title"][0] == "Item 1"


def test_p5_of_yelp_has_items_with_ids_only(tmp_path: Path) -> None:
    names = {f"b{i}": str(i) for i in ITEMS}
    maps = {"item2id": names, "user2id": {f"u{u}": str(u) for u in USERS}}
    write(tmp_path / "yelp" / "datamaps.json", [json.dumps(maps)])
    lines = (" ".join([str(user), *(str(i) for u, i, _ in PAIRS if u == user)]) for user in USERS)
    write(tmp_path / "yelp" / "sequential_data.txt", lines)
    (tmp_path / "yelp" / "meta_data.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assembled, said = made(tmp_path / "yelp")
    assert said[0].startswith("this folder holds P5's files without metadata, as its Yelp (seq")
    assert histories(assembled)["1"] == ["b2", "b3", "b4", "b5"]


def test_amazon_2018(tmp_path: Path) -> None:
    reviews = [
        {
            "overall": 5.0,
            "verified": True,
            "reviewTime": "09 1, 2016",
            "reviewerID": f"A{u}",
            "asin": f"B00{i}",
            "style": {"Gift Amount:": " 50"},
            "reviewText": "Great",
            "unixReviewTime": 1_472_688_000 + step * 86_400,
        }
        for u, i, step in PAIRS
    ]
    write(tmp_path / "Gift_Cards_5.json.gz", map(json.dumps, reviews))
    items = [
        {
            "category": ["Gift Cards", "Gift Card Recipients", "</span></span></span>", "For Him"],
            "description": ["Amazon.com", "Gift card"],
            "title": f"Card {i} &amp; box" if i > 1 else "var aPageStart = (new Date()).getTime();",
            "also_buy": ["B001"],
            "brand": "Amazon",
            "rank": "33 in Gift Cards",
            "main_cat": "Gift Cards",
            "price": "$25.00",
            "asin": f"B00{i}",
            "imageURL": [],
            "imageURLHighRes": [f"https://images/{i}.jpg"],
            "details": {} if i > 2 else None,
        }
        for i in ITEMS
    ]
    items[3]["description"] = ""
    write(tmp_path / "meta_Gift_Cards.json.gz", map(json.dumps, [*items, items[0]]))
    assembled, said = made(tmp_path)
    assert said[0].startswith(
        "this folder holds Amazon Reviews 2018 Gift_Cards (Gift_Cards_5.json.gz"
    )
    assert histories(assembled)["A1"] == ["B002", "B003", "B004", "B005"]
    assert assembled.items.row(1, named=True) == {
        "item_id": "B002",
        "categories": ["Gift Cards", "Gift Card Recipients"],
        "title": "Card 2 & box",
        "brand": "Amazon",
        "price": 25.0,
        "description": "Amazon.com Gift card",
        "image": "https://images/2.jpg",
        "all_category_paths": [["Gift Cards", "Gift Card Recipients"]],
        "main_category": "Gift Cards",
    }
    assert assembled.items["title"][0] is None
    assert assembled.metrics["titles_that_are_scripts"] == 2
    assert assembled.metrics["odd_metadata_lines"] == 0


def test_amazon_2014_of_any_category_with_metadata_as_json(tmp_path: Path) -> None:
    write_2014(tmp_path, log="reviews_Video_Games.json.gz")
    old = tmp_path / "meta_Beauty.json.gz"
    literals = made_from_literals(old)
    write(tmp_path / "meta_Video_Games.json.gz", map(json.dumps, literals))
    old.unlink()
    assembled, said = made(tmp_path)
    assert said[0].startswith(
        "this folder holds Amazon Reviews 2014 Video_Games (reviews_Video_Games"
    )
    item = assembled.items.row(by_predicate=pl.col("item_id") == asin(7), named=True)
    assert item["title"] == "Lipstick 7"
    assert assembled.metrics["broken_metadata_lines"] == 0


def made_from_literals(path: Path) -> list[object]:
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, SyntaxError):
            found.append(ast.literal_eval(line))
    return found


def test_own_tables_and_own_names_come_first(tmp_path: Path) -> None:
    WRITERS["32m"](tmp_path)
    write_csv(tmp_path / "interactions.csv", "user_id,item_id", [(u, i) for u, i, _ in PAIRS])
    write_csv(tmp_path / "items.csv", "item_id", [(i,) for i in ITEMS])
    assert not any("this folder holds" in line for line in made(tmp_path)[1])
    assert recognise(tmp_path) is not None


def test_an_unknown_folder(tmp_path: Path) -> None:
    write_csv(tmp_path / "ratings.csv", "user,movie", PAIRS)
    write_csv(tmp_path / "movies.csv", "movie,name", PAIRS)
    assert recognise(tmp_path) is None


def test_kuairand_written_by_pandas(tmp_path: Path) -> None:
    config = DatasetConfig(source="kuairand", dataset_split="pure", folder=str(tmp_path))
    write_kuairand(tmp_path)
    plain = read_source(config)
    events, items = plain.interactions.collect(), plain.items
    as_pandas = {"user_id": "{}.0", "video_id": "{}.0", "time_ms": "{}.0", "author_id": "{}.0"}
    for path in [*tmp_path.glob("log_standard*"), *tmp_path.glob("video_features_basic*")]:
        header, *lines = path.read_text().splitlines()
        names = header.split(",")
        rows = [f",{header}"]
        for number, line in enumerate(lines):
            values = line.split(",")
            for place, (name, value) in enumerate(zip(names, values, strict=False)):
                if name == "is_click":
                    values[place] = str(value == "1")
                elif name in as_pandas and value.isdigit():
                    values[place] = as_pandas[name].format(value)
            rows.append(f"{number},{','.join(values)}" if line else "")
        write(path, rows)
    said = made(tmp_path)[1]
    assert said[0].startswith("this folder holds KuaiRand-Pure (log_standard_4_08_to_4_21_pure.csv")
    assert "DatasetConfig.repeated_items=first, DatasetConfig.min_events=5" in said[1]
    again = read_source(config)
    assert again.interactions.collect().equals(events)
    assert again.items.drop("text").equals(items.drop("text"))


OWN_LOG = {
    "ratings.csv": [
        "userId,movieId,rating\n1,1,4\n1,2,5\n2,1,3\n2,2,3\n",
        "userId,movieId,rating,timestamp\n1,1,4,2014-01-03\n1,2,5,2014-01-04\n2,1,3,2014-01-05\n",
        "userId,movieId,rating,timestamp\nu1,1,4,5\nu1,2,5,6\nu2,1,3,7\nu2,2,3,8\n",
    ],
    "events.csv": ["timestamp,visitorid,event,itemid\n5,u,view,1\n6,u,view,2\n7,v,view,1\n"],
}


@pytest.mark.parametrize(
    ("log", "items", "text"),
    [("ratings.csv", "movies.csv", text) for text in OWN_LOG["ratings.csv"]]
    + [("events.csv", items, OWN_LOG["events.csv"][0]) for items in ("items.csv", "products.csv")],
)
def test_ones_own_tables_under_the_names_of_a_layout(
    log: str, items: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / log).write_text(text)
    key = "movieId" if items == "movies.csv" else "itemid"
    (tmp_path / items).write_text(f"{key},title,genres\n1,Oil,a\n2,Salt,b\n")
    tables = layouts.read(DatasetConfig(folder=str(tmp_path)))
    assert not any("this folder holds" in decision.said for decision in tables.decisions)
    assert tables.items["title"].to_list() == ["Oil", "Salt"]
    assert assemble(tables, DatasetConfig(), Notes()).metrics["num_users"] == 2


def test_an_online_shop_whose_days_cannot_be_told_from_months(tmp_path: Path) -> None:
    header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
    rows = ["1,a,Oil,1,05/01/2011 10:00,1,u,UK", "2,b,Salt,1,03/02/2011 10:00,1,u,UK"]
    rows += ["3,a,Oil,1,01/03/2011 10:00,1,v,UK", "4,b,Salt,1,02/01/2011 10:00,1,v,UK"]
    (tmp_path / "sales.csv").write_text("\n".join([header, *rows, ""]))
    config = DatasetConfig(folder=str(tmp_path))
    with pytest.raises(DataError, match="expected dates that show which number is the day"):
        assemble(layouts.read(config), config, Notes())
    config = DatasetConfig(folder=str(tmp_path), time_format="%d/%m/%Y %H:%M")
    found = assemble(layouts.read(config), config, Notes())
    assert found.split.sequences.items.tolist() == [0, 1, 1, 0]
