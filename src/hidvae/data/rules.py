"""What breaks the rules between the tables, as errors: ids that match, histories long enough.

``prepare`` raises them, ``hidvae.data.check`` lists them.
"""

from __future__ import annotations

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.catalogue import Catalogue
from hidvae.data.schema import Columns
from hidvae.data.split import MIN_EVENTS
from hidvae.data.tables import MAX_SHOWN, BadRows, SourceTables, show_value
from hidvae.errors import DataError

COUNT, ROW = "len", "row"
_SHOWN_USERS = 3


def unknown_items(
    first: pl.DataFrame, count: int, num_events: int, items: pl.DataFrame, tables: SourceTables
) -> DataError:
    """Events name items that the catalogue lacks.

    Args:
        first: The first such events: ``item_id`` and ``row``.
        count: How many there are.
        num_events: Events of the log.
        items: The checked items.
        tables: Where both came from.
    """
    if count == num_events:
        return DataError(
            f"{tables.interactions_file}: expected ids of {tables.items_file} in column "
            f"{Columns.ITEM}; found that all {num_events} events name items that are not there, "
            f"such as {show_value(first[Columns.ITEM][0])}; check that both tables use the same ids"
        )
    near = Catalogue(items).nearest(first[Columns.ITEM][0]).replace(";", ",", 1)
    return BadRows(
        file=tables.interactions_file,
        column=Columns.ITEM,
        expected=f"ids of {tables.items_file}",
        rows=first[ROW].head(MAX_SHOWN).to_list(),
        values=first[Columns.ITEM].head(MAX_SHOWN).to_list(),
        count=count,
        advice=f"for the first{near}; correct the ids, add the items, or leave such events out "
        "with --set DatasetConfig.unknown_items=drop",
    )


def short_histories(users: pl.DataFrame, num_users: int, tables: SourceTables) -> BadRows:
    """Users have too few events to be split leave-one-out.

    Args:
        users: These users: ``user_id``, ``len`` (their events) and ``row`` (of the first of them).
        num_users: Users of the log.
        tables: Where the log came from.
    """
    shown = ", ".join(
        f"{show_value(user)} has {count} (row {row})"
        for user, count, row in users.select(Columns.USER, COUNT, ROW).head(_SHOWN_USERS).rows()
    )
    more = f" and {users.height - _SHOWN_USERS} more" if users.height > _SHOWN_USERS else ""
    return BadRows(
        file=tables.interactions_file,
        column=Columns.USER,
        expected=f"at least {MIN_EVENTS} events per user, to train, validate and test",
        rows=users[ROW].head(MAX_SHOWN).to_list(),
        values=users[Columns.USER].head(MAX_SHOWN).to_list(),
        count=users.height,
        found=f"{users.height} of {num_users} users with fewer ({shown}{more})",
        advice="add events or leave these users out with --set DatasetConfig.short_histories=drop",
    )


def nothing_left(
    num_events: int, min_user_events: int, tables: SourceTables, config: DatasetConfig
) -> DataError:
    """The k-core dropped every event.

    Args:
        num_events: Events before.
        min_user_events: Fewest events a user had to have.
        tables: Where the log came from.
        config: Holds the fewest events of an item.
    """
    return DataError(
        f"{tables.interactions_file}: expected events to be left; found none of {num_events} "
        f"after dropping users below {min_user_events} and items below {config.min_events} "
        f"events; add data or lower --set DatasetConfig.min_events={config.min_events}"
    )
