"""A dataset straight from a database: PostgreSQL, SQLite or DuckDB.

``DatasetConfig.folder`` is the address, ``DatasetConfig.queries`` is the SQL of the events and of
the items; without queries, the tables of these names are read. Each database is spoken to by its
own driver over Python's common interface (PEP 249), which is all that is needed to read rows, so
that SQLite needs no package at all and PostgreSQL no more than psycopg (extra ``sql``).

Rows come in parts, in PostgreSQL by a cursor on the server, and are written to temporary Parquet
files, as a log may be larger than the memory. Both queries see the same state of the database, and
nothing can be changed in it. What was read is what is fingerprinted and prepared.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl

from hidvae.addresses import PASSWORD_VARIABLE, hide_passwords, is_address
from hidvae.config import DatasetConfig
from hidvae.data.notes import Notes
from hidvae.data.schema import Columns
from hidvae.data.sources.folder import ITEM_TABLES, LOG_TABLES, rename_tables
from hidvae.data.sources.frames import INTERACTIONS, ITEMS, fingerprint_rows
from hidvae.data.tables import SourceTables
from hidvae.errors import ConfigError, DataError, MissingExtraError
from hidvae.store.artifacts import Decision

ROWS_PER_PART = 50_000
"""Rows that are in memory at once."""
_FORMS = "postgresql://user@host/database, sqlite:///file or duckdb:///file"
_SETTING = "DatasetConfig.queries"
_EXAMPLE = f'--set "{_SETTING}=SELECT ... AS user_id, ... AS item_id FROM ..."'
_LOGS = (LOG_TABLES[:2], tuple(name for name in LOG_TABLES[2:] if name != "orders"))
"""Names of the table of events, the usual ones first, then those that may be it; the orders of a
database seldom name items, which stand in another table."""
_CONNECT_SECONDS = 10
_MAX_SHOWN = 20
_LARGEST_EXACT = 2**53
"""Whole numbers above it may not be the same as floats."""
_MAGIC = {b"SQLite format 3\x00": ("sqlite", 0), b"DUCK": ("duckdb", 8)}


def is_database(folder: str) -> bool:
    """Whether a folder of the settings is the address of a database, or the file of one."""
    return is_address(folder) or bool(_kind_of_file(folder))


def read_database(config: DatasetConfig) -> SourceTables:
    """Run both queries and keep their rows in temporary files, for as long as the result lives.

    Args:
        config: ``folder``, the address; ``queries``; ``column_names``.

    Returns:
        The tables with their fingerprints.

    Raises:
        ConfigError: If address, queries and column names do not go together.
        DataError: If the database cannot be opened, or a query does not run; in one line.
        MissingExtraError: If the driver is not installed.
    """
    if config.source != "folder":
        raise ConfigError(
            f"DatasetConfig.source: expected folder for a database; found {config.source!r}; "
            "remove the setting"
        )
    place = _Place.of(config.folder)
    spool = _Spool()
    with contextlib.ExitStack() as stack:
        stack.callback(spool.remove)
        with place.open() as connection:
            queries, decisions = _queries(config, place, connection)
            read = {
                what: spool.read(connection, query, what, place) for what, query in queries.items()
            }
        items = read.get(ITEMS)
        frame = None if items is None else _with_lists(items.rows.collect())
        log, notes = read[INTERACTIONS], Notes(strict=config.strict)
        notes.use("queries")
        items_said = items.said if items else None
        tables = rename_tables(
            place.name, frame, items_said, log.rows, log.said, config, notes, is_ordered=False
        )
        stack.pop_all()
    prints = {INTERACTIONS: fingerprint_rows(log.rows, log.said)}
    if frame is not None and items is not None:
        prints[ITEMS] = fingerprint_rows(frame.lazy(), items.said)
    decisions += _without_order(queries[INTERACTIONS], tables)
    return replace(
        tables,
        fingerprints=prints,
        decisions=(*decisions, *notes.decisions),
        holds=spool,
    )


@dataclass(frozen=True)
class _Query:
    """What to read, and what it is called in messages."""

    sql: str
    said: str


@dataclass(frozen=True)
class _Rows:
    """What a query gave."""

    rows: pl.LazyFrame
    said: str


def _queries(
    config: DatasetConfig, place: _Place, connection: Any
) -> tuple[dict[str, _Query], list[Decision]]:
    """The query of each table, items first, and what was decided."""
    if len(config.queries) > 2:
        raise ConfigError(
            f"{_SETTING}: expected one or two, of the events and of the items; found "
            f"{len(config.queries)}; keep these"
        )
    given = [query.strip().rstrip(";").strip() for query in config.queries]
    if given:
        if not all(given):
            raise ConfigError(f"{_SETTING}: expected SQL; found an empty text; write SELECT ...")
        whats = (INTERACTIONS, ITEMS)[: len(given)]
        queries = {
            what: _Query(sql, f"{place.address} query {number}")
            for number, (what, sql) in enumerate(zip(whats, given, strict=True), 1)
        }
        return dict(sorted(queries.items(), reverse=True)), []
    with place.speaking("the list of tables"):
        tables = place.database.list_tables(connection)
    by_name = {name.lower(): name for name in tables}
    present = [[by_name[name] for name in names if name in by_name] for names in _LOGS]
    logs = next(filter(None, present), [])
    if len(logs) != 1:
        found = ", ".join(tables[:_MAX_SHOWN]) or "no table"
        more = f" and {len(tables) - _MAX_SHOWN} more" if len(tables) > _MAX_SHOWN else ""
        raise DataError(
            f"{place.address}: expected a table called {' or '.join(_LOGS[0])}; found "
            f"{found}{more}; say what to read with {_EXAMPLE}"
        )
    chosen = {INTERACTIONS: logs[0]}
    if catalogues := [by_name[name] for name in ITEM_TABLES if name in by_name]:
        chosen = {ITEMS: catalogues[0], **chosen}
    queries = {
        what: _Query(f"SELECT * FROM {_quoted(name)}", f"{place.address} table {name}")
        for what, name in chosen.items()
    }
    read = " and ".join(f"the table {name}" for name in reversed(chosen.values()))
    return queries, [Decision(f"{place.address}: {read} read, as no query was given", _SETTING)]


def _without_order(query: _Query, tables: SourceTables) -> list[Decision]:
    """Said if nothing orders the events: rows of a database come in any order."""
    names = tables.interactions.collect_schema().names()
    is_ordered = re.search(r"\border\s+by\b", query.sql, re.IGNORECASE)
    if is_ordered or {Columns.TIMESTAMP, Columns.POSITION} & set(names):
        return []
    return [
        Decision(
            f"{query.said}: no timestamp and no ORDER BY, so events count in the order in which "
            "the database happened to give them, which may be another one each time",
            f"{_SETTING} with ORDER BY, or with a column AS timestamp",
        )
    ]


# The rows


class _Spool:
    """A temporary folder of Parquet parts, removed with the last who holds it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hidvae-database-"))
        self.remove: Callable[[], object] = weakref.finalize(
            self, shutil.rmtree, self.folder, ignore_errors=True
        )

    def read(self, connection: Any, query: _Query, what: str, place: _Place) -> _Rows:
        """Run a query and write its rows."""
        speaking = place.speaking(query.said, query.sql)
        with speaking, place.database.select(connection, query.sql) as (names, batches):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise DataError(
                    f"{query.said}: expected each column once; found {', '.join(repeated)} more "
                    "than once; give the columns names with AS"
                )
            parts = _Parts(self.folder, what, names)
            with _room_for(self.folder):
                for batch in batches:
                    parts.add(batch)
                return _Rows(parts.finish(), query.said)


