"""Count once what there is to see in a dataset; nothing is written but to a temporary folder.

All sums run in numpy and Polars, so a log of tens of millions of events takes seconds.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hidvae.addresses import as_written
from hidvae.apps.show.dataset_facts import (
    Column,
    DatasetFacts,
    Distribution,
    Hierarchy,
    Popularity,
    SampleItem,
    SampleUser,
)
from hidvae.apps.show.dataset_hierarchy import hierarchy_of_categories, hierarchy_of_tags
from hidvae.apps.show.formats import evenly_spread, short
from hidvae.apps.show.manifest_counts import read_counts
from hidvae.config import Config, DatasetConfig
from hidvae.data.catalogue import Catalogue
from hidvae.data.prepare import Dataset, load_dataset
from hidvae.data.schema import Columns
from hidvae.data.sources.database import is_database
from hidvae.data.split import PARTS
from hidvae.errors import ArtifactError, DataError
from hidvae.run.run import Run
from hidvae.store.artifacts import MANIFEST, StageFolder, read_stage

_LATEST_EVENTS = 6
_LONGEST_TEXT = 400
_SHOWN_FIRST = (Columns.ITEM, Columns.CATEGORIES, Columns.TITLE)


def describe(place: Path | str, num_samples: int = 3) -> DatasetFacts:
    """All that a view of a dataset shows.

    Args:
        place: A run, its stage folder ``dataset``, or a folder of raw tables or the address of a
            database, which are prepared in a temporary folder.
        num_samples: Users and items to show, evenly over all of them.

    Raises:
        HidvaeError: If there is no dataset, or it breaks its contract.
    """
    place = as_written(place)
    config = DatasetConfig(source="folder", folder=place)  # refuses a password
    folder = None if is_database(place) else _find_stage(Path(place))
    if folder is not None:
        return _describe_stage(folder, num_samples)
    with tempfile.TemporaryDirectory() as temporary:
        run = Run(temporary)
        run.make(Config(dataset=config), only="prepare")
        return _describe_stage(run.folder("dataset"), num_samples)


def _find_stage(place: Path) -> StageFolder | None:
    """The stage folder of a place; None if it can only be a folder of raw tables."""
    if not place.is_dir():
        raise DataError(
            f"{place}: expected a run, its dataset folder, or a folder of raw tables; found no "
            "such folder; check the path"
        )
    path = place if (place / MANIFEST).is_file() else place / "dataset"
    if not path.is_dir():
        return None
    folder = read_stage(path, produced_by="hidvae prepare")
    if (stage := folder.manifest["stage"]) != "dataset":
        raise ArtifactError(
            f"{path}: expected a folder that `hidvae prepare` wrote; found one of the stage "
            f"{stage}; give the run, or its folder dataset"
        )
    return folder


def _describe_stage(folder: StageFolder, num_samples: int) -> DatasetFacts:
    dataset = load_dataset(folder)
    sequences, catalogue = dataset.interactions.sequences, dataset.catalogue
    num_events = int(sequences.items.size)
    per_item = np.bincount(sequences.items, minlength=catalogue.num_items)
    hierarchy, labels, notes = _hierarchy(folder, catalogue)
    sizes = {"users": sequences.num_users, "items": catalogue.num_items, "events": num_events}
    counts, ties = read_counts(folder.metrics, sizes)
    return DatasetFacts(
        name=dataset.name,
        num_users=sequences.num_users,
        num_items=catalogue.num_items,
        num_events=num_events,
        settings=_changed_settings(folder.config),
        counts=counts,
        ties=ties,
        lengths=Distribution.of(sequences.lengths),
        popularity=Popularity.of(per_item),
        category_depth=Distribution.of(
            catalogue.frame[Columns.CATEGORIES].list.len().fill_null(0).to_numpy()
        ),
        hierarchy=hierarchy,
        columns=[_column(catalogue.frame[name]) for name in catalogue.frame.columns],
        items=_sample_items(catalogue, labels, per_item, num_samples),
        users=_sample_users(dataset, num_samples),
        notes=notes,
    )


def _hierarchy(
    folder: StageFolder, catalogue: Catalogue
) -> tuple[Hierarchy, pl.DataFrame, list[str]]:
    """The tags made from this dataset; else its category paths, and why."""
    path = folder.path.parent / "tags"
    if not (path / MANIFEST).is_file():
        return *hierarchy_of_categories(catalogue.frame), ["no tags yet: `hidvae tag` makes them"]
    tags = read_stage(path, produced_by="hidvae tag")
    if tags.manifest["inputs"].get("dataset") != folder.fingerprint:
        note = f"{path} was made from another dataset: `hidvae tag` makes it again"
        return *hierarchy_of_categories(catalogue.frame), [note]
    return *hierarchy_of_tags(tags), []


def _changed_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Settings that are not the defaults; where the files lie is no matter of the dataset's."""
    shown = {}
    for field in dataclasses.fields(DatasetConfig):
        value = config.get(field.name, field.default)
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        if field.name != "folder" and value not in (field.default, default):
            shown[field.name] = str(value)
    return shown


def _column(values: pl.Series) -> Column:
    is_list = isinstance(values.dtype, (pl.List, pl.Array))
    known = values.filter(values.list.len() > 0) if values.dtype == pl.List else values.drop_nulls()
    num_missing = values.len() - known.len()
    return Column(
        name=values.name,
        kind=str(values.dtype),
        num_missing=num_missing,
        missing_share=num_missing / max(values.len(), 1),
        num_distinct=None if is_list or values.dtype.is_nested() else known.n_unique(),
        example="" if known.is_empty() else _as_text(known[0]),
    )


def _sample_items(
    catalogue: Catalogue, labels: pl.DataFrame, per_item: NDArray[np.int64], count: int
) -> list[SampleItem]:
    rows = evenly_spread(catalogue.num_items, count)
    others = [name for name in catalogue.frame.columns if name not in _SHOWN_FIRST]
    found = catalogue.frame[rows].to_dicts()
    return [
        SampleItem(
            item_id=_one_line(catalogue.item_ids[row]),
            title=_one_line(catalogue.titles[row]),
            tags=[_one_line(label) for label in labels.row(row) if label is not None],
            num_events=int(per_item[row]),
            fields={
                name: _as_text(fields[name])
                for name in others
                if fields[name] is not None and fields[name] != []
            },
        )
        for row, fields in zip(rows, found, strict=True)
    ]


def _sample_users(dataset: Dataset, count: int) -> list[SampleUser]:
    sequences, titles = dataset.interactions.sequences, dataset.catalogue.titles
    users = []
    for row in evenly_spread(sequences.num_users, count):
        events = slice(*sequences.offsets[row : row + 2].tolist())
        items, parts = sequences.items[events].tolist(), dataset.split.parts[events].tolist()
        latest = list(zip(parts, items, strict=True))[-_LATEST_EVENTS:]
        users.append(
            SampleUser(
                user_id=_one_line(dataset.interactions.user_ids[row]),
                num_events=len(items),
                latest=[(PARTS[part], _one_line(titles[item])) for part, item in latest],
            )
        )
    return users


def _one_line(text: str) -> str:
    return short(text, _LONGEST_TEXT)


def _as_text(value: object) -> str:
    if isinstance(value, pl.Series):
        value = value.to_list()
    if isinstance(value, list):
        return _one_line(", ".join(str(part) for part in value))
    return _one_line(str(value))
