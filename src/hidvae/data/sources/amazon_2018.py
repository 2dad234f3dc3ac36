"""Amazon Reviews 2018, the original files of a category.

``Gift_Cards_5.json.gz`` holds the 5-core log, without ``_5`` the whole one, and
``meta_Gift_Cards.json.gz`` the items. Both have a JSON object a line.
Source: <https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/>.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from hidvae.data.notes import Notes
from hidvae.data.schema import Columns
from hidvae.data.sources.amazon_items import ALL_PATHS, build_items, filled, joined
from hidvae.data.sources.amazon_lines import read_records, read_reviews, starts_with_fields
from hidvae.data.sources.delimited import find_file
from hidvae.data.tables import SourceTables

_LOG = re.compile(r"(?P<category>(?!meta_|reviews_)[A-Z]\w*?)(_5)?\.json(\.gz)?")
_TEXTS = pl.List(pl.String())
_FIELDS = {
    "title": pl.String(),
    "brand": pl.String(),
    "price": pl.String(),
    "description": _TEXTS,
    "feature": _TEXTS,
    "imageURL": _TEXTS,
    "imageURLHighRes": _TEXTS,
    "category": _TEXTS,
    "main_cat": pl.String(),
}
_SCRIPT = "getTime"
_MARKUP = "</"


def categories_in(folder: Path) -> list[str]:
    """Categories whose log and metadata are in a folder."""
    names = (_LOG.fullmatch(path.name) for path in sorted(folder.iterdir()))
    categories = dict.fromkeys(found["category"] for found in names if found)
    return [name for name in categories if find_files(folder, name)]


def find_files(folder: Path, category: str) -> dict[str, Path] | None:
    """Log and metadata of a category, the 5-core log first; None if they are not both there."""
    log = find_file([folder], f"{category}_5.json") or find_file([folder], f"{category}.json")
    meta = find_file([folder], f"meta_{category}.json")
    if log is None or meta is None or not starts_with_fields(log, ("reviewerID", "asin")):
        return None
    return {log.name: log, meta.name: meta}


def read(files: dict[str, Path], name: str, notes: Notes | None = None) -> SourceTables:
    """The log and the items of a category.

    A title that holds a script is what is left of a broken page, and so is a label that holds a
    tag: the title counts as missing, the path ends there. Sales rank and what was also bought or
    viewed are left out: they know the future of the log.

    Raises:
        DataError: If a file cannot be read, or too many of its lines are broken.
    """
    log_path, meta_path = files.values()
    log = read_reviews(
        log_path, user="reviewerID", item="asin", timestamp="unixReviewTime", notes=notes
    )
    found = read_records(meta_path, item="asin", item_ids=log.item_ids, fields=_FIELDS, notes=notes)
    is_script = pl.col("title").str.contains(_SCRIPT, literal=True)
    label = pl.element()
    labels = pl.when(~label.str.contains(_MARKUP, literal=True)).then(label)
    metadata = found.frame.with_row_index("row").select(
        Columns.ITEM,
        pl.when(~is_script).then(pl.col("title")).alias(Columns.TITLE),
        filled("brand"),
        "price",
        pl.coalesce(joined("description"), joined("feature")).alias(Columns.DESCRIPTION),
        pl.coalesce(pl.col("imageURL").list.first(), pl.col("imageURLHighRes").list.first()).alias(
            Columns.IMAGE
        ),
        pl.col("category").list.eval(labels).implode().over("row").alias(ALL_PATHS),
        pl.col("main_cat").alias("main_category"),
    )
    items, counts = build_items(log.item_ids, metadata, department=None)
    counts = {
        "broken_lines": log.broken_lines,
        "broken_metadata_lines": found.broken_lines,
        "odd_metadata_lines": found.odd_lines,
        "titles_that_are_scripts": int(found.frame.select(is_script.sum()).item()),
        **counts,
    }
    return SourceTables(name, items, log.events, str(meta_path), str(log_path), counts)
