"""P5's archive of a category of Amazon Reviews 2014: the split that the literature compares on.

``sequential_data.txt`` has a line per user, ``user item item …`` by P5's numbers, oldest first;
``datamaps.json`` maps ASINs to these numbers; ``meta.json.gz`` is the metadata file of 2014. P5's
Yelp has the first two and its texts as a pickle, which is never read, as it could run any code.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from hidvae.data.notes import BadRows, Notes
from hidvae.data.schema import Columns
from hidvae.data.sources.amazon_2014 import department_of, read_metadata
from hidvae.data.sources.amazon_items import build_items
from hidvae.data.sources.amazon_lines import (
    LINE,
    LINE_NUMBER,
    check_broken,
    require_files,
    scan_numbered,
)
from hidvae.data.sources.delimited import collect, find_file
from hidvae.data.sources.remote import amazon_2014_category
from hidvae.data.tables import SourceTables
from hidvae.errors import DataError

P5_ID = "p5_id"
_LOG, _MAPS, _META = "sequential_data.txt", "datamaps.json", "meta.json"


def find_files(folder: Path, split: str) -> dict[str, Path] | None:
    """The three files, in the folder, its ``raw``, or a folder named after the split in either.

    Returns:
        None if there is no ``sequential_data.txt``.

    Raises:
        DataError: If there is one without its companions.
    """
    places = [folder, folder / "raw", folder / split, *sorted(folder.glob(f"*/{split}"))]
    for place in places:
        if (found := _find(place))[_LOG] is not None:
            return require_files(place, found)
    return None


def find_any(folder: Path) -> dict[str, Path] | None:
    """P5's files of whatever data in a folder or its ``raw``; those of Yelp have no metadata."""
    for place in (folder, folder / "raw"):
        found = {name: path for name, path in _find(place).items() if path is not None}
        if {_LOG, _MAPS} <= set(found):
            return found
    return None


def _find(place: Path) -> dict[str, Path | None]:
    maps = place / _MAPS if (place / _MAPS).is_file() else None
    return {_LOG: find_file([place], _LOG), _MAPS: maps, _META: find_file([place], _META)}


def read(files: dict[str, Path], name: str, split: str, notes: Notes | None = None) -> SourceTables:
    """The log and the items: ``item_id`` is the ASIN, ``p5_id`` P5's number, ``user_id`` P5's.

    Args:
        files: The log, the numbers and perhaps the metadata.
        name: Name of the dataset, for people.
        split: Short name of the category, or "" where it is not known.
        notes: Told of broken lines.

    Raises:
        DataError: If a file cannot be read, or the files do not belong together.
    """
    log_path, maps_path, *meta_path = files.values()
    item_numbers = _read_item_numbers(maps_path)
    events, num_broken = _read_sequences(log_path, notes)
    events = events.join(item_numbers, on=P5_ID, how="left", maintain_order="left")
    _check_numbers(events, log_path, maps_path)
    logged = item_numbers.filter(pl.col(P5_ID).is_in(events[P5_ID].unique().implode())).sort(P5_ID)
    interactions = events.select(Columns.USER, Columns.ITEM, Columns.POSITION).lazy()
    counts = {"broken_lines": num_broken}
    if not meta_path:
        counts["items_without_metadata"] = logged.height
        return SourceTables(name, logged, interactions, str(maps_path), str(log_path), counts)
    metadata, counts["broken_metadata_lines"] = read_metadata(
        meta_path[0], logged[Columns.ITEM], notes
    )
    department = department_of(amazon_2014_category(split)) if split else None
    items, more = build_items(logged[Columns.ITEM], metadata, department)
    items = items.with_columns(logged[P5_ID])
    return SourceTables(name, items, interactions, str(meta_path[0]), str(log_path), counts | more)


def _read_item_numbers(path: Path) -> pl.DataFrame:
    """``item_id`` (the ASIN) and ``p5_id`` (Int64) of every item that P5 numbers."""
    try:
        numbers = json.loads(path.read_bytes())["item2id"]
        frame = pl.DataFrame({Columns.ITEM: numbers.keys(), P5_ID: numbers.values()})
        frame = frame.cast({Columns.ITEM: pl.String, P5_ID: pl.Int64})
        if frame[P5_ID].is_duplicated().any():
            raise ValueError("two ASINs share a number")
    except (OSError, LookupError, ValueError, TypeError, AttributeError, PolarsError) as e:
        raise DataError(
            f"{path}: expected a JSON object whose item2id maps ASINs to numbers; found: "
            f"{type(e).__name__}: {' '.join(str(e).splitlines()[:1])}; unpack P5's archive again"
        ) from e
    return frame


def _read_sequences(path: Path, notes: Notes | None) -> tuple[pl.DataFrame, int]:
    """``user_id``, ``p5_id``, ``position``, ``line_number`` per event; and the broken lines."""
    numbers = pl.col(LINE).str.extract_all(r"\S+").cast(pl.List(pl.Int64), strict=False)
    lines = collect(scan_numbered(path).select(LINE_NUMBER, numbers), path)
    is_whole = ~lines[LINE].list.contains(None) & (lines[LINE].list.len() >= 2)
    check_broken(
        path,
        num_broken=int((~is_whole).sum()),
        num_lines=lines.height,
        first=lines.filter(~is_whole)[LINE_NUMBER].min(),
        expected="a user's number and the numbers of its items, with spaces between",
        notes=notes,
    )
    whole = lines.filter(is_whole)
    repeated = whole.filter(~pl.col(LINE).list.first().is_first_distinct())
    if not repeated.is_empty():
        raise BadRows(
            file=str(path),
            column="1 (user)",
            expected="each user on one line",
            rows=repeated[LINE_NUMBER].to_list(),
            values=repeated[LINE].list.first().to_list(),
            count=repeated.height,
            advice="unpack P5's archive again",
        )
    events = whole.select(
        LINE_NUMBER,
        pl.col(LINE).list.first().cast(pl.String).alias(Columns.USER),
        pl.col(LINE).list.slice(1).alias(P5_ID),
    ).explode(P5_ID)
    position = pl.int_range(pl.len()).over(Columns.USER).alias(Columns.POSITION)
    return events.with_columns(position), int((~is_whole).sum())


def _check_numbers(events: pl.DataFrame, log_path: Path, maps_path: Path) -> None:
    unknown = events.filter(pl.col(Columns.ITEM).is_null())
    if not unknown.is_empty():
        raise BadRows(
            file=str(log_path),
            column="2 and on (items)",
            expected=f"item numbers of {maps_path}",
            rows=unknown[LINE_NUMBER].to_list(),
            values=unknown[P5_ID].to_list(),
            count=unknown.height,
            advice="take both files from one archive",
        )
