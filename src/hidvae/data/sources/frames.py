"""Tables that a program hands over: Polars or pandas frames, or names of files."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from hidvae.addresses import hide_passwords, is_address
from hidvae.config import DatasetConfig
from hidvae.data.given import frame_of
from hidvae.data.notes import Notes
from hidvae.data.schema import EVENT_COLUMNS
from hidvae.data.sources.folder import read_items, rename_tables, scan_log, split_entries
from hidvae.data.table_files import FORMATS, SUFFIXES, TableFiles
from hidvae.data.tables import SourceTables, reading
from hidvae.errors import DataError
from hidvae.store.artifacts import fingerprint_file

ITEMS, INTERACTIONS = "items", "interactions"


def tables_from(
    items: Any, interactions: Any, config: DatasetConfig | None = None, *, name: str = "tables"
) -> SourceTables:
    """The two tables of a dataset, for ``prepare``.

    Args:
        items: A ``pl.DataFrame`` or ``pl.LazyFrame``, a pandas frame, whatever else Polars takes as
            an Arrow stream, a dict of columns, a list of rows, or the name of a file; None takes
            the items that the log names.
        interactions: The log, likewise; a LazyFrame or a file is never read whole.
        config: How the tables are to be read; the defaults by default.
        name: Name of the dataset, for people.

    Raises:
        ConfigError: If the column names do not go with the tables.
        DataError: If a table is none, or cannot be read.
        MissingExtraError: If a pandas frame cannot be converted without pyarrow.
    """
    config = config or DatasetConfig()
    entries = split_entries(config.column_names)
    index_names = (*EVENT_COLUMNS, *(theirs for _, theirs in entries))
    notes = Notes(strict=config.strict)
    fingerprints = {}
    items_file: TableFiles | str | None = None
    frame: pl.DataFrame | None = None
    if items is not None:
        if (files := _files(items, ITEMS)) is not None:
            items_file, frame = files, read_items(files, entries, config, notes)
            fingerprints[ITEMS] = _fingerprint_files(files)
        else:
            with reading(ITEMS):
                items_file, frame = ITEMS, frame_of(items, ITEMS, index_names).collect()
            fingerprints[ITEMS] = fingerprint_rows(frame.lazy(), ITEMS)
    if (files := _files(interactions, INTERACTIONS)) is not None:
        log_file: TableFiles | str = files
        log = scan_log(files, entries, config, notes)
        fingerprints[INTERACTIONS] = _fingerprint_files(files)
    else:
        log_file, log = INTERACTIONS, frame_of(interactions, INTERACTIONS, index_names)
        fingerprints[INTERACTIONS] = fingerprint_rows(log, INTERACTIONS)
    tables = rename_tables(name, frame, items_file, log, log_file, config, notes)
    return replace(tables, fingerprints=fingerprints, decisions=notes.decisions)


def _files(table: Any, what: str) -> TableFiles | None:
    """The files that a name means; None for a frame."""
    if not isinstance(table, (str, os.PathLike)):
        return None
    if is_address(str(table)):
        raise DataError(
            f"{what}: expected a table, or the name of a file; found {hide_passwords(str(table))}; "
            "name a database in DatasetConfig.folder, and call Run(path).make(config)"
        )
    path = Path(table).expanduser()
    if not path.exists():
        raise DataError(f"{what}: expected the name of a file ({FORMATS}); found no file {path}")
    if path.is_file() and not path.name.lower().endswith(SUFFIXES):
        raise DataError(f"{what}: expected a file of {FORMATS}; found {path}; convert it")
    return TableFiles.of(path)


def _fingerprint_files(files: TableFiles) -> str:
    prints = [fingerprint_file(path) for path in files.parts]
    return prints[0] if len(prints) == 1 else hashlib.sha256("".join(prints).encode()).hexdigest()


def fingerprint_rows(table: pl.LazyFrame, what: str) -> str:
    """SHA-256 over names, types and a hash of each row, however the rows come in batches.

    The row hashes are Polars' own: another version of Polars may give others, and then the table
    counts as changed and is prepared once more.
    """
    with reading(what):
        schema = table.collect_schema()
        digest = hashlib.sha256(repr(list(schema.items())).encode())
        # in a list, a category is hashed by its number, which another table may give to another
        plain = table.with_columns(pl.col(pl.List(pl.Categorical)).cast(pl.List(pl.String)))
        for batch in plain.collect_batches(maintain_order=True):
            digest.update(batch.hash_rows().to_numpy().tobytes())
    return digest.hexdigest()
