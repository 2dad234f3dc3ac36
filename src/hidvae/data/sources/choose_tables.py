"""Which tables of a folder are the log and the items where their file names do not say it.

What counts is the columns. A log names users and items; a table of items says something of items
whose ids stand in the log. A table that only might be one is not taken, and that is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.column_names import plain_name, recognise_log, roles_of
from hidvae.data.ids import with_ids_of_objects
from hidvae.data.notes import Notes
from hidvae.data.other_columns import as_text
from hidvae.data.schema import EVENT_COLUMNS, TEXT_COLUMNS, Columns
from hidvae.data.table_files import TableFiles, scan_table
from hidvae.data.tables import names_of, reading
from hidvae.errors import ConfigError, DataError

_OF_ITEMS = {Columns.TITLE, Columns.CATEGORIES, Columns.DESCRIPTION, Columns.TEXT}
_OF_PEOPLE = re.compile(r"user|customer|client|member|visitor|people|person|buyer|kunde|nutzer")
_PERSONAL = {"email", "gender", "age", "birthday", "birthdate", "password", "firstname", "lastname"}
_TEXT = (*EVENT_COLUMNS, *TEXT_COLUMNS)
_LOOKED_AT = 2000
_MATCHING = 0.5
"""Share of the log's items that a table has to know; unknown ones are left out later, as always."""
_SHOWN = 12


def choose_log(
    folder: str, tables: Sequence[TableFiles], config: DatasetConfig, entries: Mapping[str, str]
) -> TableFiles:
    """The one table with columns of users and items; of several the one that also has times.

    Args:
        folder: Its name, for messages.
        tables: More than one.
        config: How the tables are written.
        entries: Your column names -> ours, of ``DatasetConfig.column_names``.

    Raises:
        DataError: If none or several of the tables could be the log, or none can be read.
    """
    columns = {str(table): _columns(table, config) for table in tables}
    roles = {
        name: roles_of([entries.get(each, each) for each in columns[name]]) for name in columns
    }
    logs = [each for each in tables if {Columns.USER, Columns.ITEM} <= roles[str(each)]]
    timed = [each for each in logs if Columns.TIMESTAMP in roles[str(each)]]
    if len(timed) == 1 or len(logs) == 1:
        return (timed if len(timed) == 1 else logs)[0]
    if logs:
        raise DataError(
            f"{folder}: expected one table of events; found {', '.join(_short(logs))}, each with "
            "columns of users and items; call the right one interactions.*, or move the others away"
        )
    if unread := [each for each in tables if not columns[str(each)]]:
        return unread[0]  # so that what is wrong with it is said when it is read
    shown = "; ".join(
        f"{_short([each])[0]} has {', '.join(columns[str(each)][:_SHOWN])}"
        + (", …" if len(columns[str(each)]) > _SHOWN else "")
        for each in tables[:4]
    )
    raise DataError(
        f"{folder}: expected a table interactions.*, or one whose columns are called user_id and "
        f"item_id; found {len(tables)} others ({shown}); say which columns they are, such as "
        '--set \'DatasetConfig.column_names=["user_id=YOURS", "item_id=YOURS"]\''
    )


def choose_items(
    log: TableFiles, tables: Sequence[TableFiles], config: DatasetConfig, entries: Mapping[str, str]
) -> TableFiles | None:
    """The one table that tells of the items of a log; None if there is none, or a choice."""
    asked = _ids_of_log(log, config, entries)
    if asked is None:
        return None
    found = []
    for table in tables:
        columns = _columns(table, config)
        named = {entries.get(each, each): each for each in columns}
        roles = roles_of(list(named), of_items=True)
        personal = {plain_name(each) for each in columns} & _PERSONAL
        is_of_people = personal or _OF_PEOPLE.search(_short([table])[0].lower())
        if is_of_people or Columns.USER in roles or not roles & _OF_ITEMS:
            continue
        ids = [named[each] for each in named if Columns.ITEM in roles_of([each], of_items=True)]
        try:
            scan = scan_table(table, (*_TEXT, *ids), config, Notes())
            with reading(str(table)):
                scan = with_ids_of_objects(scan, ids, str(table), Notes())
                rows = scan.select(ids).collect(engine="streaming")
        except (ConfigError, DataError):
            continue
        if id_column(rows, ids, asked):
            found.append(table)
    return found[0] if len(found) == 1 else None


def id_column(items: pl.DataFrame, candidates: Sequence[str], asked: pl.Series) -> str | None:
    """The column that holds most of the ids of a log; None if none holds half of them.

    Args:
        items: The items.
        candidates: Columns that may hold ids, the likeliest first.
        asked: Distinct ids of the log, as text.
    """
    counts = {
        name: int(asked.is_in(_as_ids(items[name]).implode()).sum())
        for name in candidates
        if not items.schema[name].is_nested()
    }
    best = max(counts, key=lambda name: counts[name], default=None)
    return best if best is not None and counts[best] >= _MATCHING * max(len(asked), 1) else None


def ids_of_rows(log: pl.LazyFrame, file: str) -> pl.Series:
    """Distinct ids of items in the first rows of a log, as text."""
    with reading(file):
        log = with_ids_of_objects(log, [Columns.ITEM], file, Notes())
        rows = log.select(Columns.ITEM).head(_LOOKED_AT).collect(engine="streaming")
    return _as_ids(rows.to_series())


def _ids_of_log(
    log: TableFiles, config: DatasetConfig, entries: Mapping[str, str]
) -> pl.Series | None:
    try:
        theirs = [name for name, ours in entries.items() if ours == Columns.ITEM]
        scan = scan_table(log, (*_TEXT, *theirs), config, Notes())
        renames = {each: entries[each] for each in names_of(scan) if each in entries}
        scan = scan.rename(renames)
        found = recognise_log(scan, str(log), Notes(), with_items=False)
        scan = scan.rename(found)
        return ids_of_rows(scan, str(log)) if Columns.ITEM in names_of(scan) else None
    except (ConfigError, DataError):
        return None


def _as_ids(values: pl.Series) -> pl.Series:
    if values.dtype.is_nested():
        return pl.Series(values.name, [], pl.String)
    text = values.to_frame().select(as_text(pl.col(values.name), values.dtype)).to_series()
    return text.drop_nulls().str.strip_chars().unique()


def _columns(table: TableFiles, config: DatasetConfig) -> list[str]:
    """Names of a table's columns; none if it cannot be read."""
    try:
        return names_of(scan_table(table, _TEXT, config, Notes()))
    except (ConfigError, DataError):
        return []


def _short(tables: Sequence[TableFiles]) -> list[str]:
    return [(each.folder or each.parts[0]).name for each in tables]
