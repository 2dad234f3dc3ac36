"""Datasets as LC-Rec, LETTER and MiniOneRec keep them.

``NAME.inter.json`` has each user's items, oldest first, by number; ``NAME.item.json`` their texts;
``NAME.item2id`` and ``NAME.user2id``, where they are there, the names of the numbers. MiniOneRec
has tables instead of the first, a row per target with the history before it, in the parts train,
valid and test. ``NAME.index.json``, the semantic IDs, is for ``hidvae ids import``.
Sources: LC-Rec (arXiv:2311.09049), LETTER (arXiv:2405.07314), MiniOneRec (arXiv:2510.24431).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from hidvae.data.notes import show_value
from hidvae.data.schema import Columns
from hidvae.data.sources.delimited import collect, header_of, scan_columns
from hidvae.data.tables import SourceTables
from hidvae.errors import DataError

_LOG, _ITEMS = ".inter.json", ".item.json"
_NAMES = {Columns.ITEM: ".item2id", Columns.USER: ".user2id"}
_PARTS = ("train", "valid", "test")
_ROW = ("user_id", "history_item_id", "item_id")
_TEXTS = (Columns.TITLE, Columns.DESCRIPTION, Columns.BRAND)


def find_files(folder: Path) -> dict[str, Path] | None:
    """Log, texts and names of numbers; None if there is no log, or more than one."""
    logs = sorted(folder.glob(f"*{_LOG}"))
    if len(logs) == 1:
        name = logs[0].name.removesuffix(_LOG)
        found = [logs[0], *(folder / f"{name}{kind}" for kind in (_ITEMS, *_NAMES.values()))]
        return {path.name: path for path in found if path.is_file()}
    parts = [_part(folder, part) for part in _PARTS]
    if not all(parts):
        return None
    items = sorted({*folder.glob(f"*{_ITEMS}"), *folder.glob(f"index/*{_ITEMS}")})
    found = [path for path in parts if path] + (items if len(items) == 1 else [])
    return {str(path.relative_to(folder)): path for path in found}


def read(files: Mapping[str, Path], name: str) -> SourceTables:
    """Users' items in their order, and items with their texts.

    Raises:
        DataError: If a file does not hold what its name says.
    """
    texts = [path for path in files.values() if path.name.endswith(_ITEMS)]
    names = {
        column: _read_names(path)
        for column, ending in _NAMES.items()
        for path in files.values()
        if path.name.endswith(ending)
    }
    logs = [path for path in files.values() if path.name.endswith((_LOG, ".csv"))]
    events = _read_tables(logs) if logs[0].suffix == ".csv" else _read_log(logs[0])
    known = events.select(Columns.ITEM).unique(maintain_order=True)
    known = _read_texts(texts[0]) if texts else known
    for column, numbers in names.items():
        events = events.with_columns(pl.col(column).replace(numbers))
    known = known.with_columns(pl.col(Columns.ITEM).replace(names.get(Columns.ITEM, {})))
    items_file = str(texts[0] if texts else logs[0])
    return SourceTables(name, known, events.lazy(), items_file, ", ".join(map(str, logs)))


def _part(folder: Path, part: str) -> Path | None:
    """The only table of a part: in its folder, or named after it."""
    paths = [*sorted((folder / part).glob("*.csv")), *sorted(folder.glob(f"*{part}*.csv"))]
    fitting = [path for path in paths if set(_ROW) <= set(header_of(path))]
    return fitting[0] if len(fitting) == 1 else None


def _read_object(path: Path, holds: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: expected a JSON object of {holds}; found: {' '.join(str(error).split())}; "
            "download it again"
        ) from error
    if not isinstance(found, dict):
        raise DataError(
            f"{path}: expected a JSON object of {holds}; found {show_value(found)}; "
            "download it again"
        )
    return found


def _read_log(path: Path) -> pl.DataFrame:
    rows: list[tuple[str, str, int]] = []
    for user, items in _read_object(path, "users and their lists of items").items():
        is_list = isinstance(items, list)
        if not (is_list and all(isinstance(item, (str, int)) for item in items)):
            raise DataError(
                f"{path}, user {user!r}: expected a list of item numbers; found "
                f"{show_value(items)}; download it again"
            )
        rows += [(user, str(item), place) for place, item in enumerate(items)]
    schema = {Columns.USER: pl.String, Columns.ITEM: pl.String, Columns.POSITION: pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _read_tables(paths: list[Path]) -> pl.DataFrame:
    """A user's first history, then the target of each of their rows."""
    found = []
    for path in paths:
        rows = scan_columns(path, dict.fromkeys(_ROW, pl.String), quote='"')
        found.append(collect(rows.with_row_index("line"), path))
    targets = pl.concat(found).rename({"item_id": "target"})
    history = pl.col("history_item_id").str.extract_all(r"[^\s,'\"\[\]]+")
    is_first = pl.col(Columns.USER).is_first_distinct()
    before = pl.when(is_first).then(history).otherwise(pl.lit([], pl.List(pl.String)))
    items = pl.concat_list(before.fill_null([]), pl.concat_list(pl.col("target")))
    events = targets.select(Columns.USER, items.alias(Columns.ITEM)).explode(Columns.ITEM)
    return events.with_columns(pl.int_range(pl.len()).over(Columns.USER).alias(Columns.POSITION))


def _read_texts(path: Path) -> pl.DataFrame:
    rows = []
    for number, item in _read_object(path, "items and their texts").items():
        if not isinstance(item, dict):
            raise DataError(
                f"{path}, item {number!r}: expected an object with title and description; found "
                f"{show_value(item)}; download it again"
            )
        texts = [_as_text(item.get(name)) for name in _TEXTS]
        rows.append((number, *texts, _labels(item.get(Columns.CATEGORIES))))
    schema = dict.fromkeys((Columns.ITEM, *_TEXTS), pl.String())
    return pl.DataFrame(rows, {**schema, Columns.CATEGORIES: pl.List(pl.String)}, orient="row")


def _as_text(value: Any) -> str | None:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return None if value is None else str(value)


def _labels(value: Any) -> list[str]:
    """A path; as text it has commas between, and a blank follows a comma within a label."""
    if isinstance(value, list):
        return [str(label) for label in value]
    return re.split(r",(?! )", str(value)) if value else []


def _read_names(path: Path) -> dict[str, str]:
    """Number -> name of each line ``name<tab>number``."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: expected lines of name, tab, number; found: {error}; download it again"
        ) from error
    pairs = [re.split(r"\t", line) for line in text.splitlines() if line]
    for place, pair in enumerate(pairs, start=1):
        if len(pair) != 2:
            raise DataError(
                f"{path}, line {place}: expected name, tab, number; found "
                f"{show_value(' '.join(pair))}; download it again"
            )
    return {number: name for name, number in pairs}
