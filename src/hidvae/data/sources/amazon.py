"""Amazon Reviews in any of its public forms, or as tables that were prepared before.

Which files are meant is said by ``DatasetConfig.source``; prepared tables in the folder come
first. See ``docs/datasets.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hidvae.config import DatasetConfig
from hidvae.data.notes import Notes
from hidvae.data.sources import amazon_2014, amazon_2023, amazon_p5
from hidvae.data.sources.delimited import read_with_notes
from hidvae.data.sources.folder import has_tables, read_tables, table_files
from hidvae.data.sources.locate import locate_folder
from hidvae.data.sources.remote import amazon_2014_category, dataset_name
from hidvae.data.tables import SourceTables
from hidvae.errors import DataError


@dataclass(frozen=True)
class _Release:
    """A public form of the dataset."""

    wanted: str
    """Its files, for messages; {} is the category."""
    find_files: Callable[[Path, str], dict[str, Path] | None]
    """Its files in a folder by name, None if they are not there."""
    read: Callable[[dict[str, Path], str, str, Notes | None], SourceTables]


_RELEASES: Mapping[str, _Release] = {
    "amazon": _Release(
        "P5's archive (sequential_data.txt, datamaps.json, meta.json.gz)",
        amazon_p5.find_files,
        amazon_p5.read,
    ),
    "amazon-2014": _Release(
        "the files of 2014 (reviews_{0}_5.json.gz, meta_{0}.json.gz)",
        amazon_2014.find_files,
        amazon_2014.read,
    ),
    "amazon-2023": _Release(
        "the files of 2023 ({0}.jsonl.gz, meta_{0}.jsonl.gz)",
        amazon_2023.find_files,
        amazon_2023.read,
    ),
}


def source_files(config: DatasetConfig) -> dict[str, Path]:
    """The files that ``read_amazon`` reads, by their names.

    Raises:
        ConfigError: If the settings do not go together.
        DataError: If files are missing; says which setting fits the ones that are there.
    """
    folder = _locate(config)
    return table_files(folder, config) if has_tables(folder) else _release_files(folder, config)


def read_amazon(config: DatasetConfig) -> SourceTables:
    """The tables of a category of Amazon Reviews.

    Raises:
        ConfigError: If the settings do not go together.
        DataError: If files are missing, unreadable, or hold too many broken lines.
    """
    folder, name = _locate(config), dataset_name(config)
    if has_tables(folder):
        return read_tables(folder, config, name)
    files = _release_files(folder, config)
    read, split = _RELEASES[config.source].read, config.dataset_split
    return read_with_notes(config, lambda notes: read(files, name, split, notes))


def _locate(config: DatasetConfig) -> Path:
    def has_files(folder: Path) -> bool:
        return has_tables(folder) or any(
            release.find_files(folder, config.dataset_split) for release in _RELEASES.values()
        )

    return locate_folder(config, wanted=_wanted(config), has_files=has_files)


def _release_files(folder: Path, config: DatasetConfig) -> dict[str, Path]:
    files = _RELEASES[config.source].find_files(folder, config.dataset_split)
    if files is not None:
        return files
    others = {
        name: release.find_files(folder, config.dataset_split)
        for name, release in _RELEASES.items()
    }
    hints = [
        f"found {', '.join(found)}; use --set DatasetConfig.source={name}"
        for name, found in others.items()
        if found is not None
    ]
    present = sorted(path.name for path in folder.iterdir())[:5]
    listed = f"found {', '.join(present)}" if present else "found an empty folder"
    raise DataError(
        f"{folder}: expected {_wanted(config)}; "
        + (
            hints[0]
            if hints
            else f"{listed}; put the files there or "
            "correct DatasetConfig.dataset_split (docs/datasets.md)"
        )
    )


def _wanted(config: DatasetConfig) -> str:
    split = config.dataset_split
    category = amazon_2014_category(split) if config.source == "amazon-2014" else split
    return _RELEASES[config.source].wanted.format(category)
