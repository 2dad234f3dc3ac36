"""A dataset in a folder of tables: your own in any of the formats, or RecBole's atomic files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.column_names import (
    ITEM_COLUMNS,
    find_levels,
    is_usual,
    item_columns,
    join_levels,
    recognise_items,
    recognise_log,
)
from hidvae.data.conditions import keep_events, parse_condition
from hidvae.data.ids import with_ids_of_objects
from hidvae.data.items_of_log import items_of_log
from hidvae.data.notes import Notes, count_of, show_value
from hidvae.data.schema import EVENT_COLUMNS, TEXT_COLUMNS, Columns
from hidvae.data.sources import recbole
from hidvae.data.sources.choose_tables import (
    choose_items,
    choose_log,
    id_column,
    ids_of_rows,
)
from hidvae.data.sources.locate import locate_folder
from hidvae.data.sources.remote import dataset_name
from hidvae.data.table_files import (
    FORMATS,
    TableFiles,
    find_table,
    has_table,
    only_tables,
    read_table,
    scan_table,
    tables_named,
)
from hidvae.data.tables import LINE, SourceTables, names_of, nearest, reading, require_rows
from hidvae.data.time_columns import say_file_order, with_times
from hidvae.errors import ConfigError, DataError

_WANTED = f"items.* and interactions.* tables ({FORMATS}) or RecBole's *.inter and *.item files"
_SETTING = "DatasetConfig.column_names"
_LOOKED_AT, _SHOWN = 1000, 4
ITEM_TABLES = ("items", "products", "catalogue", "catalog", "articles", "movies", "books")
LOG_TABLES = (
    "interactions",
    "events",
    "log",
    "ratings",
    "transactions",
    "purchases",
    "orders",
    "clicks",
    "views",
)
"""Names of the tables, the usual one first; a single table of any name is the log."""


def source_files(config: DatasetConfig) -> dict[str, Path]:
    """The files that ``read_folder`` reads, by name.

    Raises:
        ConfigError: If source and dataset_split do not go together.
        DataError: If the folder or a table is missing.
    """
    return table_files(_locate(config), config)


def read_folder(config: DatasetConfig) -> SourceTables:
    """Read the tables of the configured folder.

    Raises:
        ConfigError: If source and dataset_split, or the column names and the tables, do not go
            together.
        DataError: If the folder or a table is missing or cannot be read.
    """
    folder = _locate(config)
    return read_tables(folder, config, dataset_name(config) or folder.resolve().name)


def has_tables(folder: Path) -> bool:
    """Whether a folder holds at least one of the two tables, or a log in RecBole's format."""
    return _has_own_tables(folder) or recbole.has_atomic_files(folder)


def table_files(folder: Path, config: DatasetConfig) -> dict[str, Path]:
    """The files that ``read_tables`` reads, by name, items first.

    Raises:
        DataError: If a table is missing, or there is a choice.
    """
    items, log = _find_files(folder, config)
    return {
        name: path
        for table in (items, log)
        if table is not None
        for name, path in table.by_name().items()
    }


def read_tables(folder: Path, config: DatasetConfig, name: str) -> SourceTables:
    """Read items, scan interactions, and give the columns our names.

    Args:
        folder: Holds the files.
        config: ``column_names`` says which columns have other names.
        name: Name of the dataset, for people.

    Raises:
        ConfigError: If the column names do not go with the tables.
        DataError: If a table is missing or cannot be read.
    """
    items_path, log_path = _find_files(folder, config)
    entries = split_entries(config.column_names)
    notes = Notes(strict=config.strict)
    if not recbole.has_atomic_files(folder):
        _say_names(items_path, log_path, notes)
        _say_unread(folder, items_path, log_path, notes)
        items = None if items_path is None else read_items(items_path, entries, config, notes)
        log = scan_log(log_path, entries, config, notes)
        tables = rename_tables(name, items, items_path, log, log_path, config, notes)
        return replace(tables, decisions=notes.decisions)
    items = None if items_path is None else recbole.read_atomic(items_path, config, notes)
    log = recbole.scan_atomic(log_path, config, notes)
    log = recbole.with_histories(log, str(log_path), config, notes)
    tables = rename_tables(
        name, items, items_path, log, log_path, config, notes, name_items=recbole.name_fields
    )
    return replace(tables, decisions=notes.decisions)


