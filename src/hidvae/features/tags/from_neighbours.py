"""Missing tags by the vote of the most similar items that have one."""

from __future__ import annotations

import itertools

import numpy as np

from hidvae.errors import ShapeError
from hidvae.features.tags.vocabulary import TagVocabulary
from hidvae.features.unit_rows import unit_rows

_QUERIES = 1024
_FIRST_CANDIDATES = 512
_CANDIDATES = 16_384
"""Rows of a block of similarities: at most 1024 x 16,384 float32 (64 MiB) at a time."""


def fill_from_neighbours(
    ids: np.ndarray,
    vocabulary: TagVocabulary,
    vectors: np.ndarray,
    *,
    num_neighbours: int = 10,
    min_agreement: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill missing tags level by level, coarse to fine.

    An item without a tag at level l asks the ``num_neighbours`` most similar items that carry one
    there, under the same tag at level l - 1, known or just filled. Each votes with its cosine
    similarity, if that is positive; the tag of most weight wins, the lowest id on a tie. Only known
    tags vote, never filled ones.

    Args:
        ids: (N, L), -1 unknown; not changed in place. An item's tags are known from level 0 on.
        vocabulary: The tags.
        vectors: (N, D), of any length; items with a vector of zeros get nothing.
        num_neighbours: Most items that vote.
        min_agreement: Smallest share of the votes' weight that fills a tag, in [0, 1]; below, the
            tag and those under it stay -1.

    Returns: (N, L) int64 with the tags filled, and (N, L) float32, the share of the votes for each
        filled tag; NaN where nothing was filled.

    Raises:
        ShapeError: If ``ids``, ``vocabulary`` and ``vectors`` disagree.
    """
    if ids.shape != (len(vectors), vocabulary.num_levels):
        raise ShapeError(
            f"ids: expected ({len(vectors)}, {vocabulary.num_levels}) for as many vectors and "
            f"levels of tags; found {ids.shape}; pass the tags of the items that the vectors are of"
        )
    filled = ids.astype(np.int64)
    agreement = np.full(ids.shape, np.nan, np.float32)
    for level, num_tags in enumerate(vocabulary.sizes):
        parents = filled[:, level - 1] if level else np.zeros(len(ids), np.int64)
        is_known = ids[:, level] >= 0
        is_asking = ~is_known & (parents >= 0)
        for parent in np.unique(parents[is_asking]):
            is_family = parents == parent
            asking = np.flatnonzero(is_asking & is_family)
            voters = np.flatnonzero(is_known & is_family)
            if not len(voters):
                continue
            for start in range(0, len(asking), _QUERIES):
                block = asking[start : start + _QUERIES]
                voter, weight = _most_similar(vectors, block, voters, num_neighbours)
                tags, share = _vote(ids[voter, level], weight, num_tags)
                is_filled = (share > 0) & (share >= min_agreement)
                filled[block[is_filled], level] = tags[is_filled]
                agreement[block[is_filled], level] = share[is_filled]
    return filled, agreement


def _most_similar(
    vectors: np.ndarray, asking: np.ndarray, voters: np.ndarray, num_neighbours: int
) -> tuple[np.ndarray, np.ndarray]:
    """The voters most similar to each asking item, and their cosines, both (n, k).

    Only positive cosines count, and of equal ones the first voter's. Where there are fewer than k
    the rest is some voter with 0.
    """
    queries = unit_rows(vectors[asking])
    shape = (len(asking), num_neighbours)
    best, best_voters = np.zeros(shape, np.float32), np.full(shape, voters[0])
    own_rows = np.repeat(np.arange(len(asking)), num_neighbours)
    # A small first block raises the bar, so that few of the following cosines have to be sorted.
    starts = [0, *range(_FIRST_CANDIDATES, len(voters), _CANDIDATES), len(voters)]
    for start, end in itertools.pairwise(starts):
        block = voters[start:end]
        cosines = queries @ unit_rows(vectors[block]).T  # (n, block)
        better = np.flatnonzero(cosines > best.min(axis=1, keepdims=True))
        rows, columns = np.divmod(better, len(block))
        rows_of = np.concatenate([own_rows, rows])
        values = np.concatenate([best.ravel(), cosines[rows, columns]])
        voters_of = np.concatenate([best_voters.ravel(), block[columns]])
        order = np.lexsort((-values, rows_of))
        first = np.searchsorted(rows_of[order], np.arange(len(asking)))
        kept = order[first[:, None] + np.arange(num_neighbours)]  # every row has at least its own
        best, best_voters = values[kept], voters_of[kept]
    return best_voters, best


def _vote(tags: np.ndarray, weights: np.ndarray, num_tags: int) -> tuple[np.ndarray, np.ndarray]:
    """The tag of most weight in each row, and its share of all weight (0 where there is none)."""
    rows = np.arange(len(tags))
    cells = rows[:, None] * num_tags + tags
    totals = np.bincount(cells.ravel(), weights.ravel(), minlength=len(tags) * num_tags)
    totals = totals.reshape(len(tags), num_tags)
    winner = totals.argmax(axis=1)
    weight = totals.sum(axis=1)
    share = np.divide(totals[rows, winner], weight, out=np.zeros(len(tags)), where=weight > 0)
    return winner, share
