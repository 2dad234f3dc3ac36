"""MovieLens (GroupLens) of every release, from its official files or copies of them in UTF-8.

Events are ratings, or those that ``DatasetConfig.events_where`` asks for; items are all movies.
Genres are a set, not a path; the path made of them starts with the genre that most movies have.
Left out: the users' table, links to other sites, and tags, which viewers wrote at any time, that of
the test period included. Rules: docs/datasets.md.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.conditions import keep_events
from hidvae.data.notes import Notes, show_value
from hidvae.data.schema import Columns
from hidvae.data.sources.delimited import (
    collect,
    drop_broken_lines,
    find_file,
    header_of,
    read_with_notes,
    scan_columns,
    scan_lines,
)
from hidvae.data.sources.locate import locate_folder
from hidvae.data.sources.paths import most_common_first
from hidvae.data.sources.remote import dataset_name
from hidvae.data.tables import SourceTables
from hidvae.errors import DataError

YEAR, GENRES = "year", "genres"

_COLONS, _COMMAS = ("ratings.dat", "movies.dat"), ("ratings.csv", "movies.csv")
_FILES = {
    "100k": ("u.data", "u.item", "u.genre"),
    "1m": _COLONS,
    "10m": _COLONS,
    **dict.fromkeys(("20m", "25m", "32m", "latest", "latest-small"), _COMMAS),
}
"""Files of each release, ratings first, then movies."""
_FOLDERS = {"10m": "ml-10M100K"}
"""Folder that an archive unpacks to, where it is not named after the archive."""

_RATING = "rating"
_RATING_TYPES: Mapping[str, type[pl.DataType]] = {
    Columns.USER: pl.String,
    Columns.ITEM: pl.String,
    _RATING: pl.Float64,
    Columns.TIMESTAMP: pl.Int64,
}
_IS_NUMBER = r"^\s*\d+\s*$"
_NO_GENRE = ("unknown", "(no genres listed)", "")
_FIRST_LINES = 10
_NUM_FIELDS_BEFORE_GENRES = 5  # of u.item: id, title, release date, video release date, address
_YEAR = r"\((\d{4})(?:\s*[-–]\s*(?:\d{4})?\s*)?\)\s*$"  # also (1975-1979) and (2009– )


def source_files(config: DatasetConfig) -> dict[str, Path]:
    """The files that ``read_movielens`` reads, by name.

    Raises:
        ConfigError: If dataset_split is no release.
        DataError: If the folder or a file is missing.
    """
    archive = dataset_name(config).replace("movielens", "ml")  # refuses an unknown release
    unpacked = _FOLDERS.get(config.dataset_split, archive)
    names = _FILES[config.dataset_split]

    def find(folder: Path, name: str) -> Path | None:
        return find_file((folder, folder / unpacked), name)

    folder = locate_folder(
        config, wanted=", ".join(names), has_files=lambda place: find(place, names[0]) is not None
    )
    found = {name: find(folder, name) for name in names}
    if missing := [name for name, path in found.items() if path is None]:
        raise DataError(
            f"{folder}: expected the files of {archive} ({', '.join(names)}); missing "
            f"{', '.join(missing)}; unpack the archive there, or name its folder with "
            "--set DatasetConfig.folder=PATH"
        )
    return {name: path for name, path in found.items() if path is not None}


def release_of(folder: Path) -> str:
    """The release whose files are in a folder; empty if there are none.

    The releases with ``ratings.csv`` are written alike; which one it is says the folder's name or
    the README, else it counts as "latest".
    """
    if all(find_file([folder], name) for name in _FILES["100k"]):
        return "100k"
    if all(find_file([folder], name) for name in _COLONS):
        is_10m = find_file([folder], "tags.dat") or folder.resolve().name == _FOLDERS["10m"]
        return "10m" if is_10m else "1m"
    ratings, movies = (find_file([folder], name) for name in _COMMAS)
    if not (ratings and movies and _is_official(ratings, movies)):
        return ""
    readme = folder / "README.txt"
    start = readme.read_bytes()[:1000].decode("latin-1") if readme.is_file() else ""
    for text in (folder.resolve().name, start):
        if (named := re.search(r"\bml-([\w-]+)", text)) and _FILES.get(named[1]) == _COMMAS:
            return named[1]
    return "latest"


def _is_official(ratings: Path, movies: Path) -> bool:
    """Whether two tables are written as GroupLens does, and not a stranger's of the same names."""
    if header_of(ratings) != ["userId", "movieId", _RATING, "timestamp"]:
        return False
    if header_of(movies)[:3] != ["movieId", "title", "genres"]:
        return False
    first = scan_lines(ratings).slice(1, _FIRST_LINES)
    lines = collect(first, ratings)["line"].drop_nulls()
    is_number = lines.str.contains(r'^"?\d+"?,"?\d+"?,"?[\d.]+"?,"?\d+"?\s*$')
    return not lines.len() or 2 * int(is_number.sum()) >= lines.len()