def rename_tables(
    name: str,
    items: pl.DataFrame | None,
    items_file: TableFiles | str | None,
    log: pl.LazyFrame,
    log_file: TableFiles | str,
    config: DatasetConfig,
    notes: Notes,
    *,
    name_items: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
    is_ordered: bool = True,
) -> SourceTables:
    """Give the columns of both tables our names; without an items table, take the log's items.

    Args:
        name: Name of the dataset, for people.
        items: The items as they were read.
        items_file: Where they came from, for messages.
        log: The events.
        log_file: Where they came from, for messages.
        config: Its column names come first; its conditions say which rows are events.
        notes: Told what is taken for what.
        name_items: Names the columns of items of a format that has names of its own.
        is_ordered: Whether the log has an order of its own, to be said if nothing else orders it.

    Raises:
        ConfigError: If the settings do not go with the tables.
        DataError: If a table has no row or cannot be read, or it cannot be known which column
            names the users or items.
    """
    log_name = str(log_file)
    columns = {} if items is None else {str(items_file): names_of(items)}
    columns[log_name] = names_of(log)
    entries = _without_places(split_entries(config.column_names), columns)
    entries, levels = _take_levels(entries, columns)
    renames = match_columns(entries, columns)
    theirs, ours = _sort_conditions(config.events_where, columns[log_name])
    every = log
    log = keep_events(log, theirs, log_name).rename(renames[log_name])
    require_rows(every, log_name)
    named = log.drop(levels, strict=False)
    found = recognise_log(
        named, log_name, notes, with_items=items is None, time_format=config.time_format
    )
    log = with_ids_of_objects(log.rename(found), (Columns.USER, Columns.ITEM), log_name, notes)
    log = with_times(
        log,
        log_name,
        config.time_format,
        notes,
        named={ours: theirs for theirs, ours in found.items()}.get(
            Columns.TIMESTAMP, Columns.TIMESTAMP
        ),
        is_set=Columns.TIMESTAMP in dict(split_entries(config.column_names)),
    )
    log = keep_events(log, ours, log_name)
    notes.use("column_names", "events_where")
    _say_unknown_names(config.column_names, notes)
    if config.events_where:
        _say_events(every, log, log_name, config.events_where, notes)
    columns_of_log = names_of(log)
    if is_ordered and not {Columns.TIMESTAMP, Columns.POSITION} & set(columns_of_log):
        say_file_order(log, log_name, notes)
    counts = {}
    if items is None:
        has_path = Columns.CATEGORIES in columns_of_log
        levels = levels or ([] if has_path else find_levels(columns_of_log))
        items = items_of_log(log, log_name, [*ITEM_COLUMNS, *levels], notes)
        counts["items_from_log"] = items.height
    else:
        items = items.rename(renames[str(items_file)])
        if name_items:
            items = name_items(items)
        else:
            free = [column for column in names_of(items) if column not in levels]
            items = _with_matching_ids(items, free, log, str(items_file), log_name, notes)
            free = [column for column in names_of(items) if column not in levels]
            items = items.rename(recognise_items(free, str(items_file), notes))
            levels = levels or ([] if Columns.CATEGORIES in items.columns else find_levels(free))
        items = with_ids_of_objects(items, (Columns.ITEM,), str(items_file), notes)
    if levels and set(levels) <= set(items.columns):
        items = join_levels(items, levels, str(items_file or log_name))
        notes.decide(
            f"{items_file or log_name}: the category path stands in {', '.join(levels)}",
            f'{_SETTING}=["categories={">".join(levels)}"]',
        )
    return SourceTables(
        name=name,
        items=items,
        interactions=_without_other_columns(log),
        items_file=str(items_file or log_file),
        interactions_file=log_name,
        counts=counts,
        parts=notes.parts,
        used=frozenset(notes.used),
    )


def _with_matching_ids(
    items: pl.DataFrame,
    free: Sequence[str],
    log: pl.LazyFrame,
    items_file: str,
    log_name: str,
    notes: Notes,
) -> pl.DataFrame:
    """Of several columns that may be the ids, call that ``item_id`` whose ids the log has."""
    candidates = item_columns(free)
    if Columns.ITEM in free or len(candidates) < 2 or Columns.ITEM not in names_of(log):
        return items
    found = id_column(items, candidates, ids_of_rows(log, log_name))
    if found is None:
        return items
    notes.decide(
        f"{items_file}: of {', '.join(candidates)} the log holds {found}, so it is the item_id",
        f'{_SETTING}=["item_id={found}"]',
    )
    return items.rename({found: Columns.ITEM})


