"""Amazon Reviews of 2014, the original files of a category.

``reviews_Beauty_5.json.gz`` holds the 5-core log, one JSON object a line; without ``_5`` it is the
whole log. ``meta_Beauty.json.gz`` holds a Python literal a line (in some copies a JSON object), for
far more items than the log.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from hidvae.data.notes import Notes
from hidvae.data.schema import Columns
from hidvae.data.sources.amazon_items import ALL_PATHS, METADATA_SCHEMA, build_items
from hidvae.data.sources.amazon_lines import (
    LINE,
    LINE_NUMBER,
    check_broken,
    read_reviews,
    require_files,
    scan_numbered,
)
from hidvae.data.sources.delimited import collect, find_file
from hidvae.data.sources.literals import parse_object, whole_text
from hidvae.data.sources.remote import (
    AMAZON_2014,
    AMAZON_2014_SHORT,
    amazon_2014_category,
)
from hidvae.data.tables import SourceTables

_ASIN = r"""['"]asin['"]\s*:\s*['"]([^'"]+)['"]"""
_RELATED = r"""(['"])related['"]: \{[^{}]*\}"""


def department_of(category: str) -> str:
    """Root of a category's paths, from the name in its files.

    >>> department_of("Sports_and_Outdoors"), department_of("Patio_Lawn_and_Garden")
    ('Sports & Outdoors', 'Patio, Lawn & Garden')
    """
    *first, last = category.replace("_and_", " & ").replace("_", " ").split(" & ")
    if category.startswith(("Clothing", "Patio")):
        first = [first[0].replace(" ", ", ")]
    return " & ".join([*first, last])


def categories_in(folder: Path) -> list[str]:
    """Categories whose log and metadata are in a folder."""
    return [name for name in AMAZON_2014 if all(_find(folder, name).values())]


def _find(folder: Path, category: str) -> dict[str, Path | None]:
    names = (f"reviews_{category}_5.json", f"reviews_{category}.json")
    log = find_file([folder], names[0]) or find_file([folder], names[1])
    meta = f"meta_{category}.json"
    return {log.name if log else names[0]: log, meta: find_file([folder], meta)}


def find_files(folder: Path, split: str) -> dict[str, Path] | None:
    """Log and metadata of a category, the 5-core log first; None if there is no log.

    Raises:
        DataError: If there is a log without metadata.
    """
    found = _find(folder, AMAZON_2014_SHORT.get(split, split))
    return require_files(folder, found) if next(iter(found.values())) else None


def read(files: dict[str, Path], name: str, split: str, notes: Notes | None = None) -> SourceTables:
    """The log and the items of a category.

    Raises:
        DataError: If a file cannot be read, or too many of its lines are broken.
    """
    log_path, meta_path = files.values()
    log = read_reviews(
        log_path, user="reviewerID", item="asin", timestamp="unixReviewTime", notes=notes
    )
    metadata, num_broken = read_metadata(meta_path, log.item_ids, notes)
    items, counts = build_items(log.item_ids, metadata, department_of(amazon_2014_category(split)))
    counts = {
        "broken_lines": log.broken_lines,
        "broken_metadata_lines": num_broken,
        **counts,
    }
    return SourceTables(name, items, log.events, str(meta_path), str(log_path), counts)


def read_metadata(
    path: Path, item_ids: pl.Series, notes: Notes | None = None
) -> tuple[pl.DataFrame, int]:
    """Metadata of some items from a file of Python literals.

    Args:
        path: One dictionary a line, with ``asin`` and whatever else is known of the item.
        item_ids: Items to read; lines of others are passed over unparsed.
        notes: Told of broken lines.

    Returns:
        ``METADATA_SCHEMA`` with a row per usable line of these items, in file order, and the
        number of broken lines: those without an asin, and unreadable ones of these items.

    Raises:
        DataError: If the file is unreadable or too many lines are broken.
    """
    asin = pl.col(LINE).str.extract(_ASIN)
    wanted = asin.is_null() | asin.is_in(item_ids.implode())
    lines = collect(scan_numbered(path).filter(wanted), path)
    # three quarters of a line are lists of related items, which nobody asks for
    shorter = lines[LINE].str.replace(_RELATED, "${1}related${1}: {}")
    records = [_parse(line) for line in shorter]
    is_broken = pl.Series([record is None for record in records], dtype=pl.Boolean)
    check_broken(
        path,
        num_broken=int(is_broken.sum()),
        num_lines=lines.height,
        first=lines.filter(is_broken)[LINE_NUMBER].min(),
        expected="a Python dictionary with asin",
        notes=notes,
    )
    rows = [_metadata_row(record) for record in records if record is not None]
    return pl.DataFrame(rows, schema=METADATA_SCHEMA), int(is_broken.sum())


def _parse(line: str) -> dict[str, Any] | None:
    """A line as a dictionary with asin, or None.

    A Python literal can only be read by Python, line after line; that is why only the lines of
    the log's items come here. Some copies were written again as JSON.
    """
    record = parse_object(line)
    return record if record and record.get("asin") else None


def _metadata_row(record: dict[str, Any]) -> dict[str, Any]:
    """Sales rank and co-purchases are left out: they know the future of the log."""
    paths = record.get("categories")
    paths = paths if isinstance(paths, list) else []
    return {
        Columns.ITEM: str(record["asin"]),
        Columns.TITLE: whole_text(record.get("title")),
        Columns.BRAND: whole_text(record.get("brand")),
        Columns.PRICE: whole_text(record.get("price")),
        Columns.DESCRIPTION: whole_text(record.get("description")),
        Columns.IMAGE: whole_text(record.get("imUrl")),
        ALL_PATHS: [
            [whole_text(label) for label in path] for path in paths if isinstance(path, list)
        ],
    }