class _Parts:
    """Parquet files of one table; in the end, each column has one type in all of them."""

    def __init__(self, folder: Path, what: str, names: Sequence[str]) -> None:
        self.folder, self.what, self.names = folder, what, names
        self.schemas: list[dict[str, Any]] = []
        self.large: set[str] = set()
        """Columns with whole numbers that no float holds."""

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        columns = zip(*rows, strict=True) if rows else [()] * len(self.names)
        frame = pl.DataFrame(
            [_column(name, values) for name, values in zip(self.names, columns, strict=True)]
        )
        for values in frame:
            if values.dtype == pl.Int64 and values.len():
                ends = [abs(int(end)) for end in (values.min(), values.max()) if end is not None]  # type: ignore[arg-type]
                self.large |= {values.name} if max(ends, default=0) > _LARGEST_EXACT else set()
        frame.write_parquet(self._file(len(self.schemas)))
        self.schemas.append(dict(frame.schema))

    def finish(self) -> pl.LazyFrame:
        if not self.schemas:
            self.add([])
        types = {name: self._type(name) for name in self.names}
        for number, schema in enumerate(self.schemas):
            if schema != types:
                part = pl.read_parquet(self._file(number), glob=False)
                part = part.select(_cast(part[name], types[name]) for name in self.names)
                part.write_parquet(self._file(number))
        files = [self._file(number) for number in range(len(self.schemas))]
        return pl.scan_parquet(files, glob=False)

    def _file(self, number: int) -> Path:
        return self.folder / f"{self.what}-{number:06}.parquet"

    def _type(self, name: str) -> Any:
        found = {schema[name] for schema in self.schemas} - {pl.Null()}
        if found == {pl.Int64(), pl.Float64()} and name not in self.large:
            return pl.Float64()
        return found.pop() if len(found) == 1 else pl.String()


