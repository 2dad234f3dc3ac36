"""Amazon Reviews 2023: the raw files of a category, and the forms that the Hub hands out.

The log is ``All_Beauty.jsonl.gz``, ``raw_review_All_Beauty`` as JSON Lines or Parquet, or a
benchmark: ``All_Beauty.csv`` or the parts ``All_Beauty.train.csv``, ``.valid.csv``, ``.test.csv``.
The items are ``meta_All_Beauty.jsonl.gz`` or ``raw_meta_All_Beauty``. An item is a ``parent_asin``:
the colours and sizes of a product are one item.
Source: <https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023>.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from hidvae.data.notes import Notes
from hidvae.data.schema import Columns
from hidvae.data.sources.amazon_items import (
    ALL_PATHS,
    METADATA_SCHEMA,
    build_items,
    filled,
    joined,
)
from hidvae.data.sources.amazon_lines import (
    LINE,
    ReviewLog,
    json_field,
    read_records,
    read_reviews,
    scan_numbered,
    starts_with_fields,
)
from hidvae.data.sources.delimited import (
    collect,
    drop_broken_lines,
    header_of,
    scan_columns,
)
from hidvae.data.tables import SourceTables, reading
from hidvae.errors import DataError

PARTS = ("train", "valid", "test")
"""Parts of a benchmark, read as one log in this order."""

_ITEM = "parent_asin"
_EVENT = ("user_id", _ITEM, "timestamp")
_TEXTS = pl.List(pl.String())
_FIELDS: Mapping[str, pl.DataType] = {
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
_IMAGES_OF_HUB = pl.Struct({"large": _TEXTS, "hi_res": _TEXTS})
_PLACES = (
    "",
    "raw/review_categories",
    "raw/meta_categories",
    "review_categories",
    "meta_categories",
)
_LOGS = (
    "{}.jsonl",
    "{}.jsonl.gz",
    "raw_review_{}.jsonl",
    "raw_review_{}.parquet",
    "raw_review_{}[-_]*.parquet",
    "raw_review_{}/*.parquet",
    "{}.csv",
    "{}.csv.gz",
)
_METAS = (
    "meta_{}.jsonl",
    "meta_{}.jsonl.gz",
    "raw_meta_{}.jsonl",
    "raw_meta_{}.parquet",
    "raw_meta_{}[-_]*.parquet",
    "raw_meta_{}/*.parquet",
)
_NAME = re.compile(
    r"(raw_review_)?(?P<category>[A-Z]\w*?)(\.(train|jsonl|csv|parquet)\b.*|[-_]\d.*|)"
)


def categories_in(folder: Path) -> list[str]:
    """Categories whose log is in a folder."""
    paths = [path for place in _PLACES for path in sorted((folder / place).glob("*"))]
    names = (_NAME.fullmatch(path.name) for path in paths)
    categories = dict.fromkeys(found["category"] for found in names if found)
    return [name for name in categories if _is_log(_find_log(folder, name))]


def find_files(folder: Path, split: str) -> dict[str, Path] | None:
    """Log and metadata of a category, such as ``All_Beauty``; None if there is no log.

    Raises:
        DataError: If there is a raw log without metadata.
    """
    log = _find_log(folder, split)
    if not log:
        return None
    meta = _first(folder, _METAS, split)
    if not meta and not _is_csv(log[0]):
        raise DataError(
            f"{folder}: expected {log[0].name} and meta_{split}.jsonl (with or without .gz); found "
            f"{log[0].name}, without meta_{split}.jsonl; put the missing file there"
        )
    return {str(path.relative_to(folder)): path for path in (*log, *meta)}


def read(files: dict[str, Path], name: str, split: str, notes: Notes | None = None) -> SourceTables:
    """The log and the items of a category; a benchmark without metadata has items with ids only.

    Raises:
        DataError: If a file cannot be read, or too many of its lines are broken.
    """
    meta_paths = [path for path in files.values() if "meta_" in f"{path.parent.name}/{path.name}"]
    log_paths = [path for path in files.values() if path not in meta_paths]
    log = _read_log(log_paths, notes)
    counts = {"broken_lines": log.broken_lines}
    metadata = pl.DataFrame(schema={**METADATA_SCHEMA, "main_category": pl.String()})
    if meta_paths:
        metadata, more = _read_metadata(meta_paths, log.item_ids, notes)
        counts |= more
    items, more = build_items(log.item_ids, metadata, department=None)
    items_file = meta_paths[0] if meta_paths else log_paths[0]
    files_of_log = ", ".join(map(str, log_paths))
    return SourceTables(name, items, log.events, str(items_file), files_of_log, counts | more)


def _find_log(folder: Path, category: str) -> list[Path]:
    if log := _first(folder, _LOGS, category):
        return log
    parts = [
        _first(folder, (f"{{}}.{part}.csv", f"{{}}.{part}.csv.gz"), category) for part in PARTS
    ]
    return [path for part in parts for path in part] if parts[0] else []


def _first(folder: Path, patterns: tuple[str, ...], category: str) -> list[Path]:
    """The files of the first pattern that has any, in the first place that has any."""
    for place in _PLACES:
        for pattern in patterns:
            if found := sorted((folder / place).glob(pattern.format(category))):
                return found
    return []


def _is_log(paths: list[Path]) -> bool:
    if not paths:
        return False
    if _is_csv(paths[0]):
        return set(_EVENT) <= set(header_of(paths[0]))
    if _is_parquet(paths[0]):
        with reading(paths[0]):
            return set(_EVENT) <= set(pl.scan_parquet(paths[0], glob=False).collect_schema())
    return starts_with_fields(paths[0], _EVENT)


def _is_csv(path: Path) -> bool:
    return path.name.endswith((".csv", ".csv.gz"))


def _is_parquet(path: Path) -> bool:
    return path.suffix == ".parquet"


def _read_log(paths: list[Path], notes: Notes | None) -> ReviewLog:
    user, item, time = _EVENT
    if not _is_csv(paths[0]) and not _is_parquet(paths[0]):
        return read_reviews(paths[0], user=user, item=item, timestamp=time, notes=notes)
    logs, num_broken = [], 0
    for number, path in enumerate(paths):
        if _is_parquet(path):
            rows = pl.scan_parquet(path, glob=False).select(_EVENT)
        else:
            schema = {user: pl.String, item: pl.String, time: pl.Int64}
            usable = pl.all_horizontal(pl.col(_EVENT).is_not_null())
            rows = scan_columns(path, schema, quote='"')
            rows, broken = drop_broken_lines(rows, usable, path, notes=notes)
            num_broken += broken
        logs.append(
            rows.select(
                pl.col(user).cast(pl.String).alias(Columns.USER),
                pl.col(item).cast(pl.String).alias(Columns.ITEM),
                pl.col(time).cast(pl.Int64).alias(Columns.TIMESTAMP),
                pl.lit(number, pl.Int64).alias(Columns.POSITION),
            )
        )
    events = pl.concat(logs)
    if len(paths) == 1 or _is_parquet(paths[0]):
        events = events.drop(Columns.POSITION)
    item_ids = collect(events.select(Columns.ITEM).unique(), paths[0])[Columns.ITEM].sort()
    return ReviewLog(events, item_ids, num_broken)


def _read_metadata(
    paths: list[Path], item_ids: pl.Series, notes: Notes | None
) -> tuple[pl.DataFrame, dict[str, int]]:
    """``METADATA_SCHEMA`` and ``main_category`` of some items, and what was found wrong.

    The brand is the store, else the brand among the details; the description is its paragraphs,
    else the features. Average rating and number of ratings are left out: they know the future.
    """
    if _is_parquet(paths[0]):
        with reading(paths[0]):
            found = pl.scan_parquet(paths, glob=False).rename({_ITEM: Columns.ITEM})
            names = [name for name in _FIELDS if name in found.collect_schema()]
            wanted = pl.col(Columns.ITEM).is_in(item_ids.implode())
            frame = found.select(Columns.ITEM, *names).filter(wanted).collect(engine="streaming")
        frame = frame.with_columns(
            pl.lit(None, dtype).alias(name) for name, dtype in _FIELDS.items() if name not in names
        )
        return _as_metadata(frame), {}
    fields = _fields_of(paths[0])
    records = read_records(paths[0], item=_ITEM, item_ids=item_ids, fields=fields, notes=notes)
    counts = {"broken_metadata_lines": records.broken_lines}
    if records.odd_lines:
        counts["odd_metadata_lines"] = records.odd_lines
    return _as_metadata(records.frame), counts


def _fields_of(path: Path) -> dict[str, pl.DataType]:
    """What to read of each line: the Hub writes images and details in another form."""
    fields = dict(_FIELDS)
    lines = collect(
        scan_numbered(path).filter(json_field(f"$.{_ITEM}").is_not_null()).head(1), path
    )
    first: dict[str, Any] = json.loads(lines[LINE][0]) if lines.height else {}
    if isinstance(first.get("images"), dict):
        fields["images"] = _IMAGES_OF_HUB
    if isinstance(first.get("details"), str):
        fields["details"] = pl.String()
    return fields


def _as_metadata(frame: pl.DataFrame) -> pl.DataFrame:
    """``METADATA_SCHEMA`` and ``main_category`` from either form."""
    if isinstance(frame.schema["images"], pl.Struct):
        sizes = [pl.col("images").struct.field(size).list for size in ("large", "hi_res")]
        image = pl.coalesce(size.first() for size in sizes)
    else:
        first = pl.col("images").list.first().struct
        image = pl.coalesce(first.field("large"), first.field("hi_res"))
    if frame.schema["details"] == pl.String:
        brand = pl.col("details").str.json_path_match("$.Brand")
    else:
        brand = pl.col("details").struct.field("Brand")
    return frame.with_row_index("row").select(
        Columns.ITEM,
        "title",
        pl.coalesce(filled("store"), brand).alias(Columns.BRAND),
        pl.col("price").cast(pl.String),
        pl.coalesce(joined("description"), joined("features")).alias(Columns.DESCRIPTION),
        image.alias(Columns.IMAGE),
        pl.col("categories").implode().over("row").alias(ALL_PATHS),  # a list of one path
        "main_category",
    )
