"""Steam as published with two papers of UCSD: a line is an object as Python writes it, or as JSON.

The larger release has ``steam_reviews.json`` and ``steam_games.json``; the older one, of Australian
users, ``australian_user_reviews.json`` and ``australian_users_items.json``.
Source: <https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data>.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from hidvae.data.notes import Notes
from hidvae.data.schema import Columns
from hidvae.data.sources.amazon_lines import LINE, LINE_NUMBER, check_broken, scan_numbered
from hidvae.data.sources.delimited import collect, find_file
from hidvae.data.sources.literals import parse_literal, parse_object, whole_text
from hidvae.data.sources.paths import most_common_first
from hidvae.data.tables import SourceTables, map_distinct, reading

REVIEWS, GAMES = "steam_reviews.json", "steam_games.json"
OLD_REVIEWS, OWNED = "australian_user_reviews.json", "australian_users_items.json"
_QUOTED = r"""u?'(?:[^'\\]|\\.)*'|u?"(?:[^"\\]|\\.)*"|[^,}]+"""
_LINES_PER_BATCH = 1000


def find_files(folder: Path) -> dict[str, Path] | None:
    """The log, then what is known of the games, if it is there; None without a log."""
    names = (REVIEWS, OLD_REVIEWS, OWNED)
    log = next((name for name in names if find_file([folder], name)), None)
    if log is None:
        return None
    more = {REVIEWS: (GAMES,), OLD_REVIEWS: (GAMES, OWNED), OWNED: (GAMES,)}[log]
    found = {name: find_file([folder], name) for name in (log, *more)}
    return {name: path for name, path in found.items() if path is not None}


def said_of(files: Mapping[str, Path]) -> str:
    """What an event and an item are."""
    event = {
        REVIEWS: "a review is an event, a user is a username",
        OLD_REVIEWS: "a review is an event; one without a year, which Steam leaves out in the same "
        "year, counts as of the year after the last one named",
        OWNED: "a game that a user has is an event, in the order of their list, as there are no "
        "times",
    }[next(iter(files))]
    item = "genres are the path, most common first" if GAMES in files else "games have no genres"
    return f"{event}; a game is an item, {item}; hours, ratings and texts of users are left out"


def read(files: Mapping[str, Path], name: str, notes: Notes) -> SourceTables:
    """Reviews, or owned games, as events and games as items.

    Raises:
        DataError: If a file cannot be read, or too many of its lines are broken.
    """
    kind, path = next(iter(files.items()))
    read_log = {REVIEWS: _read_reviews, OLD_REVIEWS: _read_old_reviews, OWNED: _read_owned}[kind]
    events = read_log(path, notes)
    if GAMES in files:
        items, items_path = _read_games(files[GAMES], notes), files[GAMES]
    elif kind == OLD_REVIEWS and OWNED in files:
        items, items_path = _titles(_read_owned(files[OWNED], notes)), files[OWNED]
    else:
        items, items_path = _titles(events), path
    log = events.drop(Columns.TITLE, strict=False).lazy()
    return SourceTables(name, items, log, str(items_path), str(path))


def _field(name: str) -> pl.Expr:
    """A field of the object on each line, as text; the first that is called so.

    There are millions of lines, and Python reads a literal in a hundred times the time of this.
    """
    value = (
        pl.col(LINE).str.extract(f"[{{,]\\s*u?['\"]{name}['\"]:\\s*({_QUOTED})").str.strip_chars()
    )
    return value.replace("None", None).replace("null", None)


def _unquoted(values: pl.Series) -> pl.Series:
    """Texts without their quotation marks; escapes are decoded."""
    has_escape = values.str.contains("\\", literal=True).fill_null(value=False)
    plain = values.str.replace(r"^u?['\"](.*)['\"]$", "$1")
    if not has_escape.any():
        return plain
    decoded = map_distinct(values.filter(has_escape), _decoded, pl.String)
    return plain.scatter(has_escape.arg_true(), decoded)


def _decoded(text: str) -> str:
    return whole_text(parse_literal(text)) or text


