"""What breaks the rules between the tables, as errors: ids that match, events that are left.

``prepare`` raises them, ``hidvae.data.check`` lists them.
"""

from __future__ import annotations

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.catalogue import Catalogue
from hidvae.data.schema import Columns
from hidvae.data.tables import SourceTables, show_value
from hidvae.errors import DataError

ROW = "row"


def unknown_items(
    first: pl.DataFrame, count: int, num_events: int, items: pl.DataFrame, tables: SourceTables
) -> DataError | None:
    """Most events name items that the catalogue lacks; None if no more than half of them do.

    A few are left out, but most are a sign of ids that were not written alike.

    Args:
        first: The first such events: ``item_id`` and ``row``.
        count: How many there are.
        num_events: Events of the log.
        items: The checked items.
        tables: Where both came from.
    """
    if 2 * count <= num_events:
        return None
    item, row = first[Columns.ITEM][0], first[ROW][0]
    near = Catalogue(items).nearest(item).replace(";", ",", 1)
    return DataError(
        f"{tables.interactions_file}: expected ids of {tables.items_file} in column "
        f"{Columns.ITEM}; found items that are not there in {count} of {num_events} events, such "
        f"as {show_value(item)} (row {row}){near}; write the ids alike in both tables, or add the "
        "items"
    )


def nothing_left(
    num_events: int, min_user_events: int, tables: SourceTables, config: DatasetConfig
) -> DataError:
    """Every user or item has too few events.

    Args:
        num_events: Events before.
        min_user_events: Fewest events a user had to have.
        tables: Where the log came from.
        config: Holds the fewest events of an item.
    """
    lower = f" or lower --set DatasetConfig.min_events={config.min_events}"
    return DataError(
        f"{tables.interactions_file}: expected events to be left; found none of {num_events} "
        f"after dropping users below {min_user_events} and items below {config.min_events} "
        f"events; add data{lower if config.min_events else ''}"
    )
