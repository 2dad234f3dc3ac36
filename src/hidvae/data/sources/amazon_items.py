"""From the metadata of Amazon Reviews to the items table: one path, clean values, no inventions.

**One path per item.** Amazon files an item under several category paths. Considered are those that
start at the dataset's department (such as Beauty), or all where the item has none there. From the
root down, the label is taken that most items of the catalogue have at this place, and a path that
goes on is preferred to one that ends; if two paths are still level, the one first in the alphabet
wins. So items with the same paths get the same one, in whatever order they are listed.
All paths are kept in ``all_category_paths``.

**Missing values** stay null: no "nan", no "Unknown", no words of the title as categories.
"""

from __future__ import annotations

import polars as pl

from hidvae.data.schema import Columns
from hidvae.data.text import clean_text

ALL_PATHS = "all_category_paths"
METADATA_SCHEMA: dict[str, pl.DataType] = {
    Columns.ITEM: pl.String(),
    Columns.TITLE: pl.String(),
    Columns.BRAND: pl.String(),
    Columns.PRICE: pl.String(),
    Columns.DESCRIPTION: pl.String(),
    Columns.IMAGE: pl.String(),
    ALL_PATHS: pl.List(pl.List(pl.String())),
}
"""What every form's metadata is read into, one row per line; further columns may follow."""

_PLACEHOLDERS = ("", "nan", "none", "null", "n/a", "unknown")
_NUMBER = r"([0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)"
_ROW, _PATH, _LABEL = "row", "path", "label"


def build_items(
    item_ids: pl.Series, metadata: pl.DataFrame, department: str | None
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The items table of a log, and what was mended on the way.

    Args:
        item_ids: (N,) distinct items of the log; the table has them in this order.
        metadata: ``METADATA_SCHEMA``, one row per line of the file; of an item's lines the first
            counts. Rows of other items are ignored.
        department: Root of the paths to prefer, None for no preference.

    Returns:
        (N rows) item_id, categories, title, brand, price (Float64), description, image,
        all_category_paths and further columns of ``metadata``; null where unknown.
    """
    known = metadata.filter(pl.col(Columns.ITEM).is_in(item_ids.implode()))
    first = known.unique(Columns.ITEM, keep="first", maintain_order=True)
    items = item_ids.alias(Columns.ITEM).to_frame()
    items = items.join(first, on=Columns.ITEM, how="left", maintain_order="left")
    paths = clean_paths(items[ALL_PATHS])
    items = items.with_columns(
        choose_paths(paths, department).alias(Columns.CATEGORIES),
        paths.alias(ALL_PATHS),
        _known(Columns.TITLE, Columns.BRAND, Columns.DESCRIPTION, Columns.IMAGE),
        parse_price(pl.col(Columns.PRICE)),
    )
    leading = [Columns.ITEM, Columns.CATEGORIES]
    counts = {
        "duplicate_metadata_lines": known.height - first.height,
        "items_without_metadata": item_ids.len() - first.height,
    }
    return items.select(*leading, pl.exclude(leading)), counts


def parse_price(price: pl.Expr) -> pl.Expr:
    """The first number of a price: "$1,299.00" is 1299.0, "from 3.99" 3.99, "—" null."""
    return price.str.extract(_NUMBER).str.replace_all(",", "").cast(pl.Float64)


def clean_paths(paths: pl.Series) -> pl.Series:
    """Category paths with entities decoded, cut at the first blank label, each once per item.

    Args:
        paths: (N,) List[List[String]].

    Returns:
        (N,) of the same type; null where an item has no path.
    """
    long = pl.DataFrame({_PATH: paths}).with_row_index(_ROW).explode(_PATH).with_row_index("key")
    labels = long.select("key", pl.col(_PATH).alias(_LABEL)).explode(_LABEL)
    labels = labels.with_columns(clean_text(labels[_LABEL]))
    labels = labels.filter((pl.col(_LABEL).is_null().cum_sum() == 0).over("key"))
    cleaned = labels.group_by("key", maintain_order=True).agg(pl.col(_LABEL).alias(_PATH))
    distinct = long.select("key", _ROW).join(cleaned, on="key", maintain_order="left")  # inner
    distinct = distinct.unique([_ROW, _PATH], keep="first", maintain_order=True)
    return _per_row(distinct.group_by(_ROW, maintain_order=True).agg(_PATH), paths.len())


def choose_paths(paths: pl.Series, department: str | None) -> pl.Series:
    """One path per item by the rule of this module.

    Args:
        paths: (N,) clean paths of each item.
        department: Root of the paths to prefer, None for no preference.

    Returns:
        (N,) List[String], null where an item has no path.
    """
    long = pl.DataFrame({_PATH: paths}).with_row_index(_ROW).drop_nulls().explode(_PATH)
    is_home = pl.col(_PATH).list.first() == pl.lit(department, dtype=pl.String)
    long = long.filter(is_home.fill_null(value=False) | ~is_home.any().over(_ROW))
    popularity = []
    deepest = long.select(pl.col(_PATH).list.len().max().fill_null(0)).item()
    for depth in range(deepest):
        prefix = pl.when(pl.col(_PATH).list.len() > depth).then(pl.col(_PATH).list.head(depth + 1))
        long = long.with_columns(prefix.list.join("\x1f").alias("prefix"))
        sizes = long.unique([_ROW, "prefix"]).group_by("prefix").len(name=f"items_{depth}")
        long = long.join(sizes.drop_nulls(), on="prefix", how="left", maintain_order="left")
        popularity.append(f"items_{depth}")
    long = long.with_columns(pl.col(popularity).fill_null(0), pl.col(_PATH).list.join("\x1f"))
    order = [_ROW, *popularity, _PATH]
    best = long.sort(order, descending=[name in popularity for name in order])
    best = best.unique(_ROW, keep="first", maintain_order=True)
    return _per_row(best.select(_ROW, pl.col(_PATH).str.split("\x1f")), paths.len())


def _known(*columns: str) -> pl.Expr:
    """Text stripped; null where a placeholder stands for a missing value."""
    text = pl.col(columns).str.strip_chars()
    return pl.when(~text.str.to_lowercase().is_in(_PLACEHOLDERS)).then(text)


def _per_row(frame: pl.DataFrame, num_rows: int) -> pl.Series:
    """Column ``path`` of (row, path) as one value per row 0…N−1, null for absent rows."""
    rows = pl.DataFrame({_ROW: pl.int_range(num_rows, dtype=pl.get_index_type(), eager=True)})
    return rows.join(frame, on=_ROW, how="left", maintain_order="left")[_PATH]
