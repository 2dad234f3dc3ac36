"""A log as numbers: read in batches, checked, ordered and filtered without its texts.

Five numbers an event instead of two texts are what lets a log of 50 million events through a
laptop's memory. U users, N items, E events.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hidvae.config import DatasetConfig
from hidvae.data.catalogue import Catalogue
from hidvae.data.ids import find_spelling, join_spellings
from hidvae.data.notes import MAX_SHOWN, BadRows, Notes, count_of, show_value, where_is
from hidvae.data.schema import ROW, Columns, check_events, find_log_form, place_of
from hidvae.data.tables import SourceTables, read_batches
from hidvae.data.times import say_times
from hidvae.errors import DataError

MIN_KNOWN_SHARE = 0.05
"""Smallest share of the events whose items must be there: fewer are a sign of ids that were not
written alike, and the few that match may do so by chance."""
MIN_SIZE = 2
"""Fewest users, and items, among which there is anything to choose."""
MIN_SORTED = 5
"""Fewest items, of two events on average, that show how a log without times is sorted."""
_ROWS_PER_BATCH = 1_000_000
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


def read_events(
    tables: SourceTables, items: pl.DataFrame, notes: Notes, config: DatasetConfig | None = None
) -> tuple[Events, LogSize]:
    """Read and check a log batch by batch; rows that cannot be used are left out.

    Args:
        tables: The raw log, and where it came from.
        items: The checked items; row i is item_index i.
        notes: Told of what is left out and what is wrong.
        config: Says how times are written and when ids are the same.

    Raises:
        ConfigError: ``DatasetConfig.time_format`` is none.
        DataError: The log breaks its contract, or hardly any of its items are there.
    """
    file, config = tables.interactions_file, config or DatasetConfig()
    form = find_log_form(tables.interactions, file, config.time_format, notes)
    if Columns.ITEM in items.columns:
        index = items.select(Columns.ITEM, item=pl.int_range(pl.len(), dtype=pl.Int32))
    if config.match_ids == "loose" and not notes.problems:
        index = _with_spellings(index, tables, notes, Columns.ITEM in form.drop_zero)
    users = pl.DataFrame(schema={Columns.USER: pl.String, "user": pl.Int32, ROW: pl.Int64})
    columns: dict[str, list[np.ndarray]] = {}
    unknown_ids: list[pl.DataFrame] = []
    unknown = raw = pl.DataFrame()
    num_events, num_usable, num_unknown = 0, 0, 0
    for row, raw in read_batches(tables, _ROWS_PER_BATCH):
        num_events += raw.height
        checked = check_events(raw, file, row, notes, form)
        if notes.problems:  # the log is read for its own faults
            continue
        users = _with_new_users(users, checked)
        numbered = checked.join(index, on=Columns.ITEM, how="left", maintain_order="left").join(
            users.select(Columns.USER, "user"), on=Columns.USER, how="left", maintain_order="left"
        )
        unknown = numbered.filter(pl.col("item").is_null())
        if unknown.height:
            notes.leave_out(
                unknown_items(unknown, items, tables, place_of(raw)),
                f"of items that {tables.items_file} lacks",
            )
            ids = unknown.group_by(Columns.ITEM, maintain_order=True)
            unknown_ids.append(ids.len(name="count"))
        num_usable += checked.height
        num_unknown += unknown.height
        known = numbered.drop_nulls("item").drop(Columns.USER, Columns.ITEM, ROW)
        for name in known.columns:
            columns.setdefault(name, []).append(known[name].to_numpy())
    notes.settle(file, num_events)
    if notes.problems:
        raise notes.problems[0]
    hint = _say_spelling(unknown_ids, items, tables, notes)
    if num_usable - num_unknown < MIN_KNOWN_SHARE * num_usable or num_usable == num_unknown:
        raise ids_do_not_match(num_unknown, num_usable, unknown, items, tables, place_of(raw), hint)
    size = LogSize(num_events=num_events, num_users=users.height, num_unknown=num_unknown)
    # One column after the other, each freed as soon as it is whole: this is the peak of memory.
    whole = {name: np.concatenate(columns.pop(name)) for name in list(columns)}
    order = tuple(whole[name] for name in (Columns.TIMESTAMP, Columns.POSITION) if name in whole)
    if form.times and Columns.TIMESTAMP in whole:
        say_times(whole[Columns.TIMESTAMP], form.times, Columns.TIMESTAMP, file, notes)
    events = Events(whole["user"], whole["item"], order, users.select(Columns.USER, ROW))
    if not order:
        _check_file_order(events, file, notes)
    return events, size


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


def drop_rare(events: Events, tables: SourceTables, min_events: int) -> Events:
    """Drop users and items with fewer than ``min_events`` events.

    Raises:
        DataError: Less than two users or two items are left.
    """
    kept = k_core(events, min_events, min_events)
    if min(np.unique(kept.user).size, np.unique(kept.item).size) < MIN_SIZE:
        raise too_little_left(len(events), kept, tables, min_events)
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


def _with_spellings(
    index: pl.DataFrame, tables: SourceTables, notes: Notes, drop_zero: bool
) -> pl.DataFrame:
    """The numbers of the items, also under the other spellings of the log."""
    files = tables.interactions_file, tables.items_file
    joined = join_spellings(
        tables.interactions, index[Columns.ITEM], files, notes, drop_zero=drop_zero
    )
    if joined:
        notes.use("match_ids")
    others = pl.DataFrame(
        {"other": list(joined), Columns.ITEM: list(joined.values())},
        schema={"other": pl.String, Columns.ITEM: pl.String},
    ).join(index, on=Columns.ITEM)
    return pl.concat([index, others.select(pl.col("other").alias(Columns.ITEM), "item")])


def _say_spelling(
    unknown_ids: list[pl.DataFrame], items: pl.DataFrame, tables: SourceTables, notes: Notes
) -> str:
    """Say which unknown ids are only written in another way; the same for an error, or ""."""
    if not unknown_ids:
        return ""
    unknown = (
        pl.concat(unknown_ids)
        .group_by(Columns.ITEM, maintain_order=True)
        .agg(pl.col("count").sum())
    )
    spelling = find_spelling(unknown, items[Columns.ITEM])
    if spelling is None:
        return ""
    said = f"{tables.interactions_file}, column {Columns.ITEM}: {spelling.said}"
    notes.decide(f"{said} of {tables.items_file}; they are left out", spelling.change)
    return f", {spelling.said}; --set {spelling.change} joins them"


def _check_file_order(events: Events, file: str, notes: Notes) -> None:
    """Refuse a log without times that is sorted by item: every history would be that order.

    Raises:
        DataError: If all events of an item stand together, and those of a user do not.
    """
    num_items, num_users = (np.unique(of).size for of in (events.item, events.user))
    if num_items < MIN_SORTED or len(events) < 2 * num_items:
        return  # too few to tell
    advice = (
        f'name the column of the time in DatasetConfig.column_names ("{Columns.TIMESTAMP}=YOURS"), '
        "or sort the rows by time"
    )
    by_item, by_user = (_num_runs(of) for of in (events.item, events.user))
    if by_item == num_items and by_user > num_users:
        notes.refuse(
            DataError(
                f"{file}: expected a {Columns.TIMESTAMP}, a {Columns.POSITION} or rows in the "
                f"order of time; found rows sorted by item, so that every history would be in "
                f"the order of the items; {advice}"
            )
        )
    is_same = events.user[1:] == events.user[:-1]
    rises = (events.item[1:] >= events.item[:-1])[is_same]
    if by_user == num_users and rises.size and (rises.all() or not rises.any()):
        notes.decide(
            f"{file}: every user's events are sorted by item as the items table is: if that is not "
            f"the order of time, all results are wrong; then {advice}"
        )


def _num_runs(values: NDArray[np.int32]) -> int:
    """How many stretches of equal neighbours there are."""
    return int(np.count_nonzero(values[1:] != values[:-1])) + 1


def _with_new_users(users: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """The users seen so far, and those of one more batch, numbered as they come."""
    new = events.select(Columns.USER, ROW).unique(Columns.USER, keep="first", maintain_order=True)
    new = new.join(users, on=Columns.USER, how="anti", maintain_order="left")
    number = pl.int_range(users.height, users.height + pl.len(), dtype=pl.Int32)
    return pl.concat([users, new.select(Columns.USER, number.alias("user"), ROW)])


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


def unknown_items(
    unknown: pl.DataFrame, items: pl.DataFrame, tables: SourceTables, place: str
) -> BadRows:
    """Events of items that the catalogue lacks.

    Args:
        unknown: Those events: ``item_id`` and ``row``.
        items: The checked items.
        tables: Where both came from.
        place: What a row is named by.
    """
    first = unknown.head(MAX_SHOWN)
    near = Catalogue(items).nearest(first[Columns.ITEM][0]).removeprefix("; ")
    return BadRows(
        file=tables.interactions_file,
        column=Columns.ITEM,
        expected=f"an id of {tables.items_file}",
        rows=first[ROW].to_list(),
        values=first[Columns.ITEM].to_list(),
        count=unknown.height,
        advice=f"{near}; write the ids alike in both tables, or add the items",
        place=place,
        parts=tables.parts.get(tables.interactions_file),
    )


def ids_do_not_match(
    num_unknown: int,
    num_events: int,
    unknown: pl.DataFrame,
    items: pl.DataFrame,
    tables: SourceTables,
    place: str,
    spelling: str = "",
) -> DataError:
    """Hardly any event names an item of the catalogue; the arguments as of ``unknown_items``.

    ``spelling`` says how the ids are written differently, and what to do, if that is it.
    """
    if not num_events:
        return DataError(
            f"{tables.interactions_file}: expected events; found none that can be used; see "
            "`hidvae prepare --check`"
        )
    item, row = unknown[Columns.ITEM][0], unknown[ROW][0]
    where = where_is(row, place, tables.parts.get(tables.interactions_file))
    near = spelling or Catalogue(items).nearest(item).replace(";", ",", 1)
    advice = "write the ids alike in both tables, or add the items"
    return DataError(
        f"{tables.interactions_file}: expected ids of {tables.items_file} in column "
        f"{Columns.ITEM}; found items that are not there in {num_unknown} of {num_events} events, "
        f"such as {show_value(item)} ({where}){near}; {advice}"
    )


def too_little_left(
    num_events: int, kept: Events, tables: SourceTables, min_events: int
) -> DataError:
    """Less than two users or items have events that count."""
    lower = f", or lower --set DatasetConfig.min_events={min_events}" if min_events else ""
    return DataError(
        f"{tables.interactions_file}: expected at least {MIN_SIZE} users and {MIN_SIZE} items with "
        f"events; found {count_of(np.unique(kept.user).size, 'user')} and "
        f"{count_of(np.unique(kept.item).size, 'item')} in {len(kept)} of "
        f"{count_of(num_events, 'event')}; add data{lower}"
    )
