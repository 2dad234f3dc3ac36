"""What items' texts share word by word: sparse TF-IDF vectors.

They know what a sentence model blurs: a brand, a product line, a shade, an author's number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import sparse

NO_SPACES = r"\p{Han}\p{Hiragana}\p{Katakana}ー"
"""Letters of the scripts that put no spaces between words, for a regular expression's class."""
_TOKEN = rf"[{NO_SPACES}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{NO_SPACES}]]+"
_LEAST_ITEMS = 2
_LARGEST_SHARE = 0.2
"""A term of one item links nothing, and one of more than a fifth of the items says nothing."""


@dataclass(frozen=True)
class TfidfVocabulary:
    """The terms of a catalogue's texts, and how much each says.

    A word is a run of letters and digits, lower-cased, or a single Chinese or Japanese character;
    a term is a word, or two neighbouring ones. With n occurrences in a text, and in d of the N
    texts, a term weighs (1 + log n) * (1 + log((1 + N) / (1 + d))); terms of one text and of more
    than a fifth of them are left out.
    """

    terms: pl.DataFrame
    """``term`` and ``rarity``, 1 + log((1 + N) / (1 + d)), in alphabetical order: V rows."""

    @classmethod
    def learn(cls, texts: Sequence[str]) -> TfidfVocabulary:
        """The terms of N texts that count."""
        d = pl.col("d")
        largest = max(_LEAST_ITEMS, _LARGEST_SHARE * len(texts))
        found = _counts(texts).group_by("term").agg(d=pl.len())
        found = found.filter(d >= _LEAST_ITEMS, d <= largest).sort("term")
        rarity = 1 + np.log((1 + len(texts)) / (1 + found["d"].to_numpy()))
        return cls(found.select("term").with_columns(rarity=pl.Series(rarity)))

    def vectors(self, texts: Sequence[str]) -> sparse.csr_array:
        """TF-IDF of n texts, of this catalogue or not.

        Returns:
            (n, V) float32, rows of length 1; a text without a term that counts has an empty row.
        """
        numbered = self.terms.with_row_index("column")
        found = _counts(texts).join(numbered, on="term").sort("item", "column")
        weights = (1 + np.log(found["n"].to_numpy())) * found["rarity"].to_numpy()
        item, column = found["item"].to_numpy(), found["column"].to_numpy().astype(np.int64)
        norms = np.sqrt(np.bincount(item, weights=weights**2, minlength=len(texts)))
        weights = (weights / norms[item]).astype(np.float32)
        return sparse.csr_array((weights, (item, column)), shape=(len(texts), self.terms.height))


def _counts(texts: Sequence[str]) -> pl.DataFrame:
    """``item``, ``term`` and occurrences ``n`` of every term of n texts."""
    spoken = pl.Series(texts, dtype=pl.String).str.to_lowercase().str.extract_all(_TOKEN)
    words = pl.DataFrame({"item": np.arange(len(texts)), "term": spoken}).explode("term")
    pairs = words.with_columns(
        pl.concat_str("term", pl.col("term").shift(-1).over("item"), separator=" ")
    )
    return pl.concat([words, pairs]).drop_nulls("term").group_by("item", "term").len("n")
