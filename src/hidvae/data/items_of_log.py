"""Items made from a log that has no table of them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from hidvae.data.ids import NO_ID_WORDS, without_exponent
from hidvae.data.notes import Notes, count_of
from hidvae.data.schema import Columns
from hidvae.data.tables import reading, require_columns


def items_of_log(
    log: pl.LazyFrame, file: str, columns: Sequence[str], notes: Notes
) -> pl.DataFrame:
    """The items that a log names, by first appearance.

    Args:
        log: Under our column names.
        file: Where it came from, for messages.
        columns: What to take along, as far as it is there: of each item the last known value.
        notes: Told.

    Raises:
        DataError: If the log lacks a column or cannot be read.
    """
    schema = log.collect_schema()
    require_columns(pl.DataFrame(schema=schema), [Columns.USER, Columns.ITEM], file)
    ids, present = pl.col(Columns.ITEM), [name for name in columns if name in schema]
    if schema[Columns.ITEM] == pl.String:
        ids = ids.str.strip_chars()
        ids = pl.when((ids != "") & ~ids.str.to_lowercase().is_in(NO_ID_WORDS)).then(ids)
    known = [
        pl.col(name).replace("", None) if schema[name] == pl.String else pl.col(name)
        for name in present
    ]
    rows = log.select(ids, *known).filter(pl.col(Columns.ITEM).is_not_null())
    with reading(file):
        if present:
            last = rows.group_by(Columns.ITEM, maintain_order=True).agg(
                pl.col(name).drop_nulls().last() for name in present
            )
        else:
            last = rows.unique(maintain_order=True)
        items = last.collect(engine="streaming")
    if schema[Columns.ITEM] == pl.String:  # the few distinct ids, not those of all rows
        items = items.with_columns(without_exponent(pl.col(Columns.ITEM)))
        if items[Columns.ITEM].is_duplicated().any():
            last_known = pl.all().drop_nulls().last()
            items = items.group_by(Columns.ITEM, maintain_order=True).agg(last_known)
    what = f"with their last known {', '.join(present)}" if present else "with ids only"
    notes.decide(f"{file}: no items table, so its {count_of(items.height, 'item')} {what}")
    return items
