"""The official files of Amazon Reviews: found, read line by line, their broken lines counted.

Every file holds one record a line and is read in one streaming pass, compressed or not. A line
that is no record, or a record without the ids it needs, is *broken*: up to 1 % of the lines
looked at may be, more make the file unusable.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from hidvae.data.notes import MAX_BROKEN_SHARE, Notes, count_of, show_value
from hidvae.data.schema import Columns
from hidvae.data.sources.delimited import collect, report_broken, scan_lines
from hidvae.data.tables import reading
from hidvae.errors import DataError

LINE, LINE_NUMBER = "line", "line_number"
_LINES_PER_BATCH = 100_000


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


def starts_with_fields(path: Path, names: Sequence[str]) -> bool:
    """Whether the first line of a file is a JSON object with some fields."""
    try:
        first = scan_numbered(path).head(1).collect()[LINE]
        found = json.loads(first[0]) if len(first) else None
    except (ValueError, OSError, RecursionError, pl.exceptions.PolarsError):
        return False
    return isinstance(found, dict) and set(names) <= set(found)


def read_reviews(
    path: Path, *, user: str, item: str, timestamp: str, notes: Notes | None = None
) -> ReviewLog:
    """Scan a file of reviews for its items and broken lines; its events are scanned when asked for.

    Args:
        path: JSON objects, one a line.
        user: Field with the user's id.
        item: Field with the item's id.
        timestamp: Field with the time, a number.
        notes: Told of broken lines.

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
        notes=notes,
    )
    events = parsed.filter(usable).select(Columns.USER, Columns.ITEM, Columns.TIMESTAMP)
    return ReviewLog(events, per_item[Columns.ITEM].drop_nulls().sort(), num_broken)


@dataclass(frozen=True, eq=False)
class ItemRecords:
    """What a file of metadata, one JSON object a line, says of some items."""

    frame: pl.DataFrame
    """item_id and the fields that were asked for, one row per usable line, in file order."""
    broken_lines: int
    odd_lines: int
    """Lines with a value of another type than the others have; that value is null."""


def read_records(
    path: Path,
    *,
    item: str,
    item_ids: pl.Series,
    fields: dict[str, pl.DataType],
    notes: Notes | None = None,
) -> ItemRecords:
    """Read the metadata of some items, a batch of lines at a time.

    Args:
        path: JSON objects, one a line.
        item: Field with the item's id.
        item_ids: Items to read; lines of others are passed over.
        fields: Name and type of what is asked for.
        notes: Told of broken lines and odd values.

    Raises:
        DataError: If the file is empty or unreadable, or too many lines are broken.
    """
    lines = scan_numbered(path).with_columns(json_field(f"$.{item}").alias(Columns.ITEM))
    wanted = pl.col(Columns.ITEM).is_null() | pl.col(Columns.ITEM).is_in(item_ids.implode())
    frames = [pl.DataFrame(schema={Columns.ITEM: pl.String(), **fields})]
    num_lines, num_broken, first = 0, 0, None
    odd: list[tuple[int, str, Any]] = []
    with reading(path):
        for batch in lines.filter(wanted).collect_batches(
            chunk_size=_LINES_PER_BATCH, maintain_order=True
        ):
            broken = batch.filter(pl.col(Columns.ITEM).is_null())
            first = broken[LINE_NUMBER].min() if first is None else first
            usable = batch.drop_nulls(Columns.ITEM)
            values, odd_here = _decode(usable, pl.Struct(fields))
            frames.append(pl.concat([usable.select(Columns.ITEM), values], how="horizontal"))
            num_lines += batch.height
            num_broken += broken.height
            odd += odd_here
    check_broken(
        path,
        num_broken=num_broken,
        num_lines=num_lines,
        first=first,
        expected=f"a JSON object with {item}",
        notes=notes,
    )
    if len(odd) > max(1, MAX_BROKEN_SHARE * num_lines):
        line, name, value = odd[0]
        raise DataError(
            f"{path}, line {line}, field {name}: expected {_said(fields[name])}, as Amazon Reviews "
            f"has it; found {show_value(value)}, and the like in {len(odd)} of {num_lines} lines; "
            "download the file again"
        )
    if odd and notes is not None:
        line, name, value = odd[0]
        notes.decide(
            f"{path}: left out {count_of(len(odd), 'value')} of another type, first line {line}, "
            f"field {name}: {show_value(value)}"
        )
    return ItemRecords(pl.concat(frames), num_broken, len(odd))


def _decode(
    lines: pl.DataFrame, fields: pl.Struct
) -> tuple[pl.DataFrame, list[tuple[int, str, Any]]]:
    """JSON objects as columns; and of each line with a value of another type where and what."""
    try:
        return lines[LINE].str.json_decode(fields).struct.unnest(), []
    except pl.exceptions.PolarsError:  # one odd value is enough: line by line then
        pass
    rows, odd = [], []
    for number, line in lines.select(LINE_NUMBER, LINE).iter_rows():
        record = json.loads(line)
        values = {field.name: _fit(record.get(field.name), field.dtype) for field in fields.fields}
        rows.append({name: value for name, (value, _) in values.items()})
        odd += [(number, name, record[name]) for name, (_, is_odd) in values.items() if is_odd][:1]
    return pl.DataFrame(rows, schema=fields.to_schema()), odd


def _fit(value: Any, dtype: Any) -> tuple[Any, bool]:
    """A value of JSON as one of a type, null where it is none, and whether that was so anywhere."""
    if value is None:
        return None, False
    if isinstance(dtype, pl.Struct):
        if not isinstance(value, dict):
            return None, True
        parts = {field.name: _fit(value.get(field.name), field.dtype) for field in dtype.fields}
        is_odd = any(odd for _, odd in parts.values())
        return {name: part for name, (part, _) in parts.items()}, is_odd
    if isinstance(dtype, pl.List):
        if isinstance(value, dict):
            return None, True
        found = [
            _fit(each, dtype.inner) for each in (value if isinstance(value, list) else [value])
        ]
        return [part for part, _ in found], any(odd for _, odd in found)
    is_plain = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    return (str(value), False) if is_plain else (None, True)


def _said(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.List):
        return "a list"
    return "an object" if isinstance(dtype, pl.Struct) else "text"


def check_broken(
    path: Path,
    *,
    num_broken: int,
    num_lines: int,
    first: object,
    expected: str,
    notes: Notes | None = None,
) -> None:
    """Tell of broken lines, or refuse a file of which more than 1 % is broken.

    Args:
        path: The file.
        num_broken: Broken lines.
        num_lines: Lines looked at.
        first: Number of the first broken line, None if there is none.
        expected: What a line must hold.
        notes: Told of them.

    Raises:
        DataError: Names the first broken line and shows its start; also if there are no lines.
    """
    if num_lines == 0:
        raise DataError(f"{path}: expected {expected} per line; found none; download it again")
    if num_broken:
        line = collect(scan_numbered(path).filter(pl.col(LINE_NUMBER) == first), path)[LINE].item()
        number = int(str(first))
        report_broken(path, num_broken, num_lines, number, line, f"{expected} on each line", notes)
