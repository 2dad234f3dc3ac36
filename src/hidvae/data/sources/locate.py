"""Where a dataset's files are: the configured folder, $HIDVAE_DATA, ./data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hidvae.config import DatasetConfig
from hidvae.errors import ConfigError, DataError

DATA_VARIABLE = "HIDVAE_DATA"
"""Environment variable that names the folder of datasets."""

_SPLITS = {
    "folder": ("",),
    "amazon": ("beauty", "sports", "toys"),
    "kuairand": ("pure", "1k", "27k"),
    "movielens": ("100k", "1m", "32m"),
}


def locate_folder(
    config: DatasetConfig, *, wanted: str, has_files: Callable[[Path], bool]
) -> Path:
    """Folder of the dataset: ``DatasetConfig.folder``, else $HIDVAE_DATA, else ./data.

    Args:
        config: Names the dataset and perhaps its folder.
        wanted: What must be in the folder, for messages.
        has_files: Whether a folder holds it.

    Raises:
        ConfigError: If source and dataset_split do not go together.
        DataError: Says where it looked and what to put there.
    """
    name = dataset_name(config)
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
        if folder.is_dir() and has_files(folder):
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
    if config.source == "amazon" and config.amazon_release == "2023":
        if not config.dataset_split:
            raise ConfigError(
                "DatasetConfig.dataset_split: expected a category of Amazon Reviews 2023, such as "
                "'All_Beauty'; found ''; use --set DatasetConfig.dataset_split=All_Beauty"
            )
        return f"amazon-{config.dataset_split.lower().replace('_', '-')}-2023"
    allowed = _SPLITS[config.source]
    if config.dataset_split not in allowed:
        choices = " or ".join(repr(split) for split in allowed)
        raise ConfigError(
            f"DatasetConfig.dataset_split: expected {choices} for source {config.source!r}; found "
            f"{config.dataset_split!r}; use --set DatasetConfig.dataset_split={allowed[0]!r}"
        )
    if config.source == "folder":
        return ""
    suffix = "-2014" if config.source == "amazon" else ""
    return f"{config.source}-{config.dataset_split}{suffix}"
