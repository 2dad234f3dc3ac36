"""The official files of Amazon Reviews: found, read line by line, their broken lines counted.

Every file holds one record a line and is read in one streaming pass, compressed or not. A line
that is no record, or a record without the ids it needs, is *broken*: up to 1 % of the lines
looked at may be, more make the file unusable.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hidvae.data.notes import MAX_BROKEN_SHARE, show_value
from hidvae.data.schema import Columns
from hidvae.data.sources.delimited import collect, scan_lines
from hidvae.errors import DataError

LINE, LINE_NUMBER = "line", "line_number"


@dataclass(frozen=True, eq=False)
class ReviewLog:
    """A file of reviews, one JSON object a line."""

    events: pl.LazyFrame
    """user_id, item_id (String), timestamp (Int64): one row per usable line, in file order."""
    item_ids: pl.Series
    """Distinct items of the log, sorted."""
    broken_lines: int


def require_files(folder: Path, found: dict[str, Path | None]) -> dict[str, Path]:
    """The files that belong together, by name.

    Raises:
        DataError: If some are missing.
    """
    missing = [name for name, path in found.items() if path is None]
    if missing:
        present = [path.name for path in found.values() if path is not None]
        raise DataError(
            f"{folder}: expected {', '.join(found)} (with or without .gz); found "
            f"{', '.join(present)}, without {', '.join(missing)}; put the missing files there"
        )
    return {path.name: path for path in found.values() if path is not None}


def scan_numbered(path: Path) -> pl.LazyFrame:
    """Lines of a file as ``line`` (String) and ``line_number`` (from 1); blank ones left out."""
    lines = scan_lines(path).with_row_index(LINE_NUMBER, offset=1)
    return lines.filter(pl.col(LINE).str.strip_chars() != "")


def json_field(path: str) -> pl.Expr:
    """A field of the JSON object on each line, as text; null where blank or the line is no JSON.

    Args:
        path: Such as ``$.asin`` or ``$.images[0].large``.
    """
    return pl.col(LINE).str.json_path_match(path).str.strip_chars().replace("", None)


def read_reviews(path: Path, *, user: str, item: str, timestamp: str) -> ReviewLog:
    """Scan a file of reviews for its items and broken lines; its events are scanned when asked for.

    Args:
        path: JSON objects, one a line.
        user: Field with the user's id.
        item: Field with the item's id.
        timestamp: Field with the time, a number.

    Raises:
        DataError: If the file is empty or unreadable, or too many lines are broken.
    """
    parsed = scan_numbered(path).select(
        LINE_NUMBER,
        json_field(f"$.{user}").alias(Columns.USER),
        json_field(f"$.{item}").alias(Columns.ITEM),
        # by way of a float, as some writers give 1369699200.0
        json_field(f"$.{timestamp}")
        .cast(pl.Float64, strict=False)
        .cast(pl.Int64, strict=False)
        .alias(Columns.TIMESTAMP),
    )
    usable = pl.all_horizontal(pl.col(Columns.USER, Columns.ITEM, Columns.TIMESTAMP).is_not_null())
    per_item = collect(
        parsed.group_by(pl.when(usable).then(pl.col(Columns.ITEM)).alias(Columns.ITEM)).agg(
            pl.len(), pl.col(LINE_NUMBER).min()
        ),
        path,
    )
    broken = per_item.filter(pl.col(Columns.ITEM).is_null())
    num_broken = int(broken["len"].sum())
    check_broken(
        path,
        num_broken=num_broken,
        num_lines=int(per_item["len"].sum()),
        first=broken[LINE_NUMBER].min(),
        expected=f"a JSON object with {user}, {item} and {timestamp}",
    )
    events = parsed.filter(usable).select(Columns.USER, Columns.ITEM, Columns.TIMESTAMP)
    return ReviewLog(events, per_item[Columns.ITEM].drop_nulls().sort(), num_broken)


def check_broken(
    path: Path, *, num_broken: int, num_lines: int, first: object, expected: str
) -> None:
    """Refuse a file of which more than 1 % is broken.

    Args:
        path: The file.
        num_broken: Broken lines.
        num_lines: Lines looked at.
        first: Number of the first broken line, None if there is none.
        expected: What a line must hold.

    Raises:
        DataError: Names the first broken line and shows its start; also if there are no lines.
    """
    if num_lines == 0:
        raise DataError(f"{path}: expected {expected} per line; found none; download it again")
    if num_broken <= MAX_BROKEN_SHARE * num_lines:
        return
    line = collect(scan_numbered(path).filter(pl.col(LINE_NUMBER) == first), path)[LINE].item()
    raise DataError(
        f"{path}: expected {expected} on each line; found {num_broken} of {num_lines} lines "
        f"broken, first line {first}: {show_value(line)}; download the file again"
    )