_NATURAL: dict[frozenset[type], Any] = {
    frozenset([bool]): pl.Boolean,
    frozenset([int]): pl.Int64,
    frozenset([float]): pl.Float64,
    frozenset([int, float]): pl.Float64,
    frozenset([str]): pl.String,
    frozenset([date]): pl.Date,
    frozenset(): pl.Null,
}


def _column(name: str, values: Sequence[Any]) -> pl.Series:
    """A column of a part; what Polars has no type for, or several, becomes text.

    Decimals become text, as a float would round ids and prices; so do UUIDs, times of the day and
    lists (as JSON, see ``_with_lists``); bytes become hexadecimal.
    """
    kinds = frozenset(map(type, values)) - {type(None)}
    if kinds == {datetime}:
        is_aware = any(value is not None and value.tzinfo for value in values)
        if is_aware:
            values = [value and value.astimezone(UTC) for value in values]
        return pl.Series(name, values, pl.Datetime("us", "UTC" if is_aware else None))
    dtype = _NATURAL.get(kinds)
    if int in kinds and not _are_within(values, 2**63 - 1 if kinds == {int} else _LARGEST_EXACT):
        dtype = None
    if dtype is not None:
        return pl.Series(name, values, dtype)
    return pl.Series(name, [_text(value) for value in values], pl.String)


def _are_within(values: Sequence[Any], limit: int) -> bool:
    """Whether the whole numbers among them are from -limit to limit."""
    numbers = [value for value in values if isinstance(value, int)]
    return -limit <= min(numbers) and max(numbers) <= limit


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, Decimal):
        return format(value.normalize(), "f") if value.is_finite() else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False, default=_text)
    return str(value)


def _float_text(value: float) -> str | None:
    if value != value:
        return None
    return str(int(value)) if value.is_integer() and abs(value) < _LARGEST_EXACT else repr(value)


def _cast(values: pl.Series, dtype: Any) -> pl.Series:
    if dtype == pl.String and values.dtype == pl.Float64:
        return pl.Series(values.name, [v if v is None else _float_text(v) for v in values], dtype)
    return values.cast(dtype)


def _with_lists(items: pl.DataFrame) -> pl.DataFrame:
    """Columns that hold nothing but JSON lists, as lists."""
    lists = []
    for values in items:
        found = values.drop_nulls() if values.dtype == pl.String else values.clear()
        if found.len() and bool((found.str.starts_with("[") & found.str.ends_with("]")).all()):
            with contextlib.suppress(pl.exceptions.PolarsError):  # not JSON after all
                lists.append(values.str.json_decode(infer_schema_length=None).alias(values.name))
    return items.with_columns(lists)


@contextlib.contextmanager
def _room_for(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder}: expected room for the rows of the database; found: "
            f"{error.strerror or error}; set TMPDIR to a folder with more"
        ) from error


# The databases