def _take_levels(
    entries: Sequence[tuple[str, str]], columns: Mapping[str, Sequence[str]]
) -> tuple[list[tuple[str, str]], list[str]]:
    """The entries that name one column, and the columns of "categories=department>aisle"."""
    every = {column for found in columns.values() for column in found}
    levels: list[str] = []
    others = []
    for ours, theirs in entries:
        parts = [part.strip() for part in theirs.split(">")]
        if ours == Columns.CATEGORIES and len(parts) > 1 and theirs not in every:
            levels = parts
        else:
            others.append((ours, theirs))
    for level in levels:
        _require_column(level, columns)
    return others, levels


def _say_unknown_names(column_names: Sequence[str], notes: Notes) -> None:
    """Say which names before the = are nearly ours, as a mistyped one changes nothing."""
    ours_known = (*EVENT_COLUMNS, *ITEM_COLUMNS)
    for ours, theirs in split_entries(column_names):
        if not is_usual(ours) and (near := nearest(ours, ours_known)):
            notes.decide(
                f"{_SETTING}: {ours!r} is no column that is used; did you mean {near!r}?",
                f'{_SETTING}=["{near}={theirs}"]',
            )


def _sort_conditions(
    conditions: Sequence[str], columns: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Those of columns under the user's names, and the others."""
    theirs = [each for each in conditions if parse_condition(each).column in columns]
    return theirs, [each for each in conditions if each not in theirs]


def _say_events(
    every: pl.LazyFrame, log: pl.LazyFrame, file: str, conditions: Sequence[str], notes: Notes
) -> None:
    with reading(file):
        counted = pl.collect_all([every.select(pl.len()), log.select(pl.len())], engine="streaming")
    num_rows, num_events = (frame.item() for frame in counted)
    said = " and ".join(conditions)
    if not num_events:
        found = "".join(
            f"; {column} holds {_values_of(every, column, file)}"
            for column in dict.fromkeys(parse_condition(each).column for each in conditions)
            if column in names_of(every)
        )
        raise DataError(
            f"{file}: expected rows that fulfil DatasetConfig.events_where ({said}); found none of "
            f"{num_rows}{found}; correct the condition"
        )
    notes.decide(
        f"{file}: {num_events:,} of {count_of(num_rows, 'row')} are events, as {said}",
        "DatasetConfig.events_where",
    )


def _values_of(log: pl.LazyFrame, column: str, file: str) -> str:
    """The first values of a column for a message."""
    with reading(file):
        values = log.select(column).drop_nulls().head(_LOOKED_AT).collect(engine="streaming")
    distinct = values.to_series().unique(maintain_order=True).head(_SHOWN + 1).to_list()
    shown = ", ".join(map(show_value, distinct[:_SHOWN]))
    return (shown or "nothing") + (", …" if len(distinct) > _SHOWN else "")


def match_columns(
    entries: Sequence[tuple[str, str]], columns: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, str]]:
    """Which columns of each table get another name.

    Args:
        entries: (our name, your name) for each column that differs.
        columns: Columns of each table, by its file.

    Returns:
        By file, your name -> our name.

    Raises:
        ConfigError: A name is in no table, or given twice, or taken by another column.
    """
    for theirs, count in Counter(theirs for _, theirs in entries).items():
        if count > 1:
            names = [f'"{ours}={name}"' for ours, name in entries if name == theirs]
            raise ConfigError(
                f"{_SETTING}: expected each of your columns once; found {' and '.join(names)}; "
                "keep one of them"
            )
        _require_column(theirs, columns)
    return {file: _renames(entries, found, file) for file, found in columns.items()}


def _require_column(theirs: str, columns: Mapping[str, Sequence[str]]) -> None:
    every = [column for found in columns.values() for column in found]
    if theirs not in every:
        near = nearest(theirs, every)
        hint = f"did you mean {near!r}?" if near else f"there are {', '.join(every)}"
        raise ConfigError(
            f"{_SETTING}: expected a column of {' or '.join(columns)} after the =; found "
            f"{theirs!r}; {hint}"
        )


def _without_places(
    entries: Sequence[tuple[str, str]], columns: Mapping[str, Sequence[str]]
) -> list[tuple[str, str]]:
    """The entries that name columns: a number was the place of one, which has our name already."""
    every = {column for found in columns.values() for column in found}
    return [(ours, theirs) for ours, theirs in entries if not theirs.isdecimal() or theirs in every]


def _renames(
    entries: Sequence[tuple[str, str]], columns: Sequence[str], file: str
) -> dict[str, str]:
    renames = {theirs: ours for ours, theirs in entries if theirs in columns}
    kept = [column for column in columns if column not in renames]
    for ours, count in Counter([*kept, *renames.values()]).items():
        if count > 1:
            sources = [f"{theirs!r}" for theirs, name in renames.items() if name == ours]
            sources += [f"{ours!r} itself"] if ours in kept else []
            raise ConfigError(
                f"{_SETTING}: expected one column of {file} for {ours!r}; found "
                f"{' and '.join(sources)}; keep one, or rename the other in the file"
            )
    return renames