def read_movielens(config: DatasetConfig) -> SourceTables:
    """Read the configured release.

    Items carry ``title`` as in the file, ``year``, ``genres`` (all of them, in the file's order)
    and ``categories`` (the same genres, most common first; null without any). Interactions are
    scanned lazily.

    Raises:
        ConfigError: If dataset_split is no release.
        DataError: If a file is missing or cannot be used.
    """
    return read_with_notes(config, lambda notes: _read(config, notes))


def _read(config: DatasetConfig, notes: Notes) -> SourceTables:
    files = source_files(config)
    ratings_path, movies_path, *_ = files.values()
    header_lines = 0
    names = _FILES[config.dataset_split]
    if names == _COMMAS:
        ratings, movies = _ratings_with_commas(ratings_path), _movies_with_commas(movies_path)
        header_lines = 1
    elif names == _COLONS:
        ratings, movies = _scan_ratings(ratings_path, "::"), _movies_with_colons(movies_path)
    else:
        ratings = _scan_ratings(ratings_path, "\t")
        movies = _movies_of_100k(movies_path, files["u.genre"])
    events, num_broken = drop_broken_lines(
        ratings, _is_usable_rating(), ratings_path, header_lines=header_lines, notes=notes
    )
    items, counts = _read_items(movies, movies_path, header_lines, notes)
    return SourceTables(
        name=dataset_name(config),
        items=items,
        interactions=keep_events(events, config.events_where, str(ratings_path)).drop(_RATING),
        items_file=str(movies_path),
        interactions_file=str(ratings_path),
        counts={"broken_lines": num_broken, **counts},
        used=frozenset({"events_where"}),
    )


def _scan_ratings(path: Path, separator: str) -> pl.LazyFrame:
    """Ratings without a header. ``::`` is read as ``:`` with an empty column in between.

    Raises:
        DataError: If none of the first lines has the separator.
    """
    first = collect(scan_lines(path).drop_nulls().head(_FIRST_LINES), path)["line"]
    if len(first) and not first.str.contains(separator, literal=True).any():
        between = {"\t": "tabs", "::": "::"}[separator]
        raise DataError(
            f"{path}: expected user, item, rating and time with {between} between; found "
            f"{show_value(first[0])}; put {between} between them"
        )
    schema: dict[str, type[pl.DataType]] = {}
    for name, dtype in _RATING_TYPES.items():
        if schema and len(separator) == 2:
            schema[f"before_{name}"] = pl.String
        schema[name] = dtype
    rows = pl.scan_csv(
        path,
        glob=False,
        has_header=False,
        separator=separator[0],
        quote_char=None,
        schema=schema,
        ignore_errors=True,
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
    )
    return rows.select(_RATING_TYPES.keys())


def _ratings_with_commas(path: Path) -> pl.LazyFrame:
    ours = {"userId": Columns.USER, "movieId": Columns.ITEM}
    names = ("userId", "movieId", _RATING, Columns.TIMESTAMP)
    return scan_columns(path, dict(zip(names, _RATING_TYPES.values(), strict=True))).rename(ours)