@dataclass(frozen=True)
class _Place:
    """A database, by its address."""

    address: str
    """Without a password, for messages."""
    database: _Database
    name: str
    """Of the dataset."""

    @classmethod
    def of(cls, folder: str) -> _Place:
        kind, shown = _kind_of_file(folder), hide_passwords(folder)
        if kind:
            return cls(folder, _FILES[kind](folder), Path(folder).stem)
        scheme, _, rest = folder.partition("://")
        scheme = scheme.lower().partition("+")[0]  # SQLAlchemy names the driver after a +
        if scheme in _FILES:
            path = _path(folder, rest)
            return cls(folder, _FILES[scheme](path), Path(path).stem)
        if scheme in ("postgresql", "postgres"):
            name = rest.partition("?")[0].partition("/")[2] or "postgres"
            return cls(shown, _PostgreSQL(f"postgresql://{rest}"), unquote(name))
        raise DataError(
            f"{shown}: expected a folder, or a database as {_FORMS}; found the scheme "
            f"{scheme}://; save the tables as Parquet or CSV in a folder"
        )

    @contextlib.contextmanager
    def open(self) -> Iterator[Any]:
        """A connection that can only read."""
        try:
            errors = self.database.errors()
        except ImportError as error:
            raise MissingExtraError(
                f"{self.address}: needs {self.database.package}, which is not installed; run "
                'pip install "hidvae[sql]"'
            ) from error
        try:
            connection = self.database.connect()
        except errors as error:
            reason = _reason(error)
            raise DataError(
                f"{self.address}: expected a database that opens; found: {reason}; "
                f"{_advice(reason)}"
            ) from None
        try:
            yield connection
        finally:
            with contextlib.suppress(*errors):
                connection.close()

    @contextlib.contextmanager
    def speaking(self, said: str, sql: str = "") -> Iterator[None]:
        """Turn what the driver says into one line that names the query."""
        try:
            yield
        except self.database.errors() as error:
            query = f" in {_short(sql)}" if sql else ""
            raise DataError(
                f"{said}: expected SQL that can be run and read; found: {_reason(error)}{query}; "
                f"correct {_SETTING}"
            ) from None


class _Database(ABC):
    """How one kind of database is read."""

    package = ""

    @abstractmethod
    def errors(self) -> tuple[type[Exception], ...]:
        """What the driver raises; ImportError if it is not there."""

    @abstractmethod
    def connect(self) -> Any:
        """Open it, for reading only, in one transaction."""

    @abstractmethod
    def list_tables(self, connection: Any) -> list[str]:
        """Names of tables and views."""

    def cursor(self, connection: Any) -> AbstractContextManager[Any]:
        """What runs a query."""
        return contextlib.closing(connection.cursor())

    @contextlib.contextmanager
    def select(self, connection: Any, sql: str) -> Iterator[tuple[list[str], Iterable[list[Any]]]]:
        """Names of columns, and the rows, a part at a time."""
        with self.cursor(connection) as cursor:
            cursor.execute(sql)
            names = [str(column[0]) for column in cursor.description or ()]
            yield names, iter(lambda: cursor.fetchmany(ROWS_PER_PART), [])


class _SQLite(_Database):
    package = "sqlite3"

    def __init__(self, path: str) -> None:
        self.path = path

    def errors(self) -> tuple[type[Exception], ...]:
        return (sqlite3.Error, sqlite3.Warning)

    def connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{Path(self.path).resolve().as_uri()}?mode=ro", uri=True, isolation_level=None
        )
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM sqlite_master")  # opens the file, where there is one
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def list_tables(self, connection: Any) -> list[str]:
        return _first_of(
            connection.execute(
                "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
                "AND name NOT LIKE 'sqlite_%' ORDER BY name"
            )
        )


class _DuckDB(_Database):
    package = "duckdb"

    def __init__(self, path: str) -> None:
        self.path = path

    def errors(self) -> tuple[type[Exception], ...]:
        import duckdb

        return (duckdb.Error,)

    def connect(self) -> Any:
        import duckdb

        connection = duckdb.connect(self.path, read_only=True)
        connection.execute("BEGIN TRANSACTION")
        return connection

    def list_tables(self, connection: Any) -> list[str]:
        return _first_of(
            connection.execute(
                "SELECT table_name FROM information_schema.tables "
                "WHERE table_schema = current_schema() ORDER BY table_name"
            )
        )

    def cursor(self, connection: Any) -> AbstractContextManager[Any]:
        return contextlib.nullcontext(connection)  # its cursors are other connections


