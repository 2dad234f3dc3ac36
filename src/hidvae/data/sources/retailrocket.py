"""Retailrocket: ``events.csv``, and the categories of items among their properties.

Properties change with time; an item's category is the first that is known of it. All other values
are hashed and left out.
Source: <https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset>.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.schema import Columns
from hidvae.data.sources.delimited import collect, find_file
from hidvae.data.sources.folder import ITEM_TABLES
from hidvae.data.sources.public_tables import RawTable, TableLayout
from hidvae.data.table_files import has_table
from hidvae.data.tables import SourceTables

EVENTS = TableLayout(
    name="Retailrocket",
    said="a view, addtocart or transaction is an event, an item has its id and the numbers of its "
    "categories; all other properties are left out, as they are hashed",
    events=RawTable(files=("events.csv",), columns=("timestamp", "visitorid", "event", "itemid")),
    user="visitorid",
    item="itemid",
    time="timestamp",
)
_PROPERTIES = ("item_properties_part1.csv", "item_properties_part2.csv")
_PROPERTY = ("timestamp", "itemid", "property", "value")
_TREE = RawTable(files=("category_tree.csv",), columns=("categoryid", "parentid"))
_DEEPEST = 20
"""Levels of a category tree, at most, so that a circle in it ends."""


def find_files(folder: Path) -> dict[str, Path] | None:
    """The log, then the properties and the tree as far as they are there; None without a log.

    The columns of the log are usual ones: beside a table of items it is a stranger's own.
    """
    if any(has_table(folder, name) for name in ITEM_TABLES) or not (found := EVENTS.find(folder)):
        return None
    more = {name: find_file([folder], name) for name in (*_PROPERTIES, *_TREE.files)}
    return found | {name: path for name, path in more.items() if path is not None}


def read(folder: Path, files: Mapping[str, Path], config: DatasetConfig) -> SourceTables:
    """Events, and items with their category paths where those are known.

    Raises:
        ConfigError: If a condition of the settings is malformed, or its column is not there.
        DataError: If a file cannot be read.
    """
    tables = EVENTS.read(folder, dict(list(files.items())[:1]), config)
    parts = [name for name in _PROPERTIES if name in files]
    if not parts or _TREE.files[0] not in files:
        return tables
    rows = RawTable(files=tuple(parts), columns=_PROPERTY).scan(folder)
    known = collect(
        rows.filter(pl.col("property") == "categoryid")
        .sort(pl.col("timestamp").cast(pl.Int64, strict=False))
        .unique("itemid", keep="first", maintain_order=True)
        .select(pl.col("itemid").alias(Columns.ITEM), pl.col("value").str.strip_chars()),
        files[parts[0]],
    )
    tree = collect(_TREE.scan(folder).select(_TREE.columns), files[_TREE.files[0]])
    parent = dict(tree.iter_rows())
    paths = {category: _path(category, parent) for category in known["value"].unique()}
    categories = [paths[category] for category in known["value"]]
    known = known.select(Columns.ITEM).with_columns(
        pl.Series(Columns.CATEGORIES, categories, pl.List(pl.String))
    )
    items = tables.items.join(known, on=Columns.ITEM, how="left", maintain_order="left")
    return replace(tables, items=items, items_file=str(files[parts[0]]))


def _path(category: str, parent: Mapping[str, str | None]) -> list[str]:
    """A category and those above it, root first."""
    path: list[str] = []
    above: str | None = category
    while above and len(path) < _DEEPEST:
        path.insert(0, above)
        above = parent.get(above)
    return path
