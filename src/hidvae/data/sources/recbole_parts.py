"""RecBole's benchmark files: a log in the parts ``NAME.train.inter``, ``.valid`` and ``.test``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.notes import Notes
from hidvae.data.schema import Columns
from hidvae.data.sources import recbole
from hidvae.data.sources.delimited import find_file
from hidvae.data.sources.folder import rename_tables
from hidvae.data.table_files import TableFiles
from hidvae.data.tables import SourceTables, join_parts, names_of

_PARTS = ("train", "valid", "test")


def find_files(folder: Path) -> dict[str, Path] | None:
    """The parts in their order and the items, if there are any; None if there are no parts."""
    first = [path.name.split(".train.inter")[0] for path in folder.glob("*.train.inter*")]
    if len(set(first)) != 1:
        return None
    names = [f"{first[0]}.{part}.inter" for part in _PARTS] + [f"{first[0]}.item"]
    return {path.name: path for name in names if (path := find_file([folder], name))}


def read(folder: Path, files: Mapping[str, Path], config: DatasetConfig) -> SourceTables:
    """The parts one after the other, which also parts events of equal time, and the items.

    Raises:
        ConfigError: If the settings do not go with the tables.
        DataError: If a file cannot be read, or its header has no types.
    """
    notes = Notes(strict=config.strict)
    logs = [path for name, path in files.items() if ".inter" in name]
    items = [TableFiles.of(path) for name, path in files.items() if ".inter" not in name]
    scans = [recbole.scan_atomic(TableFiles.of(path), config, notes) for path in logs]
    log_file = ", ".join(map(str, logs))
    scans, notes.parts[log_file] = join_parts(scans, {path.name: path for path in logs})
    log = recbole.with_histories(pl.concat(scans), log_file, config, notes)
    if Columns.TIMESTAMP in names_of(log):
        log = pl.concat(
            scan.with_columns(pl.lit(str(part)).alias(Columns.POSITION))
            for part, scan in enumerate(scans)
        )
    tables = rename_tables(
        folder.resolve().name,
        recbole.read_atomic(items[0], config, notes) if items else None,
        items[0] if items else None,
        log,
        log_file,
        config,
        notes,
        name_items=recbole.name_fields,
    )
    return replace(tables, decisions=notes.decisions)