class _PostgreSQL(_Database):
    package = "psycopg"

    def __init__(self, address: str) -> None:
        self.address = address

    def errors(self) -> tuple[type[Exception], ...]:
        import psycopg

        return (psycopg.Error,)

    def connect(self) -> Any:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict

        given = conninfo_to_dict(self.address)
        options: dict[str, Any] = {"client_encoding": "utf8"}
        if password := os.environ.get(PASSWORD_VARIABLE):
            options["password"] = password
        if "connect_timeout" not in given and "PGCONNECT_TIMEOUT" not in os.environ:
            options["connect_timeout"] = _CONNECT_SECONDS
        connection = psycopg.connect(self.address, **options)
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SET TIME ZONE 'UTC'")
        return connection

    def list_tables(self, connection: Any) -> list[str]:
        return _first_of(
            connection.execute(
                "SELECT table_name FROM information_schema.tables "
                "WHERE table_schema = ANY (current_schemas(false)) ORDER BY table_name"
            )
        )

    def cursor(self, connection: Any) -> AbstractContextManager[Any]:
        return connection.cursor(name="hidvae")  # on the server: rows come as they are fetched


_FILES: dict[str, Callable[[str], _Database]] = {"sqlite": _SQLite, "duckdb": _DuckDB}


def _kind_of_file(folder: str) -> str:
    """Kind of database that a file holds, by how it begins; empty if none."""
    try:
        path = Path(folder).expanduser()
        if not folder or not path.is_file():
            return ""
        with path.open("rb") as file:
            start = file.read(32)
    except (OSError, ValueError):
        return ""
    return next(
        (kind for magic, (kind, at) in _MAGIC.items() if start[at : at + len(magic)] == magic), ""
    )


def _path(address: str, rest: str) -> str:
    """The file of ``sqlite:///file``: relative, else absolute without its first slash.

    Raises:
        DataError: If there is no such file.
    """
    path = unquote(rest.removeprefix("/"))
    places = [Path(path).expanduser(), Path("/") / path]
    if not rest.startswith("/") or not path or "?" in rest:
        raise DataError(
            f"{address}: expected {_FORMS}; found no file after the three slashes, or options "
            "after it; name the file alone, such as sqlite:///shop.db or sqlite:////data/shop.db"
        )
    for place in places:
        if place.is_file():
            return str(place)
    raise DataError(
        f"{address}: expected a database file; found none at "
        f"{' or '.join(dict.fromkeys(map(str, places)))}; correct the path (an absolute one has "
        "four slashes, as in sqlite:////data/shop.db)"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _first_of(cursor: Any) -> list[str]:
    return [str(row[0]) for row in cursor.fetchall()]


def _reason(error: Exception) -> str:
    """What a driver says, in one line and without passwords."""
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    hint = getattr(getattr(error, "diag", None), "message_hint", None)
    text = f"{primary}{f' ({hint})' if hint else ''}" if primary else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("LINE ", "^"))][:3]
    return hide_passwords(" ".join(kept).rstrip(".;")) or type(error).__name__


_ADVICE = {
    "password": f"put the right one into ${PASSWORD_VARIABLE}, $PGPASSWORD or ~/.pgpass",
    "resolve": "correct the host after the @",
    "name or service": "correct the host after the @",
    "role": "correct the user before the @",
    "does not exist": "correct the name of the database",
    "not a database": "name a file that the database wrote",
    "lock": "close the program that writes it, or copy the file",
    "permission": "ask for the right to read it",
}


def _advice(reason: str) -> str:
    """What to do about a database that does not open."""
    lower = reason.lower()
    found = (advice for word, advice in _ADVICE.items() if word in lower)
    return next(found, "correct the address, and see that the database runs")


def _short(sql: str) -> str:
    text = " ".join(hide_passwords(sql).split())
    return text if len(text) <= 200 else text[:197] + "..."
