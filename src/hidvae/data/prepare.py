"""Stage prepare: raw tables in, a checked dataset of three files out."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hidvae.config import DatasetConfig, build_section
from hidvae.data.catalogue import Catalogue
from hidvae.data.events import Events, find_ties, k_core, keep_repeated, put_in_order, read_events
from hidvae.data.interactions import (
    Interactions,
    Sequences,
    count_repeats,
    length_statistics,
    to_interactions,
)
from hidvae.data.rules import COUNT, nothing_left, short_histories
from hidvae.data.schema import Columns, check_items
from hidvae.data.sources import amazon, folder, kuairand, movielens
from hidvae.data.sources.demo import GENERATOR_VERSION, generate_demo
from hidvae.data.split import (
    MIN_EVENTS,
    Split,
    draw_cold_items,
    hold_out_items,
    leave_one_out,
)
from hidvae.data.tables import SourceTables
from hidvae.errors import ArtifactError
from hidvae.store.artifacts import StageFolder, fingerprint_file, read_json, read_stage, write_stage

ITEMS_FILE = "items.parquet"
INTERACTIONS_FILE = "interactions.parquet"
WITHOUT_LOG_FILE = "without_log.json"
"""In a copy for others, in place of the log: what recommending must know of it."""
_ROWS_PER_GROUP = 1 << 18
"""Of interactions.parquet; left open, it (and the fingerprint) would depend on the CPU's cores."""


@dataclass(frozen=True)
class _Source:
    """How the tables of one ``DatasetConfig.source`` are found and read."""

    files: Callable[[DatasetConfig], dict[str, Path]]
    read: Callable[[DatasetConfig], SourceTables]


