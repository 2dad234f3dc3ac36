from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.data.postgres import PASSWORD, running_postgres

from hidvae.addresses import as_written, has_password, hide_passwords, sql_has_password
from hidvae.apps.cli import app, run_app
from hidvae.config import DatasetConfig, load_config
from hidvae.data.prepare import load_dataset, read_source
from hidvae.data.sources import database
from hidvae.data.sources.database import read_database
from hidvae.errors import ConfigError, DataError, HidvaeError, MissingExtraError
from hidvae.run.run import Run

EVENTS = [("u", "a", 3), ("u", "b", 1), ("v", "a", 2), ("v", "b", 5), ("w", "b", 1), ("w", "a", 2)]
ITEMS = [("a", "Tea", 2.5), ("b", "Mug", None)]
SHOP = [
    "CREATE TABLE items (item_id TEXT, title TEXT, price REAL)",
    "CREATE TABLE events (user_id TEXT, item_id TEXT, timestamp INTEGER)",
    *(f"INSERT INTO events VALUES ('{u}', '{i}', {t})" for u, i, t in EVENTS),
    "INSERT INTO items VALUES ('a', 'Tea', 2.5), ('b', 'Mug', NULL)",
]


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPASSWORD", "HIDVAE_DB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PGPASSFILE", os.devnull)


def make_sqlite(file: Path, statements: list[str] = SHOP) -> str:
    connection = sqlite3.connect(file)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return f"sqlite:///{file}"


def make_duckdb(file: Path, statements: list[str] = SHOP) -> str:
    duckdb = pytest.importorskip("duckdb", reason="no DuckDB here: pip install duckdb")
    connection = duckdb.connect(str(file))
    for statement in statements:
        connection.execute(statement)
    connection.close()
    return f"duckdb:///{file}"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("psycopg", reason="no psycopg here: pip install 'psycopg[binary]'")
    # a short path that another user may enter, which pytest's own is not
    with (
        tempfile.TemporaryDirectory(prefix="hidvae-pg-") as folder,
        running_postgres(Path(folder)) as address,
    ):
        yield address


