"""MIND, Microsoft's news dataset: ``behaviors.tsv`` and ``news.tsv`` of one of its parts.

A line of ``behaviors.tsv`` is an impression: user, time, the news clicked before, and the news
shown, each with -1 if it was clicked. Neither file has a header.
Source: <https://msnews.github.io>, Wu et al., ACL 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.schema import Columns
from hidvae.data.sources.delimited import collect, find_file
from hidvae.data.sources.paths import path_of
from hidvae.data.sources.public_tables import RawTable
from hidvae.data.tables import SourceTables
from hidvae.errors import DataError

_BEHAVIORS = RawTable(
    files=("behaviors.tsv",),
    columns=("impression", "user", "time", "history", "shown"),
    has_header=False,
    separator="\t",
    quote=None,
)
_NEWS = RawTable(
    files=("news.tsv",),
    columns=(
        "id",
        "category",
        "subcategory",
        "title",
        "abstract",
        "url",
        "title_entities",
        "abstract_entities",
    ),
    has_header=False,
    separator="\t",
    quote=None,
)
_TIME = "%m/%d/%Y %I:%M:%S %p"


def find_files(folder: Path) -> dict[str, Path] | None:
    """Both files by name; None if they are not both there."""
    names = ("behaviors.tsv", "news.tsv")
    found = {name: path for name in names if (path := find_file([folder], name))}
    return found if len(found) == len(names) else None


def read(folder: Path, files: Mapping[str, Path], _: DatasetConfig) -> SourceTables:
    """Clicks as events and news as items.

    A user's events are the history of their first impression, which has no times but an order, and
    then the clicks by the time of the impression.

    Raises:
        DataError: If a file cannot be read, or nobody clicked on anything.
    """
    log_path, news_path = files.values()
    time = pl.col("time").str.to_datetime(_TIME, strict=False)
    rows = _BEHAVIORS.scan(folder).select(
        pl.col("user").alias(Columns.USER),
        time.dt.epoch("s").alias(Columns.POSITION),
        pl.col("history").str.extract_all(r"\S+").alias("history"),
        pl.col("shown").str.extract_all(r"\S+-1\b").alias("clicked"),
    )
    first = rows.sort(Columns.POSITION, maintain_order=True, nulls_last=True)
    first = first.unique(Columns.USER, keep="first", maintain_order=True)
    history = first.select(
        Columns.USER,
        pl.col("history").alias(Columns.ITEM),
        pl.int_ranges(pl.col("history").list.len()).alias(Columns.POSITION),
    ).explode(Columns.ITEM, Columns.POSITION)
    clicks = rows.select(
        Columns.USER, pl.col("clicked").alias(Columns.ITEM), Columns.POSITION
    ).explode(Columns.ITEM)
    clicks = clicks.with_columns(pl.col(Columns.ITEM).str.replace(r"-1$", ""))
    events = collect(pl.concat([history, clicks]).drop_nulls(Columns.ITEM), log_path)
    if events.is_empty():
        raise DataError(
            f"{log_path}: expected clicked news (such as N55689-1) or histories; found none; take "
            "the part train or dev, as test has no clicks"
        )
    items = collect(
        _NEWS.scan(folder).select(
            pl.col("id").alias(Columns.ITEM),
            pl.col("title").alias(Columns.TITLE),
            pl.col("abstract").alias(Columns.DESCRIPTION),
            path_of(("category", "subcategory")).alias(Columns.CATEGORIES),
        ),
        news_path,
    )
    name = folder.resolve().name
    return SourceTables(name, items, events.lazy(), str(news_path), str(log_path))