def _read_reviews(path: Path, notes: Notes) -> pl.DataFrame:
    fields = {
        Columns.USER: "username",
        Columns.ITEM: "product_id",
        Columns.TIMESTAMP: "date",
    }
    lines = scan_numbered(path)
    rows = collect(
        lines.select(LINE_NUMBER, **{ours: _field(n) for ours, n in fields.items()}), path
    )
    rows = rows.with_columns(_unquoted(rows[name]) for name in fields)
    is_broken = rows[Columns.USER].is_null() | rows[Columns.ITEM].is_null()
    check_broken(
        path,
        num_broken=int(is_broken.sum()),
        num_lines=rows.height,
        first=rows.filter(is_broken)[LINE_NUMBER].min(),
        expected="an object with username, product_id and date",
        notes=notes,
    )
    return rows.filter(~is_broken).drop(LINE_NUMBER)


def _read_old_reviews(path: Path, notes: Notes) -> pl.DataFrame:
    rows = [
        (user, whole_text(review.get("item_id")), whole_text(review.get("posted")))
        for user, reviews in _lists_of(path, "reviews", notes)
        for review in reviews
    ]
    schema = [Columns.USER, Columns.ITEM, Columns.TIMESTAMP]
    events = pl.DataFrame(rows, dict.fromkeys(schema, pl.String), orient="row")
    posted = events[Columns.TIMESTAMP].str.extract(r"([A-Z][a-z]+ \d{1,2}(?:, \d{4})?)")
    last = posted.str.extract(r"(\d{4})$").cast(pl.Int32).max()
    year = int(str(last)) + 1 if last is not None else 2016
    dated = pl.when(posted.str.contains(r"\d{4}$")).then(posted).otherwise(posted + f", {year}")
    return events.with_columns(dated.alias(Columns.TIMESTAMP))


def _read_owned(path: Path, notes: Notes) -> pl.DataFrame:
    rows = [
        (user, whole_text(game.get("item_id")), whole_text(game.get("item_name")), place)
        for user, games in _lists_of(path, "items", notes)
        for place, game in enumerate(games)
    ]
    text = dict.fromkeys((Columns.USER, Columns.ITEM, Columns.TITLE), pl.String())
    return pl.DataFrame(rows, {**text, Columns.POSITION: pl.Int64()}, orient="row")


def _titles(events: pl.DataFrame) -> pl.DataFrame:
    columns = [name for name in (Columns.ITEM, Columns.TITLE) if name in events.columns]
    return events.select(columns).unique(Columns.ITEM, keep="first", maintain_order=True)


def _lists_of(path: Path, name: str, notes: Notes) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Each user and the objects of their list."""
    for record in _records(path, "user_id", notes):
        yield str(record["user_id"]), [e for e in record.get(name) or () if isinstance(e, dict)]


def _read_games(path: Path, notes: Notes) -> pl.DataFrame:
    """Games that have an id; what users said of them later is left out."""
    rows = []
    for game in _records(path, "id", notes):
        genres = game.get("genres")
        labels = [whole_text(each) for each in genres] if isinstance(genres, list) else []
        title = whole_text(game.get("title") or game.get("app_name"))
        rows.append((whole_text(game["id"]), title, whole_text(game.get("developer")), labels))
    text = dict.fromkeys((Columns.ITEM, Columns.TITLE, Columns.BRAND), pl.String())
    schema = {**text, Columns.CATEGORIES: pl.List(pl.String())}
    items = pl.DataFrame(rows, schema, orient="row")
    return items.with_columns(
        most_common_first(items[Columns.CATEGORIES]).alias(Columns.CATEGORIES)
    )


def _records(path: Path, key: str, notes: Notes) -> Iterator[dict[str, Any]]:
    """The objects of a file that have a key.

    Raises:
        DataError: At the end, if too many lines have none.
    """
    num_lines, num_broken, first = 0, 0, None
    with reading(path):
        batches = scan_numbered(path).collect_batches(
            chunk_size=_LINES_PER_BATCH, maintain_order=True
        )
        for batch in batches:
            for number, line in batch.select(LINE_NUMBER, LINE).iter_rows():
                record = parse_object(line)
                num_lines += 1
                if record and record.get(key) is not None:
                    yield record
                else:
                    num_broken += 1
                    first = number if first is None else first
    check_broken(
        path,
        num_broken=num_broken,
        num_lines=num_lines,
        first=first,
        expected=f"an object with {key}",
        notes=notes,
    )
