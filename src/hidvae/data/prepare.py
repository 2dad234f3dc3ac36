"""Stage prepare: raw tables in, a checked and split dataset out, and how that is read.

::

    items.parquet       item_id and what else is known; row i is item_index i
    users.parquet       user_id; row u is user u
    events.safetensors  item_index (E,) int32, the users' events one after the other in time order;
                        offsets (U + 1,) int64, user u has the events offsets[u]:offsets[u + 1];
                        parts (E,) uint8, the split; cold_items (C,) int64, the items held out
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from hidvae.config import Config, DatasetConfig
from hidvae.data.catalogue import Catalogue
from hidvae.data.events import (
    Events,
    drop_rare,
    find_ties,
    keep_repeated,
    put_in_order,
    read_events,
)
from hidvae.data.interactions import (
    Interactions,
    Sequences,
    count_items,
    count_repeats,
    length_statistics,
)
from hidvae.data.notes import Notes, count_of
from hidvae.data.schema import Columns, check_items
from hidvae.data.sources import amazon, kuairand, layouts, movielens
from hidvae.data.sources.database import is_database, read_database
from hidvae.data.sources.demo import GENERATOR_VERSION, generate_demo
from hidvae.data.split import (
    MIN_EVENTS,
    PARTS,
    Split,
    draw_cold_items,
    hold_out_items,
    leave_one_out,
)
from hidvae.data.tables import SourceTables
from hidvae.errors import ArtifactError, ConfigError, DataError
from hidvae.store.artifacts import StageFolder, StageWriter, fingerprint_file, read_json

if TYPE_CHECKING:
    from hidvae.run.run import Run

DEMO_SEED = 7
"""Of the demo, which is the same everywhere."""
COLD_ITEM_SEED = 0
"""Of which items are held out: the same ones for every run of a log."""
ITEMS_FILE = "items.parquet"
USERS_FILE = "users.parquet"
EVENTS_FILE = "events.safetensors"
WITHOUT_LOG_FILE = "without_log.json"
"""In a copy for others, in place of the log: what recommending must know of it."""
_GIVEN = "is_given"
"""Fact of a dataset whose tables ``Run.fit`` was given: no setting says where they are."""
_PLACE = ("source", "dataset_split", "folder")
"""Settings that name where the tables are."""
MIN_REPEAT_SHARE = 0.01
"""Share of training events that repeat an earlier item of their user, from which on users count as
repeating items. Fewer are accidents of a log, such as an order sent twice, and would give places in
every list to items that the user already has."""


@dataclass(frozen=True)
class _Source:
    """How the tables of one ``DatasetConfig.source`` are found and read."""

    files: Callable[[DatasetConfig], dict[str, Path]]
    read: Callable[[DatasetConfig], SourceTables]


_SOURCES = {
    "folder": _Source(layouts.source_files, layouts.read),
    "amazon": _Source(amazon.source_files, amazon.read_amazon),
    "amazon-2014": _Source(amazon.source_files, amazon.read_amazon),
    "amazon-2023": _Source(amazon.source_files, amazon.read_amazon),
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
    users_repeat_items: bool
    """Whether at least ``MIN_REPEAT_SHARE`` of the training events repeat an item of their user."""

    @cached_property
    def warm_items(self) -> npt.NDArray[np.bool_]:
        """(N,) whether an item occurs in a training history."""
        return count_items(self.split.train, self.catalogue.num_items) > 0

    def events_frame(self) -> pl.DataFrame:
        """The log as a table: user_id, item_id, position (from 0 within a user) and split.

        Rows keep the order of users and their events; ``split`` is one of ``PARTS``.
        """
        sequences = self.interactions.sequences
        starts = np.repeat(sequences.offsets[:-1], sequences.lengths)
        users = pl.Series(Columns.USER, self.interactions.user_ids, pl.String)
        return pl.DataFrame(
            [
                users.gather(np.repeat(np.arange(users.len()), sequences.lengths)),
                self.catalogue.frame[Columns.ITEM].gather(sequences.items),
                pl.Series(Columns.POSITION, np.arange(starts.size) - starts, pl.Int32),
                pl.Series("split", PARTS, pl.Enum(PARTS)).gather(self.split.parts),
            ]
        )


class DatasetWithoutLog(Dataset):
    """A dataset that was copied without its users; whoever asks for them gets an error."""

    def __init__(
        self,
        catalogue: Catalogue,
        name: str,
        warm_items: npt.NDArray[np.bool_],
        users_repeat_items: bool,
        folder: Path,
    ) -> None:
        """Keep what was written down; the folder is for messages."""
        self.__dict__.update(
            catalogue=catalogue,
            name=name,
            warm_items=warm_items,
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
            f"{self.__dict__['folder']}: expected {EVENTS_FILE}; found a copy without the "
            "log, which can recommend and explain; for everything else use the run itself"
        )


@dataclass(frozen=True, eq=False)
class Assembled:
    """What two tables come to, before it is written."""

    items: pl.DataFrame
    users: pl.DataFrame
    split: Split
    metrics: dict[str, Any]


def prepare(run: Run, config: Config, stage: StageWriter) -> None:
    """Read, check and filter a dataset, and write the stage ``dataset``.

    The tables are those of ``Run.fit``, else those that the settings name.

    Raises:
        ConfigError: If the settings do not go together.
        DataError: If a table is missing or breaks its contract, or too little is left of it.
    """
    settings = config.dataset
    tables = run.tables or run.source_tables(settings)
    notes = Notes(strict=settings.strict)
    made = assemble(tables, settings, notes)
    made.items.write_parquet(stage.path / ITEMS_FILE)
    made.users.write_parquet(stage.path / USERS_FILE)
    write_events(made.split, stage.path / EVENTS_FILE)
    stage.metrics.update(made.metrics)
    stage.decisions += notes.decisions
    counts = ("num_users", "num_items", "num_events", "dropped_users", "dropped_events")
    stage.facts.update({"name": tables.name, **{key: stage.metrics[key] for key in counts}})
    stage.facts["users_repeat_items"] = _do_users_repeat(made.split.train)
    if run.tables:
        stage.facts[_GIVEN] = True
    if Path(tables.items_file).exists():  # where an item's image path starts
        stage.facts["folder"] = str(Path(tables.items_file).resolve().parent)


def assemble(tables: SourceTables, config: DatasetConfig, notes: Notes) -> Assembled:
    """Check, filter, order and split two tables: all of ``prepare`` but the writing.

    Args:
        tables: As the source read them.
        config: Says which events count.
        notes: Told of every decision, of what is left out, and of what is wrong.

    Raises:
        DataError: If a table breaks its contract, or too little is left of it.
    """
    for decision in tables.decisions:
        notes.decide(*decision)
    notes.parts.update(tables.parts)
    notes.use(*tables.used)
    if config.events_where and "events_where" not in notes.used:
        raise ConfigError(
            f"DatasetConfig.events_where: expected conditions on columns of the events; found "
            f"{' and '.join(config.events_where)}, but {tables.name} has nothing but user, item "
            "and order; remove the setting"
        )
    items = check_items(
        tables.items, tables.items_file, notes, category_separator=config.category_separator
    )
    events, size = read_events(tables, items, notes, config)
    num_known = len(events)
    events = put_in_order(events, items, config)
    num_duplicates = num_known - len(events)
    num_distinct = len(events)
    events = keep_repeated(events, config.repeated_items)
    num_repeated = num_distinct - len(events)
    events = drop_rare(events, tables, config.min_events)
    items, events = _filter_items(items, events, config)
    users, sequences = _to_sequences(events)
    split = _cold_split(sequences, config) or leave_one_out(sequences)
    found = _describe(items, sequences) | _count_ties(events, sequences) | _count_cold(split)
    left_out = {
        "dropped_users": size.num_users - found["num_users"],
        "dropped_items": tables.items.height - items.height,
        "dropped_events": size.num_events - len(events),
        "unknown_item_events": size.num_unknown,
        "duplicate_events": num_duplicates,
    }
    _say_what_is_left_out(notes, num_duplicates, num_repeated, left_out, config)
    _say_who_is_tested(notes, sequences, split)
    _say_without_effect(notes, config)
    return Assembled(items, users, split, {**found, **left_out, **tables.counts})


def _say_what_is_left_out(
    notes: Notes,
    num_duplicates: int,
    num_repeated: int,
    left_out: Mapping[str, int],
    config: DatasetConfig,
) -> None:
    if num_duplicates:
        notes.decide(
            f"{count_of(num_duplicates, 'event')} with user, item and time of another left out"
        )
    if num_repeated:
        notes.decide(
            f"{count_of(num_repeated, 'event')} of an item that the user has twice left out",
            f"DatasetConfig.repeated_items={config.repeated_items}",
        )
    if config.min_events and (left_out["dropped_users"] or left_out["dropped_items"]):
        notes.decide(
            f"{count_of(left_out['dropped_users'], 'user')} and "
            f"{count_of(left_out['dropped_items'], 'item')} are left out, for fewer than "
            f"{config.min_events} events or the reasons above",
            f"DatasetConfig.min_events={config.min_events}",
        )


def _say_who_is_tested(notes: Notes, sequences: Sequences, split: Split) -> None:
    num_short = int((sequences.lengths < MIN_EVENTS).sum())
    if num_short and not split.cold_items.size:
        notes.decide(
            f"{num_short:,} of {count_of(sequences.num_users, 'user')} have fewer than "
            f"{MIN_EVENTS} events: they train and are not tested",
            "DatasetConfig.min_events=3",
        )
    if split.test_users.size and not split.validation_users.size:
        notes.decide(
            f"no user has more than {MIN_EVENTS} events: all but the last train, and nobody "
            "validates"
        )


_NO_TEXT = "no table of text with separators was read"
_WITHOUT_EFFECT = {
    "column_names": "the columns of a known dataset have their names",
    "csv_separator": _NO_TEXT,
    "csv_quote": _NO_TEXT,
    "csv_encoding": "no table of text was read",
    "time_format": "no time is written as text or as a number",
    "category_separator": "no category path is written as text",
    "match_ids": "no id of the log is an item's in another spelling",
    "queries": "no database was read",
    "demo_num_items": "the dataset is not the demo",
    "demo_num_users": "the dataset is not the demo",
}
"""Settings that say how tables are read, and why one may say nothing."""


def _say_without_effect(notes: Notes, config: DatasetConfig) -> None:
    """Name the settings that were set and did nothing, as they were set for a reason."""
    usual = DatasetConfig()
    for name, reason in _WITHOUT_EFFECT.items():
        value = getattr(config, name)
        if value != getattr(usual, name) and name not in notes.used:
            shown = f"[{', '.join(map(repr, value))}]" if isinstance(value, tuple) else repr(value)
            notes.decide(f"DatasetConfig.{name}={shown} had no effect, as {reason}")


def raw_inputs(run: Run, config: Config) -> dict[str, str]:
    """What the stage is made from: SHA-256 of each file or table, or the generator's settings.

    Raises:
        DataError: If it was made from tables that ``Run.fit`` was given, which are not here now.
    """
    if run.tables:
        return dict(run.tables.fingerprints)
    given = _given_inputs(run, config.dataset)
    if given is None and is_database(config.dataset.folder):
        return dict(run.source_tables(config.dataset).fingerprints)
    return given or raw_fingerprints(config.dataset)


def _given_inputs(run: Run, settings: DatasetConfig) -> dict[str, str] | None:
    """The inputs of a dataset that ``Run.fit`` made, unless the settings name other data now."""
    if not run.has("dataset"):
        return None
    try:
        stage = run.folder("dataset")
    except ArtifactError:  # it is made again
        return None
    now, before = json.loads(json.dumps(dataclasses.asdict(settings))), stage.config
    if not stage.facts.get(_GIVEN) or any(now[name] != before[name] for name in _PLACE):
        return None
    if now != before:
        raise DataError(
            f"{stage.path}: expected the settings that it was made with, as its tables were given "
            "in Python; found others; call Run.fit with the tables and these settings, or name "
            "tables with --data"
        )
    return dict(stage.manifest["inputs"])


def raw_fingerprints(config: DatasetConfig) -> dict[str, str]:
    """SHA-256 of each file, or the generator and its settings."""
    if config.source == "demo":
        return {
            "demo": f"version {GENERATOR_VERSION}, {config.demo_num_items} items, "
            f"{config.demo_num_users} users, seed {DEMO_SEED}"
        }
    files = _SOURCES[config.source].files(config)
    return {name: fingerprint_file(path) for name, path in files.items()}


def read_source(config: DatasetConfig) -> SourceTables:
    """The raw tables of the configured source.

    Raises:
        ConfigError: If the settings do not go together.
        DataError: If a table is missing or cannot be read.
    """
    if config.source == "demo":
        demo = generate_demo(config.demo_num_items, config.demo_num_users, DEMO_SEED)
        log = demo.interactions.lazy()
        used = frozenset({"demo_num_items", "demo_num_users"})
        return SourceTables("demo", demo.items, log, "demo items", "demo interactions", used=used)
    if is_database(config.folder):
        return read_database(config)
    if config.queries:
        raise ConfigError(
            "DatasetConfig.queries: expected the address of a database in DatasetConfig.folder, "
            f"such as postgresql://user@host/shop; found {config.folder!r}; name it with --data, "
            "or remove the queries"
        )
    return _SOURCES[config.source].read(config)


def load_dataset(stage: StageFolder) -> Dataset:
    """Read a prepared dataset with its split.

    Raises:
        ArtifactError: If a file of the folder is damaged.
    """
    with _readable(stage.path / ITEMS_FILE) as file:
        catalogue = Catalogue(pl.read_parquet(file, glob=False))
    name, repeats = str(stage.facts["name"]), bool(stage.facts["users_repeat_items"])
    if WITHOUT_LOG_FILE in stage.manifest["files"]:
        unknown = read_json(stage.path / WITHOUT_LOG_FILE)["unknown_items"]
        known = np.ones(catalogue.num_items, dtype=bool)
        known[catalogue.index_of(unknown)] = False
        return DatasetWithoutLog(catalogue, name, known, repeats, stage.path)
    with _readable(stage.path / USERS_FILE) as file:
        user_ids = pl.read_parquet(file, glob=False)[Columns.USER].to_list()
    with _readable(stage.path / EVENTS_FILE) as file:
        events = load_file(file)
    sequences = Sequences(events["item_index"], events["offsets"])
    split = Split(sequences, events["parts"], events["cold_items"])
    return Dataset(catalogue, Interactions(user_ids, sequences), split, name, repeats)


def _cold_split(sequences: Sequences, config: DatasetConfig) -> Split | None:
    if config.cold_item_share == 0:
        return None
    cold_items = draw_cold_items(sequences, config.cold_item_share, COLD_ITEM_SEED)
    return hold_out_items(sequences, cold_items)


def _filter_items(
    items: pl.DataFrame, events: Events, config: DatasetConfig
) -> tuple[pl.DataFrame, Events]:
    """With a k-core the catalogue is what it left; without, items need no event."""
    if config.min_events == 0:
        return items, events
    is_kept = np.bincount(events.item, minlength=items.height) > 0
    new_index = (np.cumsum(is_kept) - 1).astype(np.int32)
    return items.filter(is_kept), dataclasses.replace(events, item=new_index[events.item])


def _to_sequences(events: Events) -> tuple[pl.DataFrame, Sequences]:
    """Users who have events left, in order, and their events."""
    lengths = np.bincount(events.user, minlength=events.users.height)
    users = events.users.filter(lengths > 0).select(Columns.USER).rechunk()
    offsets = np.concatenate([[0], np.cumsum(lengths[lengths > 0])])
    return users, Sequences(events.item, offsets)


def write_events(split: Split, file: Path) -> None:
    """Write the log of a dataset with its split."""
    arrays = {
        "item_index": split.sequences.items,
        "offsets": split.sequences.offsets,
        "parts": split.parts,
        "cold_items": split.cold_items,
    }
    save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, file)


def _do_users_repeat(train: Sequences) -> bool:
    return count_repeats(train) >= max(1, MIN_REPEAT_SHARE * train.items.size)


def _describe(items: pl.DataFrame, sequences: Sequences) -> dict[str, Any]:
    lengths = length_statistics(sequences.lengths)
    return {
        "num_users": sequences.num_users,
        "num_items": items.height,
        "num_events": sequences.items.size,
        "items_without_events": items.height - np.unique(sequences.items).size,
        "items_without_categories": items[Columns.CATEGORIES].null_count(),
        "repeated_events": count_repeats(sequences),
        **{f"sequence_length_{name}": value for name, value in lengths.items()},
    }


def _count_cold(split: Split) -> dict[str, int]:
    """Held-out items and the users who test them; nothing under leave-one-out."""
    if not split.cold_items.size:
        return {}
    return {"cold_items": split.cold_items.size, "cold_test_users": split.test_users.size}


def _count_ties(events: Events, sequences: Sequences) -> dict[str, int]:
    """Events of equal time, and the targets that depend on how their order was decided."""
    tied, group = find_ties(events)
    group_of = np.full(len(events), -1)
    group_of[tied] = group
    ends = sequences.offsets[1:]
    ends = ends[sequences.lengths >= MIN_EVENTS]
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
    except (pl.exceptions.PolarsError, SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"{file}: expected a readable file; found: {reason}; run `hidvae prepare` again"
        ) from error