def fill_postgres(address: str, statements: list[str] = SHOP) -> str:
    import psycopg

    with psycopg.connect(address, password=PASSWORD, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
        for statement in statements:
            connection.execute(statement)
    return address


@pytest.fixture(params=["sqlite", "duckdb", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of the same small shop in each database."""
    if request.param == "postgres":
        monkeypatch.setenv("HIDVAE_DB_PASSWORD", PASSWORD)
        return fill_postgres(request.getfixturevalue("postgres"))
    make = {"sqlite": make_sqlite, "duckdb": make_duckdb}[request.param]
    return make(tmp_path / f"shop.{request.param}")


def config(address: str, *queries: str, **others: Any) -> DatasetConfig:
    return DatasetConfig(folder=address, queries=queries, **others)


def temporary_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("hidvae-database-*"))


def test_tables_called_items_and_events_are_read_and_said(shop: str) -> None:
    tables = read_database(config(shop))
    assert sorted(tables.interactions.collect().rows()) == sorted(EVENTS)
    assert tables.items.select("item_id", "title", "price").rows() == ITEMS
    assert tables.interactions_file == f"{shop} table events"
    assert [d.text for d in tables.decisions] == [
        f"{shop}: the table events and the table items read, as no query was given"
    ]
    assert set(tables.fingerprints) == {"items", "interactions"}


@pytest.mark.parametrize(
    ("items", "log"), [("books", "events"), ("Products", "ratings"), ("catalogue", "interactions")]
)
def test_tables_of_other_usual_names(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items: str, log: str
) -> None:
    monkeypatch.setenv("HIDVAE_DB_PASSWORD", PASSWORD)
    named = [each.replace("items", f'"{items}"').replace("events", log) for each in SHOP]
    places = [
        make_sqlite(tmp_path / "shop.db", named),
        make_duckdb(tmp_path / "shop.duckdb", named),
        fill_postgres(postgres, named),
    ]
    for place in places:
        tables = read_database(config(place))
        assert tables.items["title"].to_list() == ["Tea", "Mug"]
        assert [d.text for d in tables.decisions] == [
            f"{place}: the table {log} and the table {items} read, as no query was given"
        ]


def test_several_tables_of_events_are_refused(tmp_path: Path) -> None:
    two = [*SHOP[1:-1], *(each.replace("events", "ratings") for each in SHOP[1:-1])]
    assert read_database(config(make_sqlite(tmp_path / "1.db", two))).name == "1"
    two = [each.replace("events", "clicks") for each in two]
    address = make_sqlite(tmp_path / "2.db", two)
    with pytest.raises(DataError, match="a table called .*; found clicks, ratings; say what"):
        read_database(config(address))


def test_queries_name_and_order_what_they_like(shop: str) -> None:
    tables = read_database(
        config(
            shop,
            "SELECT user_id AS who, item_id FROM events ORDER BY timestamp, user_id;",
            "SELECT item_id, upper(title) AS title FROM items",
            column_names=("user_id=who",),
        )
    )
    assert tables.interactions.collect().rows() == [
        ("u", "b"), ("w", "b"), ("v", "a"), ("w", "a"), ("u", "a"), ("v", "b")
    ]  # fmt: skip
    assert tables.items["title"].to_list() == ["TEA", "MUG"]
    assert tables.decisions == ()


def test_items_of_the_log_and_no_order_are_said(shop: str) -> None:
    tables = read_database(config(shop, "SELECT user_id, item_id FROM events"))
    assert sorted(tables.items["item_id"]) == ["a", "b"]
    assert "no timestamp and no ORDER BY" in " ".join(d.text for d in tables.decisions)


def test_parts_are_joined_in_order_and_removed(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = temporary_folders()
    whole = read_database(config(shop, "SELECT * FROM events ORDER BY timestamp, user_id"))
    monkeypatch.setattr(database, "ROWS_PER_PART", 4)
    parts = read_database(config(shop, "SELECT * FROM events ORDER BY timestamp, user_id"))
    assert parts.interactions.collect().equals(whole.interactions.collect())
    assert parts.fingerprints == whole.fingerprints
    assert len(temporary_folders() - before) == 2
    del whole, parts
    assert temporary_folders() == before


def test_nothing_is_left_behind_by_a_query_that_fails(shop: str) -> None:
    before = temporary_folders()
    with pytest.raises(DataError) as failed:
        read_database(config(shop, "SELECT * FROM events", "SELECT nonsense FROM items"))
    assert "query 2" in str(failed.value) and "nonsense" in str(failed.value)
    assert "\n" not in str(failed.value)
    assert temporary_folders() == before


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (("SELECT * FROM evnts",), "query 1: expected SQL .*evnts.* in SELECT \\* FROM evnts"),
        (("SELEC * FROM events",), "query 1: expected SQL"),
        (("DELETE FROM events",), "query 1: expected SQL|query 1: expected columns"),
        (("SELECT user_id, item_id, item_id FROM events",), "found item_id more than once"),
        (
            ("SELECT user_id, title FROM events, items",),
            "expected columns user_id, item_id|item_id",
        ),
        (("SELECT * FROM events WHERE timestamp > 99",), "expected at least one row; found 0 rows"),
        (("  ",), "expected SQL; found an empty text"),
        (("a", "b", "c"), "expected one or two"),
    ],
)
def test_a_bad_query_is_one_line(shop: str, queries: tuple[str, ...], message: str) -> None:
    from hidvae.data.check import find_problems

    with pytest.raises(HidvaeError, match=message) as failed:
        tables = read_database(config(shop, *queries))
        raise DataError("; ".join(p.message for p in find_problems(tables, config(shop)).problems))
    assert "\n" not in str(failed.value)


def test_nothing_in_the_database_can_be_changed(shop: str) -> None:
    with pytest.raises(HidvaeError):
        read_database(config(shop, "DELETE FROM events"))
    assert len(read_database(config(shop)).interactions.collect()) == len(EVENTS)


def test_a_database_without_such_tables_lists_those_it_has(tmp_path: Path) -> None:
    statements = ["CREATE TABLE orders (a INT)", "CREATE TABLE customers (b INT)"]
    address = make_sqlite(tmp_path / "x.db", statements)
    with pytest.raises(
        DataError, match="expected a table called interactions or events; found customers, orders;"
    ):
        read_database(config(address))
    both = make_sqlite(tmp_path / "y.db", [*SHOP, "CREATE TABLE Interactions (a INT)"])
    with pytest.raises(DataError, match="found Interactions, events, items"):
        read_database(config(both))


def test_the_stage_is_made_again_only_if_the_rows_changed(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    settings = load_config((), [f"DatasetConfig.folder={make_sqlite(file)}"])
    before = temporary_folders()

    def made_at() -> Any:
        run = Run(tmp_path / "run")
        return run.make(settings, only="prepare")["dataset"].manifest

    first = made_at()
    assert made_at() == first
    make_sqlite(file, ["CREATE TABLE other (a INT)"])
    assert made_at() == first, "only what is read counts"
    make_sqlite(file, ["INSERT INTO events VALUES ('w', 'a', 9)"])
    assert made_at()["metrics"]["num_events"] == 7
    assert temporary_folders() == before
    assert first["inputs"].keys() == {"items", "interactions"}


def test_the_rows_are_read_once_for_fingerprint_and_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_config((), [f"DatasetConfig.folder={make_sqlite(tmp_path / 'shop.db')}"])
    reads = []
    read = database._Spool.read
    monkeypatch.setattr(
        database._Spool, "read", lambda *args: reads.append(args[2].said) or read(*args)
    )
    Run(tmp_path / "run").make(settings, only="prepare")
    assert len(reads) == 2


# Types


def test_types_of_postgres(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    address = fill_postgres(postgres, [])
    columns = {
        "id": "'12345678901234567890'::numeric",
        "uuid": "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",
        "price": "19.90::numeric(10, 2)",
        "ratio": "0.25::float8",
        "big": "9007199254740993::bigint",
        "flag": "true",
        "zoned": "'2024-03-31 12:00:00+02'::timestamptz",
        "plain": "'2024-03-31 12:00:00'::timestamp",
        "day": "'2024-03-31'::date",
        "hour": "'12:30'::time",
        "labels": "ARRAY['A', 'B']",
        "paths": "ARRAY[['A', 'B'], ['C', 'D']]",
        "json": """'["A", "B"]'::jsonb""",
        "object": """'{"a": 1}'::json""",
        "bytes": r"'\xdead'::bytea",
        "place": "'10.0.0.1'::inet",
        "none": "NULL",
    }
    select = ", ".join(f'{value} AS "{name}"' for name, value in columns.items())
    tables = read_database(
        config(address, "SELECT 'u' AS user_id, 'a' AS item_id", f"SELECT 'a' AS item_id, {select}")
    )
    frame = tables.items
    assert frame.schema == {
        "item_id": pl.String, "id": pl.String, "uuid": pl.String, "price": pl.String,
        "ratio": pl.Float64, "big": pl.Int64, "flag": pl.Boolean,
        "zoned": pl.Datetime("us", "UTC"), "plain": pl.Datetime("us"), "day": pl.Date,
        "hour": pl.String, "labels": pl.List(pl.String), "paths": pl.List(pl.List(pl.String)),
        "json": pl.List(pl.String), "object": pl.String, "bytes": pl.String, "place": pl.String,
        "none": pl.String,
    }  # fmt: skip
    row = frame.row(0, named=True)
    assert row["id"] == "12345678901234567890" and row["price"] == "19.9"
    assert row["big"] == 9007199254740993 and row["bytes"] == "dead"
    assert row["zoned"].isoformat() == "2024-03-31T10:00:00+00:00"
    assert row["labels"] == row["json"] == ["A", "B"]
    assert row["paths"] == [["A", "B"], ["C", "D"]]


def test_types_of_duckdb(tmp_path: Path) -> None:
    address = make_duckdb(tmp_path / "x.duckdb", [])
    tables = read_database(
        config(
            address,
            "SELECT 7 AS user_id, 'a' AS item_id, now() AS timestamp",
            "SELECT 'a' AS item_id, ['A', 'B'] AS categories, "
            "170141183460469231731687303715884105727::HUGEINT AS huge, "
            "19.90::DECIMAL(9, 2) AS price, '[\"x\"]'::JSON AS j",
        )
    )
    assert tables.items.row(0)[1:] == (
        ["A", "B"], "170141183460469231731687303715884105727", "19.9", ["x"]
    )  # fmt: skip
    assert tables.interactions.collect_schema()["timestamp"] == pl.Datetime("us", "UTC")


def test_sqlite_columns_of_several_types_keep_every_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {
        "a": ("7", "8.0", "NULL"),
        "b": ("7", "'x'", "8.0"),
        "c": ("9007199254740993", "0.5", "1"),
        "d": ("NULL", "NULL", "x'beef'"),
        "e": ("NULL", "NULL", "NULL"),
    }
    rows = [", ".join(row) for row in zip(*values.values(), strict=True)]
    address = make_sqlite(
        tmp_path / "x.db",
        ["CREATE TABLE items (a, b, c, d, e)", *(f"INSERT INTO items VALUES ({r})" for r in rows)],
    )
    for rows_per_part in (1, 2, 100):
        monkeypatch.setattr(database, "ROWS_PER_PART", rows_per_part)
        tables = read_database(
            config(address, "SELECT 'u' AS user_id, 'i' AS item_id", "SELECT * FROM items")
        )
        assert {s.name: s.to_list() for s in tables.items} == {
            "a": [7.0, 8.0, None],
            "b": ["7", "x", "8"],
            "c": ["9007199254740993", "0.5", "1"],
            "d": [None, None, "beef"],
            "e": [None, None, None],
        }


# Addresses


def test_a_file_may_be_named_in_several_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sqlite(tmp_path / "shop.db")
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path / "shop.db")
    for address in (f"sqlite:///{here}", f"sqlite:///{here[1:]}", "sqlite:///shop.db", here):
        tables = read_source(config(address))
        assert tables.name == "shop" and tables.items.height == 2
    assert as_written(Path("postgresql://me@host/db")) == "postgresql://me@host/db"
    assert as_written(Path("sqlite:///shop.db")) == "sqlite:///shop.db"
    assert as_written(Path("my_shop/")) == "my_shop"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("sqlite:///nowhere.db", "expected a database file; found none at nowhere.db or /nowhere"),
        ("duckdb:///nowhere.db", "expected a database file; found none"),
        ("sqlite://", "expected postgresql://user@host/database, sqlite:///file"),
        ("mysql://me@host/shop", "expected a folder, or a database as .*; found the scheme mysql"),
        ("postgresql://me@127.0.0.1:1/shop", "expected a database that opens; found: .*refused"),
        ("postgresql://me@no-such-host.invalid/shop", "opens; found: .*; correct the host"),
        ("postgresql://me@127.0.0.1:1/shop?colour=red", "opens; found: .*colour"),
    ],
)
def test_an_address_that_does_not_open_is_one_line(address: str, message: str) -> None:
    if address.startswith("postgresql"):
        pytest.importorskip("psycopg")
    with pytest.raises(DataError, match=message) as failed:
        read_database(config(address))
    assert "\n" not in str(failed.value)


def test_files_that_are_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("user_id,item_id\n" * 100)
    with pytest.raises(DataError, match="file is not a database; name a file that"):
        read_database(config(f"sqlite:///{tmp_path}/x.db"))


def test_queries_without_a_database_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="queries: expected the address of a database"):
        read_source(config(str(tmp_path), "SELECT 1"))
    with pytest.raises(ConfigError, match="source: expected folder for a database"):
        read_source(config("sqlite:///x", source="movielens"))


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r'psycopg.*pip install "hidvae\[sql\]"'):
        read_database(config("postgresql://me@host/shop"))


# Passwords


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:s3cret@host/shop",
        "postgres://me:s3cret@host:5432/shop?sslmode=require",
        "postgresql://me:s3/cr@et@host/shop",
        "postgresql://me:s3?cret@host/shop",
        "postgresql://me@host/shop?password=s3cret",
        "postgresql+psycopg2://me:s3cret@host/shop",
        "mysql://me:s3cret@host/shop",
        "duckdb:///x.db?motherduck_token=s3cret",
        "host=h user=me password=s3cret",
        " postgresql://me:s3cret@host/shop",
        "postgresql:/me:s3cret@host/shop",
        "jdbc:postgresql://host/shop?user=me&password=s3cret",
        "postgresql://me@host/shop?pass%77ord=s3cret",
        "postgresql://me@host/shop?options=-c%20password%3Ds3cret",
    ],
)
def test_an_address_with_a_password_is_never_a_setting(address: str, tmp_path: Path) -> None:
    assert has_password(address)
    file = tmp_path / "settings.gin"
    file.write_text(f"DatasetConfig.folder = '{address}'\n")
    bare = tmp_path / "bare.gin"
    bare.write_text(f"DatasetConfig.folder = {address}\n")
    commands = [
        ["run", "--data", address, "--output", str(tmp_path / "run")],
        ["prepare", "--check", "--data", address],
        ["inspect", address],
        ["run", "--set", f"DatasetConfig.folder={address}", "--output", str(tmp_path / "run")],
        ["run", "--config", str(file), "--output", str(tmp_path / "run")],
        ["run", "--config", str(bare), "--output", str(tmp_path / "run")],
    ]
    for words in commands:
        said = run_and_listen(words)
        assert "s3" not in said.replace(str(tmp_path), ""), words
        assert "Traceback" not in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me@host/shop", "postgresql://host:5432/shop", "postgresql:///shop",
        "postgresql://a:1,b:2/shop", "postgresql://[::1]:5432/shop", "postgresql://[::1]/shop",
        "postgresql://host:5432/shop?application_name=me@work", "sqlite:////data/a:b@c.db",
        "data/token=1", "C:\\data", "",
    ],
)  # fmt: skip
def test_other_addresses_are_not_taken_for_passwords(address: str) -> None:
    assert not has_password(address)
    assert DatasetConfig(folder=address).folder == address


def test_queries_with_a_password_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "SELECT * FROM dblink('host=x password=s3cret', 'SELECT 1')"
    with pytest.raises(ConfigError, match="queries: expected no password") as failed:
        DatasetConfig(queries=(secret,))
    assert "s3cret" not in str(failed.value)
    assert sql_has_password("ATTACH 'postgresql://me:s3cret@host/x'")
    assert not sql_has_password("SELECT * FROM a JOIN b ON a.token = b.token")
    with pytest.raises(ConfigError, match="expected a list") as failed:
        DatasetConfig(queries="SELECT password = s3cret")  # type: ignore[arg-type]
    assert "s3cret" not in str(failed.value)
    monkeypatch.setenv("PGPASSWORD", "hush-hush")
    assert sql_has_password("SELECT 'hush-hush'")
    assert hide_passwords("bad dsn postgresql://me:x@h/d hush-hush") == (
        "bad dsn postgresql://me:***@h/d ***"
    )


def run_and_listen(words: list[str]) -> str:
    """What a command prints, also in its log and its error."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        run_app(app, "hidvae", words)
    return out.getvalue()


def test_no_file_or_line_holds_the_password(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address = fill_postgres(postgres)
    output = ["--output", str(tmp_path / "run")]
    caplog.set_level(logging.DEBUG)
    said = run_and_listen(["prepare", "--data", address, *output])
    assert "HIDVAE_DB_PASSWORD" in said and said.count("\n") == 1, said
    monkeypatch.setenv("HIDVAE_DB_PASSWORD", "wr0ng-one")
    said = run_and_listen(["prepare", "--data", address, *output, "--debug"])
    assert "password authentication failed" in said and "wr0ng-one" not in said
    monkeypatch.setenv("HIDVAE_DB_PASSWORD", PASSWORD)
    said += run_and_listen(["prepare", "--data", address, *output])
    said += run_and_listen(["inspect", address])
    said += run_and_listen(["prepare", "--check", "--data", address])
    assert "no problems in 2 items and 6 events" in said
    said += run_and_listen(["prepare", "--check", "--data", address.replace("/postgres", "/shop")])
    assert 'database "shop" does not exist; correct the name of the database' in said
    assert PASSWORD not in said + caplog.text
    for file in (tmp_path / "run").rglob("*"):
        if file.is_file():
            assert PASSWORD.encode() not in file.read_bytes(), file
    dataset = load_dataset(Run(tmp_path / "run").folder("dataset"))
    assert dataset.name == "postgres" and dataset.interactions.user_ids == ["u", "v", "w"]


def test_a_user_and_a_password_of_any_letters(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    user, password = "me:x@corp/y?z%", "p@ss:w/rd%41"
    with psycopg.connect(fill_postgres(postgres), password=PASSWORD, autocommit=True) as connection:
        connection.execute(f'DROP ROLE IF EXISTS "{user}"')
        connection.execute(f"CREATE ROLE \"{user}\" SUPERUSER LOGIN PASSWORD '{password}'")
    address = postgres.replace("tester@", "me%3Ax%40corp%2Fy%3Fz%25@")
    monkeypatch.setenv("HIDVAE_DB_PASSWORD", password)
    said = run_and_listen(["prepare", "--check", "--data", address])
    assert "no problems in 2 items and 6 events" in said
    assert "postgresql://me%3A***@127.0.0.1" in said and "corp" not in said
    for odd in (
        address.replace("@127", ":p%40ss%3Aw%2Frd%2541@127"),
        postgres.replace("tester@", "tester:p%40ss%3Aw%2Frd%2541@"),
    ):
        said = run_and_listen(["prepare", "--check", "--data", odd])
        assert "folder: expected no password" in said and "%3Aw" not in said
    assert sql_has_password("ATTACH 'postgresql://me%3As3cret@host/x'")


def test_inspect_and_check_take_an_address(tmp_path: Path) -> None:
    address = make_sqlite(tmp_path / "shop.db")
    assert "no problems in 2 items" in run_and_listen(["prepare", "--check", "--data", address])
    for place in (address, str(tmp_path / "shop.db")):
        assert "w, 2 events" in run_and_listen(["inspect", place])


def test_a_file_that_is_no_database_does_not_stay_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class Recorded(sqlite3.Connection):
        def close(self) -> None:
            closed.append(True)
            super().close()

    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **named: connect(*args, **named, factory=Recorded)
    )
    (tmp_path / "shop.sqlite").write_bytes(b"this is no database at all\n" * 40)
    with pytest.raises(HidvaeError):
        read_source(DatasetConfig(source="folder", folder=f"sqlite:///{tmp_path / 'shop.sqlite'}"))
    assert closed == [True]