_SOURCES = {
    "folder": _Source(folder.source_files, folder.read_folder),
    "amazon": _Source(amazon.source_files, amazon.read_amazon),
    "kuairand": _Source(kuairand.source_files, kuairand.read_kuairand),
    "movielens": _Source(movielens.source_files, movielens.read_movielens),
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """A prepared dataset: items, users' sequences, and their split."""

    catalogue: Catalogue
    interactions: Interactions
    split: Split
    name: str

    @cached_property
    def known_items(self) -> npt.NDArray[np.bool_]:
        """(N,) whether an item occurs in a training history."""
        return np.bincount(self.split.train.items, minlength=self.catalogue.num_items) > 0

    @cached_property
    def users_repeat_items(self) -> bool:
        """Whether an item occurs twice in a training history."""
        return count_repeats(self.split.train) > 0


class DatasetWithoutLog(Dataset):
    """A dataset that was copied without its users; whoever asks for them gets an error."""

    def __init__(
        self,
        catalogue: Catalogue,
        name: str,
        known_items: npt.NDArray[np.bool_],
        users_repeat_items: bool,
        folder: Path,
    ) -> None:
        """Keep what was written down; the folder is for messages."""
        self.__dict__.update(
            catalogue=catalogue,
            name=name,
            known_items=known_items,
            users_repeat_items=users_repeat_items,
            folder=folder,
        )

    def __repr__(self) -> str:
        return f"DatasetWithoutLog({self.name!r}, {self.catalogue.num_items} items)"

    @property
    def interactions(self) -> Interactions:
        """Not there."""
        raise self._missing()

    @property
    def split(self) -> Split:
        """Not there."""
        raise self._missing()

    def _missing(self) -> ArtifactError:
        return ArtifactError(
            f"{self.__dict__['folder']}: expected {INTERACTIONS_FILE}; found a copy without the "
            "log, which can recommend and explain; for everything else use the run itself"
        )


def prepare(config: DatasetConfig, output: Path) -> StageFolder:
    """Read, check and filter a dataset, and write it as a stage folder.

    Args:
        config: Where the tables are and how the log is cut.
        output: Stage folder to write: items.parquet (row i is item_index i) and
            interactions.parquet (user_id, item_id, position), each user's events in time order.

    Raises:
        ConfigError: If the settings do not go together.
        DataError: If a table is missing or breaks its contract, or nothing is left of it.
        ArtifactError: If the folder cannot be written.
    """
    inputs = raw_fingerprints(config)
    settings = dataclasses.asdict(config)
    with write_stage(output, stage="prepare", config=settings, inputs=inputs) as writer:
        tables = read_source(config)
        items = check_items(tables.items, tables.items_file)
        events, size = read_events(tables, items, config)
        num_known = len(events)
        events = put_in_order(events, items, config)
        num_duplicates = num_known - len(events)
        events = _filter_events(keep_repeated(events, config.repeated_items), tables, config)
        items, events = _filter_items(items, events, config)
        items.write_parquet(writer.path / ITEMS_FILE)
        _write_events(events, items, writer.path / INTERACTIONS_FILE)
        found = _describe(items, events) | _describe_cold(events, config)
        left_out = {
            "dropped_users": size.num_users - found["num_users"],
            "dropped_items": tables.items.height - items.height,
            "dropped_events": size.num_events - len(events),
            "unknown_item_events": size.num_unknown,
            "duplicate_events": num_duplicates,
        }
        writer.metrics.update({**found, **left_out, **tables.counts})
        counts = ("num_users", "num_items", "num_events", "dropped_users", "dropped_events")
        writer.facts.update({"name": tables.name, **{key: writer.metrics[key] for key in counts}})
        if Path(tables.items_file).is_file():  # where an item's image path starts
            writer.facts["folder"] = str(Path(tables.items_file).resolve().parent)
    return read_stage(output, produced_by="hidvae prepare")


def raw_fingerprints(config: DatasetConfig) -> dict[str, str]:
    """What the stage is made from: SHA-256 of each file, or the generator and its settings."""
    if config.source == "demo":
        return {
            "demo": f"version {GENERATOR_VERSION}, {config.demo_num_items} items, "
            f"{config.demo_num_users} users, seed {config.demo_seed}"
        }
    files = _SOURCES[config.source].files(config)
    return {name: fingerprint_file(path) for name, path in files.items()}


def read_source(config: DatasetConfig) -> SourceTables:
    """The raw tables of the configured source."""
    if config.source == "demo":
        demo = generate_demo(config.demo_num_items, config.demo_num_users, config.demo_seed)
        log = demo.interactions.lazy()
        return SourceTables("demo", demo.items, log, "demo items", "demo interactions")
    return _SOURCES[config.source].read(config)


def load_dataset(stage: StageFolder) -> Dataset:
    """Read a prepared dataset and split it as its settings say.

    Raises:
        ArtifactError: If a file of the folder is damaged.
    """
    with _readable(stage.path / ITEMS_FILE) as file:
        catalogue = Catalogue(pl.read_parquet(file, glob=False))
    if WITHOUT_LOG_FILE in stage.manifest["files"]:
        return _without_log(stage, catalogue)
    with _readable(stage.path / INTERACTIONS_FILE) as file:
        interactions = to_interactions(pl.scan_parquet(file, glob=False), catalogue)
    config = build_section(DatasetConfig, stage.config)
    split = _cold_split(interactions.sequences, config) or leave_one_out(interactions)
    return Dataset(catalogue, interactions, split, str(stage.facts["name"]))


def _without_log(stage: StageFolder, catalogue: Catalogue) -> DatasetWithoutLog:
    facts = read_json(stage.path / WITHOUT_LOG_FILE)
    known = np.ones(catalogue.num_items, dtype=bool)
    known[catalogue.index_of(facts["unknown_items"])] = False
    name, repeats = str(stage.facts["name"]), bool(facts["users_repeat_items"])
    return DatasetWithoutLog(catalogue, name, known, repeats, stage.path)


def _cold_split(sequences: Sequences, config: DatasetConfig) -> Split | None:
    if config.cold_item_share == 0:
        return None
    cold_items = draw_cold_items(sequences, config.cold_item_share, config.cold_item_seed)
    return hold_out_items(sequences, cold_items)


def _filter_events(events: Events, tables: SourceTables, config: DatasetConfig) -> Events:
    """k-core, then the least a leave-one-out split needs of each user."""
    drops_short = config.short_histories == "drop"
    min_user_events = max(config.min_events, MIN_EVENTS if drops_short else 0)
    kept = k_core(events, min_user_events, config.min_events)
    if not len(kept):
        raise nothing_left(len(events), min_user_events, tables, config)
    lengths = pl.Series(COUNT, np.bincount(kept.user, minlength=kept.users.height))
    users = kept.users.with_columns(lengths).filter(pl.col(COUNT) > 0)
    short = users.filter(pl.col(COUNT) < MIN_EVENTS)
    if not short.is_empty():
        raise short_histories(short, users.height, tables)
    return kept


def _filter_items(
    items: pl.DataFrame, events: Events, config: DatasetConfig
) -> tuple[pl.DataFrame, Events]:
    """With a k-core the catalogue is what it left; without, items need no event."""
    if config.min_events == 0:
        return items, events
    is_kept = np.bincount(events.item, minlength=items.height) > 0
    new_index = (np.cumsum(is_kept) - 1).astype(np.int32)
    return items.filter(is_kept), dataclasses.replace(events, item=new_index[events.item])


def _to_sequences(events: Events) -> Sequences:
    lengths = np.bincount(events.user)
    offsets = np.concatenate([[0], np.cumsum(lengths[lengths > 0])])
    return Sequences(events.item, offsets)


def _write_events(events: Events, items: pl.DataFrame, file: Path) -> None:
    """user_id, item_id and position (counted within each user); ids come back piece by piece."""
    sequences = _to_sequences(events)
    starts = np.repeat(sequences.offsets[:-1], sequences.lengths)
    position = (np.arange(len(events)) - starts).astype(np.int32)
    numbers = pl.LazyFrame({"user": events.user, "item": events.item, Columns.POSITION: position})
    ids = {"user": events.users[Columns.USER], "item": items[Columns.ITEM]}
    numbers.select(
        *(
            pl.col(name)
            .map_batches(values.gather, return_dtype=pl.String, is_elementwise=True)
            .alias(values.name)
            for name, values in ids.items()
        ),
        Columns.POSITION,
    ).sink_parquet(file, row_group_size=_ROWS_PER_GROUP)


def _describe(items: pl.DataFrame, events: Events) -> dict[str, Any]:
    sequences = _to_sequences(events)
    lengths = length_statistics(sequences.lengths)
    return {
        "num_users": sequences.num_users,
        "num_items": items.height,
        "num_events": len(events),
        "items_without_events": items.height - np.unique(events.item).size,
        "items_without_categories": items[Columns.CATEGORIES].null_count(),
        "repeated_events": count_repeats(sequences),
        **_count_ties(events, sequences),
        **{f"sequence_length_{name}": value for name, value in lengths.items()},
    }


def _describe_cold(events: Events, config: DatasetConfig) -> dict[str, int]:
    """Held-out items and the users who test them; nothing under leave-one-out."""
    split = _cold_split(_to_sequences(events), config)
    if split is None:
        return {}
    return {"cold_items": split.cold_items.size, "cold_test_users": split.test_users.size}


def _count_ties(events: Events, sequences: Sequences) -> dict[str, int]:
    """Events of equal time, and the targets that depend on how their order was decided."""
    tied, group = find_ties(events)
    group_of = np.full(len(events), -1)
    group_of[tied] = group
    ends = sequences.offsets[1:]
    last, second, third = (group_of[ends - back] for back in (1, 2, 3))
    is_test_tied = (last >= 0) & (last == second)
    is_validation_tied = is_test_tied | ((second >= 0) & (second == third))
    return {
        "tied_events": tied.size,
        "tied_validation_targets": int(is_validation_tied.sum()),
        "tied_test_targets": int(is_test_tied.sum()),
    }


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[Path]:
    try:
        yield file
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"{file}: expected a readable Parquet file; found: {reason}; run `hidvae prepare` again"
        ) from error
