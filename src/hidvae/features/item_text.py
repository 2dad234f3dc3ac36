"""The text of an item, from the columns of the catalogue.

``"Title: Lipstick; Brand: Acme; Price: 3.5"``: one ``Label: value`` per column of
``EmbeddingConfig.text_columns`` that the table has and the item fills. The category path is never
part of it, so that the tokenizer's tag accuracy is not read off its input.

An item that fills none of these columns is given its ``text`` column, less any
``Categories: …;`` in it; where the table has none of the columns this holds for every item.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import polars as pl

from hidvae.data.catalogue import Catalogue
from hidvae.data.schema import Columns
from hidvae.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

_CATEGORY_SEGMENT = r"(?i)\bcategor(?:y|ies)\s*:\s*(?:\[[^\]]*\]|[^;]*)\s*;?"


class UselessTexts(DataError):
    """Texts that tell no item from another.

    Attributes:
        found: What there is instead, such as "no text on any of 3 items".
    """

    def __init__(self, message: str, found: str) -> None:
        super().__init__(message)
        self.found = found


def item_texts(
    catalogue: Catalogue,
    text_columns: Sequence[str],
    *,
    allow_none: bool = False,
    allow_equal: bool = False,
) -> list[str]:
    """One text per item, in catalogue order; "" for an item that has nothing to say.

    Args:
        catalogue: N items.
        text_columns: Columns in the order in which they are spoken; absent ones are passed over.
        allow_none: Let no item have anything to say.
        allow_equal: Let all items say the same, as a few new ones may.

    Raises:
        ConfigError: If ``text_columns`` names the category path.
        UselessTexts: If there is no usable column, no item has a text, or all have the same.
    """
    if Columns.CATEGORIES in text_columns:
        raise ConfigError(
            f"EmbeddingConfig.text_columns: expected columns other than {Columns.CATEGORIES!r}, "
            "because tag accuracy would be measured on its own input; remove it (your own vectors "
            "go into EmbeddingConfig.embeddings_file)"
        )
    frame = catalogue.frame
    present = [name for name in text_columns if name in frame.columns]
    if not has_text(catalogue, text_columns):
        raise UselessTexts(
            f"items: expected one of the text columns {', '.join(text_columns)} or "
            f"{Columns.TEXT}; found {', '.join(frame.columns)}; set EmbeddingConfig.text_columns",
            f"no column of texts among {', '.join(frame.columns)}",
        )
    if present:
        spoken = frame.select(_spoken(present, frame.schema)).to_series()
    else:
        spoken = pl.Series([""] * frame.height, dtype=pl.String)
    if Columns.TEXT in frame.columns:
        num_silent = int((spoken == "").sum())
        if num_silent:
            logger.info("%d of %d items use their text column", num_silent, len(spoken))
        own_text = frame.select(_plain(Columns.TEXT, frame.schema, cut=True)).to_series()
        spoken = pl.select(pl.when(spoken == "").then(own_text).otherwise(spoken)).to_series()
    _check_texts(spoken, catalogue, present, allow_none, allow_equal)
    return spoken.to_list()


def has_text(catalogue: Catalogue, text_columns: Sequence[str]) -> bool:
    """Whether the table has one of the columns, or the column ``text``."""
    return not {*text_columns, Columns.TEXT}.isdisjoint(catalogue.frame.columns)


def _check_texts(
    texts: pl.Series,
    catalogue: Catalogue,
    present: Sequence[str],
    allow_none: bool,
    allow_equal: bool,
) -> None:
    columns = ", ".join([*present, Columns.TEXT])
    if len(texts) and (texts == "").all():
        if allow_none:
            return
        raise UselessTexts(
            f"items: expected texts in one of {columns}; found none in {len(texts)} items; fill "
            "one, set EmbeddingConfig.text_columns, or EmbeddingConfig.text_encoder=none",
            f"no text on any of {len(texts):,} items (columns {columns})",
        )
    if len(texts) > 1 and texts.n_unique() == 1 and not allow_equal:
        raise UselessTexts(
            f"items: expected texts that differ between items; found {texts[0][:60]!r} for all "
            f"{len(texts)} items (columns {columns}); set EmbeddingConfig.text_columns, or "
            "EmbeddingConfig.text_encoder=none",
            f"the same text on all of {len(texts):,} items, {texts[0][:60]!r}",
        )


def _spoken(columns: Sequence[str], schema: pl.Schema) -> pl.Expr:
    parts = []
    for name in columns:
        value = _plain(name, schema, cut=name == Columns.TEXT)
        label = "" if name == Columns.TEXT else f"{name.replace('_', ' ').capitalize()}: "
        parts.append(pl.when(value != "").then(pl.lit(label) + value))
    return pl.concat_str(parts, separator="; ", ignore_nulls=True)


def _plain(name: str, schema: pl.Schema, cut: bool) -> pl.Expr:
    """A column as one-line text; "" for null, blank and NaN; categories cut out if asked."""
    column, dtype = pl.col(name), schema[name]
    if isinstance(dtype, pl.List):
        text = column.list.eval(pl.element().cast(pl.String)).list.join(", ", ignore_nulls=True)
    elif dtype.is_float():
        text = column.fill_nan(None).cast(pl.String)
    else:
        text = column.cast(pl.String)
    if cut:
        text = text.str.replace_all(_CATEGORY_SEGMENT, "")
    return text.str.replace_all(r"\s+", " ").str.strip_chars(" ").fill_null("")
