"""RecBole's atomic files: ``NAME.inter`` and ``NAME.item``, whose header gives name and type.

A line of tab-separated values without quotation marks, under a header such as
``item_id:token<tab>movie_title:token_seq<tab>class:token_seq``. ``NAME.user`` and the other files
of the format are not needed.
Source: RecBole (arXiv:2011.01731), its documentation of atomic files.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.delimited_text import Layout, scan_delimited
from hidvae.data.notes import Notes
from hidvae.data.schema import EVENT_COLUMNS, Columns
from hidvae.data.table_files import TableFiles
from hidvae.data.tables import LINE, names_of, reading, require_rows
from hidvae.data.text_files import COMPRESSIONS, TextFile
from hidvae.errors import DataError

TITLE_FIELDS = ("title", "item_name", "movie_title", "movie_name", "name")
"""Fields of items that are taken for the title: the first that is there."""
CATEGORY_FIELDS = ("categories", "category", "class", "genre", "genres")
"""Fields of items that are taken for the category path: the first that is there."""

_USER_FIELDS = (Columns.USER, "session_id")
_LIST = "_list"
"""Ends the name of a field that holds the history before another one."""
_TYPES = ("token", "token_seq", "float", "float_seq")


def has_atomic_files(folder: Path) -> bool:
    """Whether a folder holds a log in RecBole's format."""
    return bool(_with_suffix(folder, "inter"))


def atomic_files(folder: Path) -> tuple[Path | None, Path]:
    """The files of items, if any, and of interactions.

    Raises:
        DataError: If there is no log, or more than one file of a kind.
    """
    found = {kind: _with_suffix(folder, kind) for kind in ("item", "inter")}
    for kind, paths in found.items():
        if len(paths) > 1:
            raise DataError(
                f"{folder}: expected one *.{kind} file; found "
                f"{', '.join(path.name for path in paths)}; keep the whole log or catalogue in one "
                "file and move the others away"
            )
    if not found["inter"]:
        raise DataError(f"{folder}: expected a *.inter file; found none; put one there")
    return (found["item"][0] if found["item"] else None), found["inter"][0]


def read_atomic(table: TableFiles, config: DatasetConfig, notes: Notes) -> pl.DataFrame:
    """Read an atomic file whole; see ``scan_atomic``.

    Raises:
        DataError: If it cannot be read, has no types in its header, or no row.
    """
    scan = scan_atomic(table, config, notes)
    with reading(str(table)):
        items = scan.collect()
    require_rows(items, str(table))
    return items


def scan_atomic(table: TableFiles, config: DatasetConfig, notes: Notes) -> pl.LazyFrame:
    """Scan an atomic file; columns lose the type in their name.

    Args:
        table: Its file.
        config: How it is written, if not with tabs.
        notes: Told of what was recognised and of lines that are left out.

    Returns:
        ``LINE`` and all columns as text, so that ids and long timestamps keep their digits.

    Raises:
        DataError: If it cannot be read, or its header has no types.
    """
    path = table.parts[0]
    known = frozenset((*EVENT_COLUMNS, *TITLE_FIELDS, *CATEGORY_FIELDS))
    layout = Layout(known, separator="\t", quote="none", has_header=True)
    with reading(path):
        scan = scan_delimited(TextFile(path, str(path)), layout, config, notes)
        header = names_of(scan)
    fields = {column: column.split(":") for column in header}
    untyped = [column for column, parts in fields.items() if not _is_typed(parts)]
    if untyped:
        raise DataError(
            f"{path}: expected a header of name:type with tabs between and a type of "
            f"{', '.join(_TYPES)}; found {untyped[0]!r}; write the types into the header"
        )
    names = [parts[0] for parts in fields.values()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise DataError(
            f"{path}: expected each field once; found {twice!r} with two types; remove one of them"
        )
    return scan.rename({column: parts[0] for column, parts in fields.items()})


def with_histories(
    log: pl.LazyFrame, file: str, config: DatasetConfig, notes: Notes
) -> pl.LazyFrame:
    """A log as events, where its rows are a target and the list of items before it.

    Of a user's rows the one with the shortest list comes first; each adds what its list has beyond
    the one before, then its target. So it does not matter which way the rows are sorted, whether
    some are missing, or whether lists were cut to a length.

    Args:
        log: As ``scan_atomic`` gives it.
        file: Where it came from, for messages.
        config: ``column_names``, if the fields have other names.
        notes: Told.

    Returns:
        The log itself if it has no such list; else the fields of user and item, ``position`` and
        ``LINE``.

    Raises:
        DataError: If the field of the user or of the target is missing.
    """
    names, theirs = names_of(log), [entry.partition("=") for entry in config.column_names]
    items = [name.strip() for ours, _, name in theirs if ours.strip() == Columns.ITEM]
    item = next((name for name in (*items, Columns.ITEM) if f"{name}{_LIST}" in names), "")
    if not item:
        return log
    users = [name.strip() for ours, _, name in theirs if ours.strip() == Columns.USER]
    user = next((name for name in (*users, *_USER_FIELDS) if name in names), "")
    if not user or item not in names:
        raise DataError(
            f"{file}: expected the fields {_USER_FIELDS[0]} and {item}, the target, beside "
            f"{item}{_LIST}; found {', '.join(names)}; add what is missing, or remove the list"
        )
    history = pl.col(f"{item}{_LIST}").str.extract_all(r"\S+").fill_null([])
    rows = log.with_columns(history=history).with_columns(size=pl.col("history").list.len())
    rows = rows.cast({"size": pl.Int64}).sort("size", maintain_order=True)
    num_new = pl.col("size") - pl.col("size").shift(1).over(user).fill_null(-1) - 1
    new = pl.col("history").list.tail(num_new.clip(lower_bound=0))
    found = rows.select(LINE, user, pl.concat_list(new, pl.concat_list(item)).alias(item))
    events = found.explode(item).with_columns(
        pl.int_range(pl.len()).over(user).alias(Columns.POSITION)
    )
    notes.decide(
        f"{file}: a row is a user's history, {item}{_LIST}, and the item that follows, {item}; "
        "times and other fields are those of the last item only and left out"
    )
    with reading(file):
        return events.collect().lazy()


def name_fields(items: pl.DataFrame) -> pl.DataFrame:
    """Items with the usual fields of RecBole's datasets under our names, and paths as lists.

    Labels of a path stand between ``>`` or ``|`` or in a list, else between commas (and then
    perhaps in quotation marks), else between spaces, as the format has it: whichever comes first in
    this order anywhere in the column.
    """
    for ours, fields in ((Columns.TITLE, TITLE_FIELDS), (Columns.CATEGORIES, CATEGORY_FIELDS)):
        present = [name for name in fields if name in items.columns]
        if present:
            items = items.rename({present[0]: ours})
    if items.schema.get(Columns.CATEGORIES) != pl.String:
        return items
    paths = pl.col(Columns.CATEGORIES).str.strip_chars()
    text = items[Columns.CATEGORIES]
    if text.str.contains(r"[>|\[]").any():
        return items
    if text.str.contains(",", literal=True).any():
        labels = paths.str.split(",").list.eval(pl.element().str.strip_chars(" '\""))
    else:
        labels = paths.str.replace_all(r"\s+", " ").str.split(" ")
    return items.with_columns(labels)


def _is_typed(parts: list[str]) -> bool:
    return len(parts) == 2 and bool(parts[0]) and parts[1] in _TYPES


def _with_suffix(folder: Path, kind: str) -> list[Path]:
    patterns = [f"*.{kind}{compression}" for compression in COMPRESSIONS]
    return sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
