"""Category paths of public datasets: from several columns, and from labels without an order."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl


def path_of(columns: Sequence[str], missing: Sequence[str] = ("",)) -> pl.Expr:
    """One path per row from columns, the first the root; it ends before the first missing label.

    Args:
        columns: Text columns.
        missing: What stands for no label, besides null.

    Returns:
        List[String], null where the root is missing.
    """
    is_known = [~pl.col(column).str.strip_chars().is_in(missing) for column in columns]
    is_reached = [
        pl.all_horizontal(is_known[: depth + 1]).fill_null(value=False)
        for depth in range(len(columns))
    ]
    depth = pl.sum_horizontal(is_reached)
    return pl.when(depth > 0).then(pl.concat_list(columns).list.head(depth))


def most_common_first(sets: pl.Series) -> pl.Series:
    """Each row's labels as a path: the one that most rows have first, ties by name.

    >>> most_common_first(pl.Series("genres", [["Comedy", "Drama"], ["Drama"], []])).to_list()
    [['Drama', 'Comedy'], ['Drama'], None]
    """
    row = pl.int_range(pl.len())
    labels = pl.DataFrame({"label": sets}).with_columns(row=row).explode("label").drop_nulls()
    labels = labels.with_columns(count=pl.len().over("label"))
    paths = (
        labels.sort("row", "count", "label", descending=[False, True, False])
        .group_by("row", maintain_order=True)
        .agg("label")
    )
    rows = pl.DataFrame({"row": range(sets.len())}, schema={"row": pl.Int64})
    return rows.join(paths, on="row", how="left", maintain_order="left")["label"]
