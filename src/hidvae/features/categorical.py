"""Categorical columns as 0/1 features, which the tokenizer reconstructs with cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from hidvae.data.catalogue import Catalogue
from hidvae.errors import ConfigError, DataError


def multi_hot(catalogue: Catalogue, columns: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """One 0/1 feature per value of each column that some items have and others do not.

    Args:
        catalogue: N items.
        columns: Scalar or list columns; nulls are no value. A value on one item only, or on every
            item, makes no feature.

    Returns:
        (N, F) float32, and the F names ``column=value``, by column and then sorted by value.

    Raises:
        ConfigError: If a column does not exist.
        DataError: If a column has no value that makes a feature.
    """
    blocks, names = [np.zeros((catalogue.num_items, 0), np.float32)], list[str]()
    for column in columns:
        block, values = _column_features(catalogue, column)
        blocks.append(block)
        names += [f"{column}={value}" for value in values]
    return np.concatenate(blocks, axis=1), names


def _column_features(catalogue: Catalogue, column: str) -> tuple[np.ndarray, list[str]]:
    frame, num_items = catalogue.frame, catalogue.num_items
    if column not in frame.columns:
        raise ConfigError(
            f"EmbeddingConfig.categorical_columns: expected columns of the items, which are "
            f"{', '.join(frame.columns)}; found {column!r}; correct or remove it"
        )
    cells = frame.select(item=pl.int_range(pl.len()), value=pl.col(column))
    while isinstance(cells.schema["value"], pl.List):
        cells = cells.explode("value")
    cells = cells.with_columns(pl.col("value").cast(pl.String)).drop_nulls().unique()
    counts = cells.group_by("value").len()
    kept = counts.filter(pl.col("len").is_between(2, num_items - 1)).sort("value")
    if kept.is_empty():
        raise DataError(
            f"items column {column}: expected a value that at least 2 items have and not all; "
            f"found {counts.height} values, none of that kind; remove the column from "
            "EmbeddingConfig.categorical_columns"
        )
    numbered = kept.select("value").with_row_index("feature")
    cells = cells.join(numbered, on="value")
    block = np.zeros((num_items, kept.height), np.float32)
    block[cells["item"].to_numpy(), cells["feature"].to_numpy()] = 1.0
    return block, kept["value"].to_list()
