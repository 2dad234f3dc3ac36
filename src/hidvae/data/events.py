"""A log as numbers: read in batches, checked, ordered and filtered without its texts.

Five numbers an event instead of two texts are what lets a log of 50 million events through a
laptop's memory. U users, N items, E events.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hidvae.config import DatasetConfig
from hidvae.data.rules import nothing_left, unknown_items
from hidvae.data.schema import Columns, check_events
from hidvae.data.split import MIN_EVENTS
from hidvae.data.tables import SourceTables, read_batches, show_value

logger = logging.getLogger(__name__)

_ROWS_PER_BATCH = 1_000_000
_SHOWN_ITEMS = 3
TIE_SEED = 0
"""Of the order of tied events: any will do, as long as it is always the same."""


@dataclass(frozen=True, eq=False)
class Events:
    """E events, one entry each in all arrays."""

    user: NDArray[np.int32]
    """(E,) row of ``users``."""
    item: NDArray[np.int32]
    """(E,) item_index."""
    order: tuple[NDArray[np.int64] | NDArray[np.float64], ...]
    """(E,) each: what orders a user's events, most important first; none if only the file does."""
    users: pl.DataFrame
    """(U,) user_id and row, that of the user's first event in the file; by that row."""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Events:
        """Some of the events, by their numbers or a mask; the users stay."""
        order = tuple(values[chosen] for values in self.order)
        return replace(self, user=self.user[chosen], item=self.item[chosen], order=order)


@dataclass(frozen=True)
class LogSize:
    """How large a log was before anything was left out of it."""

    num_events: int
    num_users: int
    num_unknown: int
    """Events whose item is not in the catalogue."""


def read_events(tables: SourceTables, items: pl.DataFrame) -> tuple[Events, LogSize]:
    """Read and check a log batch by batch; events of unknown items are left out.

    Args:
        tables: The raw log, and where it came from.
        items: The checked items; row i is item_index i.

    Raises:
        DataError: The log breaks its contract, or most of its items are not there.
    """
    index = items.select(Columns.ITEM, item=pl.int_range(pl.len(), dtype=pl.Int32))
    users = pl.DataFrame(schema={Columns.USER: pl.String, "user": pl.Int32, "row": pl.Int64})
    columns: dict[str, list[np.ndarray]] = {}
    unknown, num_events = [], 0
    for row, raw in read_batches(tables, _ROWS_PER_BATCH):
        checked = check_events(raw, tables.interactions_file, row)
        checked = checked.with_columns(
            pl.int_range(row, row + pl.len(), dtype=pl.Int64).alias("row")
        )
        users = _with_new_users(users, checked)
        numbered = checked.join(index, on=Columns.ITEM, how="left", maintain_order="left").join(
            users.select(Columns.USER, "user"), on=Columns.USER, how="left", maintain_order="left"
        )
        unknown.append(numbered.filter(pl.col("item").is_null()).select(Columns.ITEM, "row"))
        known = numbered.drop_nulls("item").drop(Columns.USER, Columns.ITEM, "row")
        for name in known.columns:
            columns.setdefault(name, []).append(known[name].to_numpy())
        num_events += raw.height
    bad = pl.concat(unknown)
    if error := unknown_items(bad, bad.height, num_events, items, tables):
        raise error
    if bad.height:
        missing = bad[Columns.ITEM].unique(maintain_order=True)
        more = ", …" if len(missing) > _SHOWN_ITEMS else ""
        logger.warning(
            "%d of %d events are left out, as their items are not in %s: %s",
            bad.height,
            num_events,
            tables.items_file,
            ", ".join(map(show_value, missing.head(_SHOWN_ITEMS))) + more,
        )
    size = LogSize(num_events=num_events, num_users=users.height, num_unknown=bad.height)
    # One column after the other, each freed as soon as it is whole: this is the peak of memory.
    whole = {name: np.concatenate(columns.pop(name)) for name in list(columns)}
    order = tuple(whole[name] for name in (Columns.TIMESTAMP, Columns.POSITION) if name in whole)
    return Events(whole["user"], whole["item"], order, users.select(Columns.USER, "row")), size


