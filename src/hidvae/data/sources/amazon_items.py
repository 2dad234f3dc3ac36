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

from hidvae.data.categories import choose_paths, clean_paths
from hidvae.data.schema import Columns

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


def filled(column: str) -> pl.Expr:
    """Text, null where blank."""
    text = pl.col(column).str.strip_chars()
    return pl.when(text != "").then(text)


def joined(column: str) -> pl.Expr:
    """Paragraphs as one text, null if there is none."""
    text = pl.col(column).list.join(" ", ignore_nulls=True).str.strip_chars()
    return pl.when(text != "").then(text)


def parse_price(price: pl.Expr) -> pl.Expr:
    """The first number of a price: "$1,299.00" is 1299.0, "from 3.99" 3.99, "—" null."""
    return price.str.extract(_NUMBER).str.replace_all(",", "").cast(pl.Float64)


def _known(*columns: str) -> pl.Expr:
    """Text stripped; null where a placeholder stands for a missing value."""
    text = pl.col(columns).str.strip_chars()
    return pl.when(~text.str.to_lowercase().is_in(_PLACEHOLDERS)).then(text)
