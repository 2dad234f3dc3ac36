"""Names of clusters: the words that tell a cluster from its siblings, "hair, oil, conditioner".

A word is a run of letters, and of digits after the first, of at least 3 bytes ("of" and "oz" are
none). Scripts that put no spaces between words (Chinese, Japanese) give every two neighbouring
characters instead. Words are ranked by class-based TF-IDF among the children of one parent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from hidvae.data.catalogue import Catalogue
from hidvae.data.schema import Columns
from hidvae.features.tags.vocabulary import PATH_SEPARATOR
from hidvae.features.tfidf import NO_SPACES

_WORDS_PER_NAME = 3
_WORDS_TO_CHOOSE_FROM = 12
_LEAST_LIFT = 2.0
"""A telling word is this many times as frequent in a cluster as among its siblings."""
_LEAST_ITEMS = 2
"""Items of a cluster that have a word which names it."""
_SHORTEST = 3
"""Bytes: two letters of most scripts have more, "of" and "oz" have not."""
_ITEMS_PER_CLUSTER = 1000
"""Items of a cluster that are read for its name."""
_WORD = rf"[\p{{L}}--[{NO_SPACES}]][[\p{{L}}\p{{M}}\p{{N}}]--[{NO_SPACES}]]+(?:['’-]\p{{L}}+)*"


def words_to_name_by(catalogue: Catalogue, columns: Sequence[str]) -> pl.Series | None:
    """What items say, without the labels and numbers of ``item_texts``; None without any text.

    Args:
        catalogue: N items.
        columns: Text columns; the column ``text`` speaks where the table has none of them.
    """
    schema = catalogue.frame.schema
    lists = (pl.List(pl.String), pl.String)
    present = [name for name in columns if schema.get(name) in lists]
    if not present and schema.get(Columns.TEXT) == pl.String:
        present = [Columns.TEXT]
    if not present:
        return None
    spoken = [
        pl.col(name).list.join(" ", ignore_nulls=True) if schema[name] != pl.String else name
        for name in present
    ]
    return catalogue.frame.select(pl.concat_str(spoken, separator=" . ", ignore_nulls=True))[
        present[0]
    ]


def name_by_words(
    ids: np.ndarray, parents: Sequence[np.ndarray], texts: pl.Series | None, *, seed: int
) -> tuple[list[list[str]], list[list[str]]]:
    """Names and paths of all clusters, by level; the names of siblings differ.

    Args:
        ids: (N, L), -1 where an item is in no cluster.
        parents: Per level (C_l,), -1 at level 0.
        texts: (N,) words of the items; None, or a cluster without a telling word, gives
            "Cluster 3.1", the second child of the fourth cluster.
        seed: Picks the items that are read where there are very many.
    """
    names: list[list[str]] = []
    paths: list[list[str]] = []
    numbers: list[list[str]] = []
    for level, parent_ids in enumerate(parents):
        telling = _telling_words(ids[:, level], parent_ids, texts, seed)
        level_names: list[str] = []
        level_numbers: list[str] = []
        siblings: dict[int, list[str]] = {}
        for tag_id, parent in enumerate(parent_ids.tolist()):
            family = siblings.setdefault(parent, [])
            number = f"{numbers[-1][parent]}.{len(family)}" if level else str(len(family))
            name = _first_free(telling[tag_id], family) or f"Cluster {number}"
            family.append(name)
            level_names.append(name)
            level_numbers.append(number)
        above = [paths[-1][parent] + PATH_SEPARATOR if level else "" for parent in parent_ids]
        paths.append([start + name for start, name in zip(above, level_names, strict=True)])
        names.append(level_names)
        numbers.append(level_numbers)
    return names, paths


def _first_free(words: list[str], taken: list[str]) -> str | None:
    """The best words; a sibling with the same gets further words. None if there are none."""
    for num_words in range(min(_WORDS_PER_NAME, len(words)), len(words) + 1):
        name = ", ".join(words[:num_words])
        if name and name not in taken:
            return name
    return None


def _telling_words(
    tag_ids: np.ndarray, parent_ids: np.ndarray, texts: pl.Series | None, seed: int
) -> list[list[str]]:
    """Words of each cluster of one level, the most telling first.

    f_w is the number of the cluster's items with word w and f the sum over its words; over all
    siblings F_w is the sum of f_w, and A the mean of f. The score is f_w / f * log(1 + (A - F_w +
    0.5) / (F_w + 0.5)).

    Source: Grootendorst, BERTopic (arXiv:2203.05794), c-TF-IDF, with the logarithm of the library's
    option bm25_weighting. Differs in that a word counts once per item, and names a cluster only if
    it is ``_LEAST_LIFT`` times as frequent there as among the siblings.
    """
    telling: list[list[str]] = [[] for _ in parent_ids]
    if texts is None:
        return telling
    items = pl.DataFrame({"item": np.arange(len(tag_ids)), "tag": tag_ids}).filter(
        pl.col("tag") >= 0
    )
    items = (
        items.sample(fraction=1.0, shuffle=True, seed=seed).group_by("tag").head(_ITEMS_PER_CLUSTER)
    )
    parent_of = pl.DataFrame({"tag": np.arange(len(parent_ids)), "parent": parent_ids})
    items = items.join(parent_of, on="tag")
    items = items.with_columns(read=pl.len().over("tag"), read_of_family=pl.len().over("parent"))
    pairs = items.with_columns(text=texts.gather(items["item"]))
    words = _words(pairs)
    ranked = _scores(words).sort("tag", "score", "word", descending=[False, True, False])
    best = ranked.group_by("tag", maintain_order=True).agg(
        pl.col("word").head(_WORDS_TO_CHOOSE_FROM)
    )
    for tag_id, found in best.iter_rows():
        telling[tag_id] = found
    return telling


def _scores(words: pl.DataFrame) -> pl.DataFrame:
    """One row per cluster and telling word: tag, word, score."""
    counts = words.group_by("tag", "parent", "word").agg(
        pl.len().alias("f"), pl.col("read", "read_of_family").first()
    )
    mean_sizes = counts.group_by("parent").agg(A=pl.col("f").sum() / pl.col("tag").n_unique())
    counts = counts.join(mean_sizes, on="parent").with_columns(
        size=pl.col("f").sum().over("tag"), F=pl.col("f").sum().over("parent", "word")
    )
    f, of_siblings = pl.col("f"), pl.col("F") - pl.col("f")
    read, read_of_siblings = pl.col("read"), pl.col("read_of_family") - pl.col("read")
    is_telling = f * read_of_siblings >= _LEAST_LIFT * of_siblings * read
    rarity = (pl.col("A") - pl.col("F") + 0.5) / (pl.col("F") + 0.5)
    return counts.filter(is_telling & (f >= _LEAST_ITEMS)).select(
        "tag", "word", score=f / pl.col("size") * rarity.log1p()
    )


def _words(items: pl.DataFrame) -> pl.DataFrame:
    """The distinct words of each item's ``text``: a column ``word``, beside those of the item."""
    text = pl.col("text").str.to_lowercase()
    others = pl.exclude("text")
    words = items.select(others, word=text.str.extract_all(_WORD)).explode("word")
    words = words.filter(pl.col("word").str.len_bytes() >= _SHORTEST)
    runs = items.select(others, run=text.str.extract_all(rf"[{NO_SPACES}]{{2,}}")).explode("run")
    runs = runs.drop_nulls("run").with_row_index("number")
    letters = runs.with_columns(word=pl.col("run").str.split("")).drop("run").explode("word")
    pairs = letters.with_columns(
        word=pl.col("word") + pl.col("word").shift(-1).over("number")
    ).drop("number")
    return pl.concat([words, pairs]).drop_nulls("word").unique()
