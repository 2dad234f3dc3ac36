"""Amazon Reviews 2023, the raw files of a category.

``All_Beauty.jsonl.gz`` holds the reviews, ``meta_All_Beauty.jsonl.gz`` the items, one JSON object a
line each. An item is a ``parent_asin``: the colours and sizes of a product are one item.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hidvae.data.schema import Columns
from hidvae.data.sources.amazon_items import ALL_PATHS, build_items
from hidvae.data.sources.amazon_lines import (
    LINE,
    LINE_NUMBER,
    check_broken,
    json_field,
    read_reviews,
    require_files,
    scan_numbered,
)
from hidvae.data.sources.delimited import collect, find_file
from hidvae.data.tables import SourceTables

_ITEM = "parent_asin"
_TEXTS = pl.List(pl.String())
_FIELDS = pl.Struct(
    {
        "title": pl.String(),
        "store": pl.String(),
        "price": pl.String(),  # a number, null, or text such as "from 12.99"
        "description": _TEXTS,
        "features": _TEXTS,
        "images": pl.List(pl.Struct({"large": pl.String(), "hi_res": pl.String()})),
        "categories": _TEXTS,
        "details": pl.Struct({"Brand": pl.String()}),
        "main_category": pl.String(),
    }
)


def find_files(folder: Path, split: str) -> dict[str, Path] | None:
    """Log and metadata of a category, such as ``All_Beauty``; None if there is no log.

    Raises:
        DataError: If there is a log without metadata.
    """
    log_name, meta_name = f"{split}.jsonl", f"meta_{split}.jsonl"
    log = find_file([folder], log_name)
    if log is None:
        return None
    return require_files(folder, {log.name: log, meta_name: find_file([folder], meta_name)})


def read(files: dict[str, Path], name: str, split: str) -> SourceTables:
    """The log and the items of a category.

    Raises:
        DataError: If a file cannot be read, or too many of its lines are broken.
    """
    log_path, meta_path = files.values()
    log = read_reviews(log_path, user="user_id", item=_ITEM, timestamp="timestamp")
    metadata, num_broken = _read_metadata(meta_path, log.item_ids)
    items, counts = build_items(log.item_ids, metadata, department=None)
    counts = {
        "broken_lines": log.broken_lines,
        "broken_metadata_lines": num_broken,
        **counts,
    }
    return SourceTables(name, items, log.events, str(meta_path), str(log_path), counts)


def _read_metadata(path: Path, item_ids: pl.Series) -> tuple[pl.DataFrame, int]:
    """``METADATA_SCHEMA`` and ``main_category`` of some items, and the number of broken lines.

    The brand is the store, else the brand among the details; the description is its paragraphs,
    else the features. Average rating and number of ratings are left out: they know the future.
    """
    item = json_field(f"$.{_ITEM}").alias(Columns.ITEM)
    is_wanted = pl.col(Columns.ITEM).is_null() | pl.col(Columns.ITEM).is_in(item_ids.implode())
    record = pl.when(pl.col(Columns.ITEM).is_not_null()).then(pl.col(LINE))
    fields = record.str.json_decode(_FIELDS).struct.unnest()
    lines = scan_numbered(path).with_columns(item).filter(is_wanted)
    found = collect(lines.select(LINE_NUMBER, Columns.ITEM, fields), path)
    broken = found.filter(pl.col(Columns.ITEM).is_null())
    check_broken(
        path,
        num_broken=broken.height,
        num_lines=found.height,
        first=broken[LINE_NUMBER].min(),
        expected=f"a JSON object with {_ITEM}",
    )
    image = pl.col("images").list.first().struct
    metadata = found.drop_nulls(Columns.ITEM).select(
        Columns.ITEM,
        "title",
        pl.coalesce(_filled("store"), pl.col("details").struct.field("Brand")).alias(Columns.BRAND),
        "price",
        pl.coalesce(_joined("description"), _joined("features")).alias(Columns.DESCRIPTION),
        pl.coalesce(image.field("large"), image.field("hi_res")).alias(Columns.IMAGE),
        pl.col("categories").implode().over(LINE_NUMBER).alias(ALL_PATHS),  # a list of one path
        "main_category",
    )
    return metadata, broken.height


def _filled(column: str) -> pl.Expr:
    """Text, null where blank."""
    text = pl.col(column).str.strip_chars()
    return pl.when(text != "").then(text)


def _joined(column: str) -> pl.Expr:
    """Paragraphs as one text, null if there is none."""
    text = pl.col(column).list.join(" ", ignore_nulls=True).str.strip_chars()
    return pl.when(text != "").then(text)