def _is_usable_rating() -> pl.Expr:
    return pl.all_horizontal(
        pl.col(Columns.USER, Columns.ITEM).str.contains(_IS_NUMBER),
        pl.col(_RATING).is_between(0, 5, closed="right"),
        pl.col(Columns.TIMESTAMP).is_not_null(),
    )


def _movies_of_100k(path: Path, genres_path: Path) -> pl.LazyFrame:
    """``id|title|release date|video date|address`` and a 0/1 flag per genre of ``u.genre``."""
    fields = pl.col("line").str.split("|")
    names = _lines(genres_path).drop_nulls().collect()["line"].str.extract(r"^(.*)\|\d+$")
    first = _NUM_FIELDS_BEFORE_GENRES
    flags = [
        pl.when(fields.list.get(first + number, null_on_oob=True) == "1").then(pl.lit(name))
        for number, name in enumerate(names)
    ]
    has_all = fields.list.len() == first + len(flags)
    return _lines(path).select(
        pl.when(has_all).then(fields.list.get(0)).alias(Columns.ITEM),
        fields.list.get(1, null_on_oob=True).alias(Columns.TITLE),
        pl.when(has_all).then(pl.concat_list(flags).list.drop_nulls()).alias(GENRES),
        fields.list.get(2, null_on_oob=True).str.extract(r"(\d{4})$").alias(YEAR),
    )


def _movies_with_colons(path: Path) -> pl.LazyFrame:
    """``id::title::genre|genre``."""
    fields = pl.col("line").str.splitn("::", 3).struct
    return _lines(path).select(
        fields.field("field_0").alias(Columns.ITEM),
        fields.field("field_1").alias(Columns.TITLE),
        fields.field("field_2").str.split("|").alias(GENRES),
        pl.lit(None, pl.String).alias(YEAR),
    )


def _movies_with_commas(path: Path) -> pl.LazyFrame:
    names = {"movieId": Columns.ITEM, "title": Columns.TITLE, "genres": GENRES}
    rows = scan_columns(path, dict.fromkeys(names, pl.String), quote='"').rename(names)
    return rows.with_columns(pl.col(GENRES).str.split("|"), pl.lit(None, pl.String).alias(YEAR))


def _lines(path: Path) -> pl.LazyFrame:
    """Lines of a small file as column ``line``, blank ones null.

    100K and 1M are published in Latin-1, 10M and many copies of the others are UTF-8; a text in
    Latin-1 with an accent is hardly ever valid UTF-8.
    """
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = pl.Series("line", text.split("\n")).str.strip_chars("\r")
    return lines.replace("", None).to_frame().lazy()


def _read_items(
    movies: pl.LazyFrame, path: Path, header_lines: int, notes: Notes
) -> tuple[pl.DataFrame, dict[str, int]]:
    """item_id, title, year, genres, categories; each movie once."""
    is_usable = pl.col(Columns.ITEM).str.contains(_IS_NUMBER) & pl.col(GENRES).is_not_null()
    rows, num_broken = drop_broken_lines(
        movies, is_usable, path, header_lines=header_lines, notes=notes
    )
    known = pl.element().filter(~pl.element().is_in(_NO_GENRE))
    found = rows.with_columns(
        pl.col(Columns.ITEM).str.strip_chars(),
        pl.col(GENRES).list.eval(known),
        pl.coalesce(pl.col(Columns.TITLE).str.extract(_YEAR), YEAR).cast(pl.Int32).alias(YEAR),
    ).collect()
    items = found.unique(Columns.ITEM, keep="first", maintain_order=True)
    counts = {
        "broken_item_lines": num_broken,
        "duplicate_items": found.height - items.height,
        "items_without_genre": int((items[GENRES].list.len() == 0).sum()),
    }
    items = items.with_columns(most_common_first(items[GENRES]).alias(Columns.CATEGORIES))
    return items.select(Columns.ITEM, Columns.TITLE, YEAR, GENRES, Columns.CATEGORIES), counts
