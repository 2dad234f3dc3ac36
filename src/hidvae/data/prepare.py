"""Stage prepare: raw tables in, a checked dataset of three files out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from hidvae.artifacts import StageFolder, fingerprint_file, read_stage, write_stage
from hidvae.config import DatasetConfig
from hidvae.data.catalogue import Catalogue
from hidvae.data.interactions import (
    Interactions,
    count_repeats,
    k_core,
    length_statistics,
    to_interactions,
)
from hidvae.data.schema import ROW, Columns, check_interactions, check_items
from hidvae.data.sources.demo import GENERATOR_VERSION, generate_demo
from hidvae.data.sources.folder import read_folder, table_paths
from hidvae.data.split import MIN_EVENTS, Split, leave_one_out
from hidvae.data.tables import SourceTables, bad_rows
from hidvae.errors import ArtifactError, DataError

ITEMS_FILE = "items.parquet"
INTERACTIONS_FILE = "interactions.parquet"


@dataclass(frozen=True, eq=False)
class Dataset:
    """A prepared dataset: items, users' sequences, and their split."""

    catalogue: Catalogue
    interactions: Interactions
    split: Split
    name: str


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
        logged = check_interactions(tables.interactions, tables.interactions_file)
        events = _drop_unknown_items(logged, items, tables, config)
        num_unknown = logged.height - events.height
        events = _filter_events(events, tables, config)
        catalogue = _filter_items(items, events, config)
        interactions = to_interactions(events, catalogue)
        catalogue.frame.write_parquet(writer.path / ITEMS_FILE)
        _with_position(events).write_parquet(writer.path / INTERACTIONS_FILE)
        num_logged_users = logged[Columns.USER].n_unique()
        metrics = _describe(catalogue, interactions)
        metrics["dropped_users"] = num_logged_users - metrics["num_users"]
        metrics["dropped_items"] = items.height - metrics["num_items"]
        metrics["dropped_events"] = logged.height - metrics["num_events"]
        metrics["unknown_item_events"] = num_unknown
        writer.metrics.update(metrics)
        counts = ("num_users", "num_items", "num_events", "dropped_users", "dropped_events")
        writer.facts.update({"name": tables.name, **{key: metrics[key] for key in counts}})
    return read_stage(output, produced_by="hidvae prepare")


def raw_fingerprints(config: DatasetConfig) -> dict[str, str]:
    """What the stage is made from: SHA-256 of each file, or the generator and its settings."""
    if config.source == "demo":
        return {
            "demo": f"version {GENERATOR_VERSION}, {config.demo_num_items} items, "
            f"{config.demo_num_users} users, seed {config.demo_seed}"
        }
    return {path.name: fingerprint_file(path) for path in table_paths(config)}


def read_source(config: DatasetConfig) -> SourceTables:
    """The raw tables of the configured source."""
    if config.source != "demo":
        return read_folder(config)
    demo = generate_demo(config.demo_num_items, config.demo_num_users, config.demo_seed)
    return SourceTables("demo", demo.items, demo.interactions, "demo items", "demo interactions")


def load_dataset(folder: StageFolder) -> Dataset:
    """Read a prepared dataset and split it leave-one-out.

    Raises:
        ArtifactError: If a file of the folder is damaged.
    """
    catalogue = Catalogue(_read_parquet(folder.path / ITEMS_FILE))
    events = _read_parquet(folder.path / INTERACTIONS_FILE)
    interactions = to_interactions(events, catalogue)
    return Dataset(catalogue, interactions, leave_one_out(interactions), str(folder.facts["name"]))


def _drop_unknown_items(
    events: pl.DataFrame, items: pl.DataFrame, tables: SourceTables, config: DatasetConfig
) -> pl.DataFrame:
    known = pl.col(Columns.ITEM).is_in(items[Columns.ITEM].implode())
    kept = events.filter(known)
    if kept.height == events.height:
        return kept
    if config.unknown_items == "drop":
        if kept.is_empty():
            raise DataError(
                f"{tables.interactions_file}: expected ids of {tables.items_file} in column "
                f"{Columns.ITEM}; found that all {events.height} events name items that are not "
                f"there, such as {events[Columns.ITEM][0]!r}; check that both tables use the "
                "same ids"
            )
        return kept
    unknown = events.filter(~known).sort(ROW)
    first = unknown[Columns.ITEM][0]
    raise bad_rows(
        file=tables.interactions_file,
        column=Columns.ITEM,
        expected=f"ids of {tables.items_file}",
        rows=unknown[ROW].head(3).to_list(),
        values=unknown[Columns.ITEM].head(3).to_list(),
        count=unknown.height,
        advice=f"for the first{Catalogue(items).nearest(first).replace(';', ',', 1)}; correct the "
        "ids, add the items, or leave such events out with --set DatasetConfig.unknown_items=drop",
    )


def _filter_events(
    events: pl.DataFrame, tables: SourceTables, config: DatasetConfig
) -> pl.DataFrame:
    """k-core, then the least a leave-one-out split needs of each user."""
    drops_short = config.short_histories == "drop"
    min_user_events = max(config.min_events, MIN_EVENTS if drops_short else 0)
    kept = k_core(events, min_user_events, config.min_events)
    if kept.is_empty():
        raise DataError(
            f"{tables.interactions_file}: expected events to be left; found none of "
            f"{events.height} after dropping users below {min_user_events} and items below "
            f"{config.min_events} events; add data or lower --set DatasetConfig.min_events="
            f"{config.min_events}"
        )
    per_user = kept.group_by(Columns.USER).agg(pl.len(), pl.col(ROW).min()).sort(ROW)
    short = per_user.filter(pl.col("len") < MIN_EVENTS)
    if not short.is_empty():
        few = short.head(3).iter_rows(named=True)
        shown = ", ".join(f"{u[Columns.USER]!r} has {u['len']} (row {u[ROW]})" for u in few)
        more = f" and {short.height - 3} more" if short.height > 3 else ""
        raise DataError(
            f"{tables.interactions_file}, column {Columns.USER}: expected at least {MIN_EVENTS} "
            "events per user, to train, validate and test; found "
            f"{short.height} of {per_user.height} users with fewer ({shown}{more}); add events or "
            "leave these users out with --set DatasetConfig.short_histories=drop"
        )
    return kept


def _filter_items(items: pl.DataFrame, events: pl.DataFrame, config: DatasetConfig) -> Catalogue:
    """With a k-core the catalogue is what it left; without, items need no event."""
    if config.min_events == 0:
        return Catalogue(items)
    return Catalogue(items.filter(pl.col(Columns.ITEM).is_in(events[Columns.ITEM].implode())))


def _with_position(events: pl.DataFrame) -> pl.DataFrame:
    position = pl.int_range(pl.len(), dtype=pl.Int32).over(Columns.USER).alias(Columns.POSITION)
    return events.select(Columns.USER, Columns.ITEM, position)


def _describe(catalogue: Catalogue, interactions: Interactions) -> dict[str, Any]:
    sequences = interactions.sequences
    lengths = length_statistics(sequences.lengths)
    num_seen = pl.Series(sequences.items).n_unique()
    return {
        "num_users": sequences.num_users,
        "num_items": catalogue.num_items,
        "num_events": int(sequences.items.size),
        "items_without_events": catalogue.num_items - num_seen,
        "items_without_categories": catalogue.frame[Columns.CATEGORIES].null_count(),
        "repeated_events": count_repeats(sequences),
        **{f"sequence_length_{name}": value for name, value in lengths.items()},
    }


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"{path}: expected a readable Parquet file; found: {reason}; run `hidvae prepare` again"
        ) from error
