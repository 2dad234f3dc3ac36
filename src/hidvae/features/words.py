"""What items' texts share word by word: sparse TF-IDF vectors.

They know what a sentence model blurs: a brand, a product line, a shade, an author's number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy import sparse

NO_SPACES = r"\p{Han}\p{Hiragana}\p{Katakana}ー"
"""Letters of the scripts that put no spaces between words, for a regular expression's class."""
_TOKEN = rf"[{NO_SPACES}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{NO_SPACES}]]+"
_LEAST_ITEMS = 2
_LARGEST_SHARE = 0.2
"""A term of one item links nothing, and one of more than a fifth of the items says nothing."""


def word_vectors(texts: Sequence[str]) -> sparse.csr_array:
    """TF-IDF of words and of pairs of neighbouring words.

    A word is a run of letters and digits, lower-cased, or a single Chinese or Japanese character.
    With n occurrences in a text, and in d of the N texts, a term weighs (1 + log n) *
    (1 + log((1 + N) / (1 + d))); terms of one text and of more than a fifth of them are left out.

    Args:
        texts: N.

    Returns:
        (N, V) float32, rows of length 1, in the terms' alphabetical order; a text without a term
        that counts has an empty row.
    """
    spoken = pl.Series(texts, dtype=pl.String).str.to_lowercase().str.extract_all(_TOKEN)
    words = pl.DataFrame({"item": np.arange(len(texts)), "term": spoken}).explode("term")
    pairs = words.with_columns(
        pl.concat_str("term", pl.col("term").shift(-1).over("item"), separator=" ")
    )
    counts = (
        pl.concat([words, pairs])
        .drop_nulls("term")
        .group_by("item", "term")
        .len("n")
        .with_columns(d=pl.len().over("term"))
        .filter(
            pl.col("d") >= _LEAST_ITEMS,
            pl.col("d") <= max(_LEAST_ITEMS, _LARGEST_SHARE * len(texts)),
        )
        .with_columns(column=pl.col("term").rank("dense") - 1)
        .sort("item", "column")
    )
    n, d = counts["n"].to_numpy(), counts["d"].to_numpy()
    weights = (1 + np.log(n)) * (1 + np.log((1 + len(texts)) / (1 + d)))
    item, column = counts["item"].to_numpy(), counts["column"].to_numpy().astype(np.int64)
    norms = np.sqrt(np.bincount(item, weights=weights**2, minlength=len(texts)))
    weights = (weights / norms[item]).astype(np.float32)
    shape = (len(texts), int(column.max(initial=-1)) + 1)
    return sparse.csr_array((weights, (item, column)), shape=shape)