def put_in_order(events: Events, items: pl.DataFrame, config: DatasetConfig) -> Events:
    """Each user's events together and in time order, without exact duplicates, ties broken.

    A duplicate repeats user, item and timestamp (and position, where there is one) of an event
    before it; a log without either column has none. Events that tie come in the order of the file,
    or in a random one that depends on ``TIE_SEED``, the user id and the item id only: neither on
    the order of the file, in which items of one day may be sorted by name, nor on the machine.
    """
    if not _is_in_order(events):
        events = events.take(np.lexsort((*reversed(events.order), events.user)))
    tied, group = find_ties(events)
    if not tied.size:
        return events
    num_items = int(events.item.max()) + 1
    _, first = np.unique(group * num_items + events.item[tied], return_index=True)
    is_kept = np.ones(len(events), np.bool_)
    is_kept[tied] = False
    is_kept[tied[first]] = True
    if config.tie_order == "seeded":
        drawn = _draw(events.take(tied), items[Columns.ITEM], TIE_SEED)
        order = np.arange(len(events))
        order[tied] = tied[np.lexsort((drawn, group))]
        return events.take(order[is_kept[order]])
    return events.take(is_kept)


def find_ties(events: Events) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Events of the same user and time, in a log that is in order.

    Returns:
        (T,) numbers of the events that tie with a neighbour, rising, and (T,) which of them tie
        with each other, numbered from 0.
    """
    if not events.order:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    as_before = np.zeros(len(events) + 1, np.bool_)  # entry e: event e ties with event e - 1
    as_before[1:-1] = events.user[1:] == events.user[:-1]
    for values in events.order:
        as_before[1:-1] &= values[1:] == values[:-1]
    tied = np.flatnonzero(as_before[:-1] | as_before[1:])
    return tied, np.cumsum(~as_before[tied]) - 1


def keep_repeated(events: Events, which: str) -> Events:
    """Of a user's events of one item keep all ("keep"), the first or the last."""
    if which == "keep" or not len(events):
        return events
    pair = events.user.astype(np.int64) * (int(events.item.max()) + 1) + events.item
    if which == "first":
        _, kept = np.unique(pair, return_index=True)
    else:
        _, kept = np.unique(pair[::-1], return_index=True)
        kept = len(events) - 1 - kept
    return events.take(np.sort(kept))


def drop_rare(events: Events, tables: SourceTables, config: DatasetConfig) -> Events:
    """Drop what has fewer events than ``min_events``, and users too short to be split.

    Raises:
        DataError: Nothing is left.
    """
    min_user_events = max(config.min_events, MIN_EVENTS)
    kept = k_core(events, min_user_events, config.min_events)
    if not len(kept):
        raise nothing_left(len(events), min_user_events, tables, config)
    num_users = events.users.height
    num_dropped = num_users - int(np.unique(kept.user).size)
    if num_dropped:
        logger.info(
            "%d of %d users are left out, with fewer than %d events",
            num_dropped,
            num_users,
            min_user_events,
        )
    return kept


def k_core(events: Events, min_user_events: int, min_item_events: int) -> Events:
    """Drop events of users and items that have too few, again and again until none has.

    Args:
        events: The log, in any order.
        min_user_events: Fewest events a user may have; 0 or 1 keeps all.
        min_item_events: Fewest events an item may have; 0 or 1 keeps all.

    Returns:
        The largest subset of the events in which every user and item has enough, in order.
    """
    while len(events):
        is_kept = np.bincount(events.user)[events.user] >= min_user_events
        is_kept &= np.bincount(events.item)[events.item] >= min_item_events
        if is_kept.all():
            break
        events = events.take(is_kept)
    return events


def _with_new_users(users: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """The users seen so far, and those of one more batch, numbered as they come."""
    new = events.select(Columns.USER, "row").unique(Columns.USER, keep="first", maintain_order=True)
    new = new.join(users, on=Columns.USER, how="anti", maintain_order="left")
    number = pl.int_range(users.height, users.height + pl.len(), dtype=pl.Int32)
    return pl.concat([users, new.select(Columns.USER, number.alias("user"), "row")])


def _is_in_order(events: Events) -> bool:
    """Whether a stable sort by user and order columns would change nothing."""
    is_after = np.zeros(max(len(events) - 1, 0), np.bool_)
    is_equal = ~is_after
    for values in (events.user, *events.order):
        is_after |= is_equal & (values[1:] > values[:-1])
        is_equal &= values[1:] == values[:-1]
    return bool((is_after | is_equal).all())


def _draw(events: Events, item_ids: pl.Series, seed: int) -> NDArray[np.uint64]:
    """(E,) random numbers; ids enter by their rank, so the order of the files does not count."""
    user_rank, item_rank = (
        ids.rank("ordinal").cast(pl.UInt64).to_numpy()
        for ids in (events.users[Columns.USER], item_ids)
    )
    start = _mixed(np.full(len(events), seed, np.uint64))
    return _mixed(_mixed(start + user_rank[events.user]) + item_rank[events.item])


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection that scatters close numbers: the finaliser of SplitMix64 (Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
