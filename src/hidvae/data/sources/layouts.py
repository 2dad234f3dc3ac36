"""Known layouts of public datasets: which one a folder holds, and how it is read.

A layout is recognised by the names of its files and, where those are not enough, by their headers.
Most are renames and joins, declared in ``public_tables.py``; the others have a module of their own.
What each takes for an event and an item is in docs/datasets.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from hidvae.config import DatasetConfig
from hidvae.data.sources import (
    amazon,
    amazon_2014,
    amazon_2018,
    amazon_2023,
    amazon_p5,
    kuairand,
    lcrec,
    mind,
    movielens,
    recbole_parts,
    retailrocket,
    steam,
)
from hidvae.data.sources.delimited import read_with_notes
from hidvae.data.sources.folder import has_tables, read_folder
from hidvae.data.sources.folder import source_files as folder_files
from hidvae.data.sources.locate import locate_folder
from hidvae.data.sources.public_tables import LAYOUTS
from hidvae.data.table_files import has_table
from hidvae.data.tables import SourceTables
from hidvae.errors import DataError
from hidvae.store.artifacts import Decision

_MOST_SHOWN = 4
_OWN = "name your columns in DatasetConfig.column_names to read it as tables of your own"


@dataclass(frozen=True)
class Recognised:
    """A known dataset in a folder."""

    name: str
    """Its name, for people."""
    files: Mapping[str, Path]
    """What is read of it, by name."""
    read: Callable[[DatasetConfig], SourceTables]
    said: str
    """What an event and an item are, and what is left out."""
    change: str = _OWN
    """The settings that ask for the same without recognising it."""
    hint: Decision | None = None
    """Settings that the dataset is often read with, and that are not taken in silence."""

    def tables(self, config: DatasetConfig) -> SourceTables:
        """Its tables, with what was recognised among the decisions.

        Raises:
            DataError: If a file cannot be read, or too many of its lines are broken.
        """
        tables = self.read(config)
        shown = ", ".join([*self.files][:_MOST_SHOWN])
        num_more = len(self.files) - _MOST_SHOWN
        more = f" and {num_more} more" if num_more > 0 else ""
        found = Decision(f"this folder holds {self.name} ({shown}{more}): {self.said}", self.change)
        hints = [self.hint] if self.hint else []
        return replace(tables, decisions=[found, *hints, *tables.decisions])


def source_files(config: DatasetConfig) -> dict[str, Path]:
    """The files of the configured folder, by name: a known dataset's, or tables of one's own.

    Raises:
        ConfigError: If source and dataset_split do not go together.
        DataError: If the folder or a table is missing.
    """
    found = _look(config)
    return dict(found.files) if found else folder_files(config)


def read(config: DatasetConfig) -> SourceTables:
    """The tables of the configured folder: a known dataset's, or one's own.

    Raises:
        ConfigError: If the settings and the tables do not go together.
        DataError: If the folder or a table is missing or cannot be read.
    """
    found = _look(config)
    return found.tables(config) if found else read_folder(config)


def _look(config: DatasetConfig) -> Recognised | None:
    """The known dataset of the configured folder, unless the settings or names say otherwise."""
    if config.column_names or not config.folder:
        return None
    folder = locate_folder(config, wanted="tables", has_files=has_tables)
    is_own = has_table(folder, "interactions") or has_table(folder, "items")
    return None if is_own else recognise(folder)


def recognise(folder: Path) -> Recognised | None:
    """The known dataset in a folder, or in the only folder below it that has one.

    Raises:
        DataError: If there are several.
    """
    if found := _recognise_here(folder):
        return found
    below = [place for place in sorted(folder.iterdir()) if place.is_dir()]
    all_found = {place.name: found for place in below if (found := _recognise_here(place))}
    if len(all_found) > 1:
        named = ", ".join(f"{found.name} in {place}" for place, found in all_found.items())
        raise DataError(
            f"{folder}: expected one dataset; found {named}; name the folder of one of them"
        )
    return next(iter(all_found.values()), None)


def _recognise_here(folder: Path) -> Recognised | None:
    return next((found for find in _FINDERS if (found := find(folder))), None)


def _of_source(
    folder: Path, name: str, source: str, split: str, said: str, hint: Decision | None = None
) -> Recognised:
    """A dataset that ``DatasetConfig.source`` can name as well."""

    def asked_for(config: DatasetConfig) -> DatasetConfig:
        return replace(config, source=cast(Any, source), dataset_split=split, folder=str(folder))

    find, read = _SOURCES[source]
    return Recognised(
        name=name,
        files=find(asked_for(DatasetConfig())),
        read=lambda config: read(asked_for(config)),
        said=said,
        change=f"DatasetConfig.source={source}, DatasetConfig.dataset_split={split}",
        hint=hint,
    )


def _movielens(folder: Path) -> Recognised | None:
    release = movielens.release_of(folder)
    if not release:
        return None
    name = release if release.startswith("latest") else release.upper()
    said = "a rating is an event, a movie an item, its genres the path, most common first"
    hint = Decision(
        "MovieLens: every rating counts, low ones too", 'DatasetConfig.events_where="rating >= 4"'
    )
    return _of_source(folder, f"MovieLens {name}", "movielens", release, said, hint)


def _kuairand(folder: Path) -> Recognised | None:
    release = kuairand.release_of(folder)
    if not release:
        return None
    name = f"KuaiRand-{'Pure' if release == 'pure' else release.upper()}"
    said = "an exposure with is_click = 1 is an event, a video an item"
    hint = Decision(
        "KuaiRand: published results keep a video once per user, and users and videos with five "
        "events",
        "DatasetConfig.repeated_items=first, DatasetConfig.min_events=5",
    )
    return _of_source(folder, name, "kuairand", release, said, hint)


def _amazon_p5(folder: Path) -> Recognised | None:
    files = amazon_p5.find_any(folder)
    if files is None:
        return None
    place = str(folder.resolve()).lower()
    split = next((name for name in ("beauty", "sports", "toys") if name in place), "")
    name, said = f"P5's Amazon Reviews 2014 {split}".strip(), "an item is an ASIN"
    if "meta.json" not in files:
        name, said = "P5's files without metadata, as its Yelp", "items have ids only"
    return Recognised(
        name=name,
        files=files,
        read=lambda config: read_with_notes(
            config, lambda notes: amazon_p5.read(files, folder.resolve().name, split, notes)
        ),
        said=f"a user's line of sequential_data.txt is their events, oldest first; {said}",
        change=f"DatasetConfig.source=amazon, DatasetConfig.dataset_split={split}" if split else "",
    )


def _amazon(folder: Path) -> Recognised | None:
    years = {
        "2014": amazon_2014.categories_in(folder),
        "2018": amazon_2018.categories_in(folder),
        "2023": amazon_2023.categories_in(folder),
    }
    found = [(year, category) for year, categories in years.items() for category in categories]
    if not found:
        return None
    if len(found) > 1:
        named = ", ".join(f"{category} of {year}" for year, category in found)
        raise DataError(
            f"{folder}: expected one category of Amazon Reviews; found {named}; keep one of them "
            "in this folder"
        )
    year, category = found[0]
    name = f"Amazon Reviews {year} {category}"
    said = (
        "a review is an event, whatever its rating; sales ranks, average ratings and what was also "
        "bought are left out, as they know the future"
    )
    if year != "2018":
        return _of_source(folder, name, f"amazon-{year}", category, said)
    files = amazon_2018.find_files(folder, category) or {}
    title = f"amazon-{category.lower().replace('_', '-')}-2018"

    def read_2018(config: DatasetConfig) -> SourceTables:
        return read_with_notes(config, lambda notes: amazon_2018.read(files, title, notes))

    return Recognised(name, files, read_2018, said, "")


def _lcrec(folder: Path) -> Recognised | None:
    files = lcrec.find_files(folder)
    if files is None:
        return None
    indexes = sorted({*folder.glob("*.index.json"), *folder.glob("index/*.index.json")})
    hints = [
        Decision(
            f"{index.name} holds semantic IDs; `hidvae ids import {index} --output RUN` takes them",
            "TokenizerConfig.source=file",
        )
        for index in indexes[:1]
    ]
    return Recognised(
        name="a dataset of LC-Rec, LETTER or MiniOneRec",
        files=files,
        read=lambda config: lcrec.read(files, folder.resolve().name),
        said="a user's items stand in their order; an item is named as in NAME.item2id, else by "
        "its number",
        hint=hints[0] if hints else None,
    )


def _of_own_module(folder: Path) -> Recognised | None:
    if files := mind.find_files(folder):
        return Recognised(
            "MIND (Microsoft News)",
            files,
            partial(mind.read, folder, files),
            "a click is an event, first those of the user's history, then those on impressions by "
            "time; news that were shown and not clicked are left out",
        )
    if files := retailrocket.find_files(folder):
        read = partial(retailrocket.read, folder, files)
        hint = Decision(
            "Retailrocket: views count as much as purchases",
            'DatasetConfig.events_where="event = addtocart | transaction"',
        )
        return Recognised("Retailrocket", files, read, retailrocket.EVENTS.said, hint=hint)
    if files := steam.find_files(folder):
        title = folder.resolve().name

        def read_steam(config: DatasetConfig) -> SourceTables:
            return read_with_notes(config, lambda notes: steam.read(files, title, notes))

        return Recognised("Steam", files, read_steam, steam.said_of(files))
    return None


def _recbole_parts(folder: Path) -> Recognised | None:
    files = recbole_parts.find_files(folder)
    if files is None:
        return None
    return Recognised(
        "a benchmark of RecBole",
        files,
        partial(recbole_parts.read, folder, files),
        "its parts train, valid and test are read as one log, in this order, and split anew",
        "",
    )


def _declared(folder: Path) -> Recognised | None:
    for layout in LAYOUTS:
        if files := layout.find(folder):
            read = partial(layout.read, folder, files)
            return Recognised(layout.name, files, read, layout.said, hint=layout.hint)
    return None


_SOURCES: Mapping[str, tuple[Callable[..., Mapping[str, Path]], Callable[..., SourceTables]]] = {
    "movielens": (movielens.source_files, movielens.read_movielens),
    "kuairand": (kuairand.source_files, kuairand.read_kuairand),
    "amazon-2014": (amazon.source_files, amazon.read_amazon),
    "amazon-2023": (amazon.source_files, amazon.read_amazon),
}
_FINDERS: tuple[Callable[[Path], Recognised | None], ...] = (
    _movielens,
    _kuairand,
    _amazon_p5,
    _amazon,
    _lcrec,
    _recbole_parts,
    _of_own_module,
    _declared,
)
