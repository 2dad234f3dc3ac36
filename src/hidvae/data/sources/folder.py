"""A dataset in a folder of tables: your own, an Amazon Reviews category, or KuaiRand."""

from __future__ import annotations

from pathlib import Path

from hidvae.config import DatasetConfig
from hidvae.data.schema import read_interactions, read_items
from hidvae.data.sources.locate import dataset_name, locate_folder
from hidvae.data.tables import SUFFIXES, SourceTables, find_table

_WANTED = (
    "items and interactions tables "
    f"(items.*, interactions.* with * one of {', '.join(s[1:] for s in SUFFIXES)})"
)


def read_folder(config: DatasetConfig) -> SourceTables:
    """Read the two tables of the configured dataset.

    Raises:
        ConfigError: If source and dataset_split do not go together.
        DataError: If the folder or a table is missing or cannot be read.
    """
    folder = locate_folder(config, wanted=_WANTED, has_files=has_tables)
    items, items_path = read_items(folder)
    interactions, interactions_path = read_interactions(folder)
    return SourceTables(
        name=dataset_name(config) or folder.resolve().name,
        items=items,
        interactions=interactions.lazy(),
        items_file=str(items_path),
        interactions_file=str(interactions_path),
    )


def table_paths(config: DatasetConfig) -> list[Path]:
    """The two files that ``read_folder`` reads, items first.

    Raises:
        ConfigError: If source and dataset_split do not go together.
        DataError: If the folder or a table is missing.
    """
    folder = locate_folder(config, wanted=_WANTED, has_files=has_tables)
    return [find_table(folder, "items"), find_table(folder, "interactions")]


def has_tables(folder: Path) -> bool:
    """Whether a folder holds at least one of the two tables."""
    return any((folder / f"items{s}").is_file() for s in SUFFIXES) or any(
        (folder / f"interactions{s}").is_file() for s in SUFFIXES
    )