def _locate(config: DatasetConfig) -> Path:
    return locate_folder(config, wanted=_WANTED, has_files=has_tables)


def _has_own_tables(folder: Path) -> bool:
    return any(tables_named(folder, stem) for stem in ("items", "interactions"))


def _find_files(folder: Path, config: DatasetConfig) -> tuple[TableFiles | None, TableFiles]:
    """Items, if there are any, and interactions: by their names, else by their columns."""
    if not recbole.has_atomic_files(folder):
        entries = {theirs: ours for ours, theirs in split_entries(config.column_names)}
        found = [_named(folder, names) for names in (ITEM_TABLES, LOG_TABLES)]
        items = None if found[0] is None else find_table(folder, found[0])
        others = only_tables(folder, except_for=found[0])
        if found[1] is None and others:
            log = others[0]
            if len(others) > 1:
                log = choose_log(str(folder), others, config, entries)
        else:
            log = find_table(folder, found[1] or LOG_TABLES[0])
        if items is None:
            others = [each for each in others if not set(each.parts) & set(log.parts)]
            items = choose_items(log, others, config, entries)
        return items, log
    if _has_own_tables(folder):
        raise DataError(
            f"{folder}: expected either items.* and interactions.* or RecBole's files; found both; "
            "move the others away"
        )
    item_file, log_file = recbole.atomic_files(folder)
    return (None if item_file is None else TableFiles.of(item_file)), TableFiles.of(log_file)


def _named(folder: Path, names: Sequence[str]) -> str | None:
    """The first of the names that a table of the folder has."""
    return next((name for name in names if has_table(folder, name)), None)


def _say_names(items: TableFiles | None, log: TableFiles, notes: Notes) -> None:
    for table, names, role in ((items, ITEM_TABLES, "items"), (log, LOG_TABLES, "log")):
        if table is not None and not Path(str(table)).name.lower().startswith(names[0]):
            notes.decide(f"{table}: taken for the {role}", f"name it {names[0]}.*")


def _say_unread(folder: Path, items: TableFiles | None, log: TableFiles, notes: Notes) -> None:
    """Say which tables are not read."""
    read = {path for table in (items, log) if table is not None for path in table.parts}
    named = [each for name in (*ITEM_TABLES, *LOG_TABLES) for each in tables_named(folder, name)]
    unread = {path for each in (*named, *only_tables(folder)) for path in each.parts} - read
    if unread:
        names = sorted(path.name for path in unread)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        notes.decide(
            f"{folder}: {', '.join(names[:_SHOWN])}{more} not read",
            "join them with the table that is, or call a table of items items.*",
        )


def split_entries(column_names: Sequence[str]) -> list[tuple[str, str]]:
    """(our name, your name) for each entry of ``DatasetConfig.column_names``."""
    parts = [entry.partition("=") for entry in column_names]
    return [(ours.strip(), theirs.strip()) for ours, _, theirs in parts]


def read_items(
    path: Path | TableFiles,
    entries: Sequence[tuple[str, str]],
    config: DatasetConfig,
    notes: Notes,
) -> pl.DataFrame:
    """Read an items table, under its own column names."""
    text = (Columns.ITEM, Columns.CATEGORIES, *TEXT_COLUMNS)
    return read_table(path, _with_theirs(text, entries), config, notes)


def scan_log(
    path: Path | TableFiles,
    entries: Sequence[tuple[str, str]],
    config: DatasetConfig,
    notes: Notes,
) -> pl.LazyFrame:
    """Scan a log, under its own column names."""
    return scan_table(path, _with_theirs(EVENT_COLUMNS, entries), config, notes)


def _with_theirs(ours: Sequence[str], entries: Sequence[tuple[str, str]]) -> list[str]:
    """Our column names, and yours for them."""
    every = [
        (name, each.strip()) for name, theirs in entries for each in (theirs, *theirs.split(">"))
    ]
    return [*ours, *(theirs for name, theirs in every if name in ours)]


def _without_other_columns(log: pl.LazyFrame) -> pl.LazyFrame:
    """Only what the contract knows, for speed; a log that breaks it keeps all, for the message."""
    found = log.collect_schema().names()
    if not {Columns.USER, Columns.ITEM} <= set(found):
        return log
    return log.select(name for name in (LINE, *EVENT_COLUMNS) if name in found)
