"""Where a dataset's files are: the configured folder, $HIDVAE_DATA, ./data, else a download."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hidvae.config import DatasetConfig
from hidvae.data.download import fetch_dataset, is_downloaded
from hidvae.data.sources.remote import dataset_name, remote_dataset
from hidvae.errors import DataError
from hidvae.store.cache import OFFLINE_VARIABLE, is_offline

DATA_VARIABLE = "HIDVAE_DATA"
"""Environment variable that names the folder of datasets."""


def locate_folder(config: DatasetConfig, *, wanted: str, has_files: Callable[[Path], bool]) -> Path:
    """Folder of the dataset: ``DatasetConfig.folder``, else $HIDVAE_DATA, else ./data, else cache.

    A public dataset that is in none of them is downloaded into the cache, unless downloads are
    turned off; what was downloaded before is used without any request.

    Args:
        config: Names the dataset and perhaps its folder.
        wanted: What must be in the folder, for messages.
        has_files: Whether a folder holds it.

    Raises:
        ConfigError: If source and dataset_split do not go together.
        DataError: Says where it looked and what to put there, or why the download failed.
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
    dataset = remote_dataset(config)
    if dataset and (is_downloaded(dataset) or not _download_is_off()):
        fetched = fetch_dataset(dataset)
        return _check_download(fetched, wanted, has_files)
    places = ", ".join(str(parent / name) for parent in roots)
    places = places if root else f"${DATA_VARIABLE} (not set), {places}"
    put = f"put them into a folder {name} in one of these" if name else "put them there"
    off = f"{_download_is_off()}; " if dataset else ""
    raise DataError(
        f"expected {wanted} of {name or 'your dataset'}; looked in {places}; found none; {off}{put}"
        ", or name their folder with --set DatasetConfig.folder=PATH (columns: docs/data-format.md)"
    )


def _download_is_off() -> str:
    """Why nothing may be downloaded; empty if it may."""
    if is_offline():
        return f"downloading is off (${OFFLINE_VARIABLE} is set)"
    return ""


def _check_download(folder: Path, wanted: str, has_files: Callable[[Path], bool]) -> Path:
    if has_files(folder):
        return folder
    raise DataError(
        f"{folder}: expected {wanted} in the download; found other files; the publisher may "
        "have changed the dataset; name a folder that has them with --set DatasetConfig.folder=PATH"
    )
