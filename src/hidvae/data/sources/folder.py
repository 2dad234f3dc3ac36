"""A dataset in a folder of tables: your own, an Amazon Reviews category, or KuaiRand."""

from __future__ import annotations

import os
from pathlib import Path

from hidvae.config import DatasetConfig
from hidvae.data.schema import read_interactions, read_items
from hidvae.data.tables import SUFFIXES, SourceTables, find_table
from hidvae.errors import ConfigError, DataError

DATA_VARIABLE = "HIDVAE_DATA"
"""Environment variable that names the folder of datasets."""

_SPLITS = {"folder": ("",), "amazon": ("beauty", "sports", "toys"), "kuairand": ("pure", "")}


def read_folder(config: DatasetConfig) -> SourceTables:
    """Read the two tables of the configured dataset.

    Raises:
        ConfigError: If source and dataset_split do not go together.
        DataError: If the folder or a table is missing or cannot be read.
    """
    folder = locate_folder(config)
    items, items_path = read_items(folder)
    interactions, interactions_path = read_interactions(folder)
    return SourceTables(
        name=dataset_name(config) or folder.resolve().name,
        items=items,
        interactions=interactions,
        items_file=str(items_path),
        interactions_file=str(interactions_path),
    )


def table_paths(config: DatasetConfig) -> list[Path]:
    """The two files that ``read_folder`` reads, items first.

    Raises:
        ConfigError: If source and dataset_split do not go together.
        DataError: If the folder or a table is missing.
    """
    folder = locate_folder(config)
    return [find_table(folder, "items"), find_table(folder, "interactions")]


def locate_folder(config: DatasetConfig) -> Path:
    """Folder of the dataset: ``DatasetConfig.folder``, else $HIDVAE_DATA, else ./data.

    Raises:
        ConfigError: If source and dataset_split do not go together.
        DataError: Says where it looked and what to put there.
    """
    name = dataset_name(config)
    wanted = (
        "items and interactions tables "
        f"(items.*, interactions.* with * one of {', '.join(s[1:] for s in SUFFIXES)})"
    )
    if config.folder:
        folder = Path(config.folder).expanduser()
        if folder.is_dir():
            return folder
        found = "a file" if folder.exists() else "no such folder"
        raise DataError(
            f"{config.folder}: expected a folder with {wanted}; found {found}; "
            "correct --set DatasetConfig.folder=PATH"
        )
    root = os.environ.get(DATA_VARIABLE)
    roots = [Path(root).expanduser(), Path("data")] if root else [Path("data")]
    for folder in (parent / name for parent in roots):
        if _has_tables(folder):
            return folder
    places = ", ".join(str(parent / name) for parent in roots)
    places = places if root else f"${DATA_VARIABLE} (not set), {places}"
    put = f"put them into a folder {name} in one of these" if name else "put them there"
    raise DataError(
        f"expected {wanted} of {name or 'your dataset'}; looked in {places}; found none; {put}, "
        "or name their folder with --set DatasetConfig.folder=PATH (columns: docs/data-format.md)"
    )


def dataset_name(config: DatasetConfig) -> str:
    """Name of a known dataset, also of its folder; empty for a folder of your own.

    Raises:
        ConfigError: If source and dataset_split do not go together.
    """
    allowed = _SPLITS[config.source]
    if config.dataset_split not in allowed:
        choices = " or ".join(repr(split) for split in allowed)
        raise ConfigError(
            f"DatasetConfig.dataset_split: expected {choices} for source {config.source!r}; found "
            f"{config.dataset_split!r}; use --set DatasetConfig.dataset_split={allowed[0]!r}"
        )
    if config.source == "amazon":
        return f"amazon-{config.dataset_split}-2014"
    return "kuairand-pure" if config.source == "kuairand" else ""


def _has_tables(folder: Path) -> bool:
    return any((folder / f"items{s}").is_file() for s in SUFFIXES) or any(
        (folder / f"interactions{s}").is_file() for s in SUFFIXES
    )
