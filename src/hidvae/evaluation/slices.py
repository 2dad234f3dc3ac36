"""Metrics by slice of the users: how rare their target is, and how long their history is.

A mean over all users hides whether a ranker only finds what is popular, or only serves users it
knows well. Every user is in exactly one bucket of each slice, so the mean over the buckets,
weighted by their users, is the metric over all users. Symbols: U users, B buckets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hidvae.errors import DataError, ShapeError
from hidvae.evaluation.metrics import ndcg_at, recall_at

IntArray = npt.NDArray[np.integer]

POPULARITY_STARTS = (0, 1, 5, 10, 20, 50)
"""First value of each bucket of the target's training events; 0 is a cold item."""
LENGTH_STARTS = (0, 3, 5, 10, 20)
"""First value of each bucket of the history's length."""


def slice_metrics(
    ranks: IntArray, target_popularity: IntArray, history_lengths: IntArray, k: int
) -> dict[str, list[dict[str, Any]]]:
    """Recall and NDCG by popularity of the target and by length of the history.

    Args:
        ranks: (U,), rank of the target from 1, 0 where not found.
        target_popularity: (U,), training events of each user's target.
        history_lengths: (U,), events of the history that the ranker was given.
        k: Cut-off of both metrics.

    Returns:
        ``target_popularity`` and ``history_length``, each as ``by_bucket`` gives it.
    """
    return {
        "target_popularity": by_bucket(ranks, target_popularity, POPULARITY_STARTS, k),
        "history_length": by_bucket(ranks, history_lengths, LENGTH_STARTS, k),
    }


def by_bucket(
    ranks: IntArray, values: IntArray, starts: Sequence[int], k: int
) -> list[dict[str, Any]]:
    """Recall@k and NDCG@k of the users of each bucket of a value.

    Args:
        ranks: (U,), rank of the target from 1, 0 where not found.
        values: (U,), what the users are sorted by, at least ``starts[0]``.
        starts: (B,), rising, first value of each bucket; the last one has no end.
        k: Cut-off.

    Returns:
        A dictionary per bucket, in order: ``bucket`` (its bounds, such as 1-4), ``num_users``,
        ``recall@k``, ``ndcg@k`` (None in a bucket of no users).

    Raises:
        ShapeError: If the inputs disagree on U.
        DataError: If a value lies below the first bucket.

    Example:
        >>> by_bucket(np.array([1, 0, 2]), np.array([0, 7, 9]), (0, 5), k=1)[1]
        {'bucket': '5+', 'num_users': 2, 'recall@1': 0.0, 'ndcg@1': 0.0}
    """
    ranks, values = np.asarray(ranks), np.asarray(values)
    if values.shape != ranks.shape:
        raise ShapeError(
            f"expected one value per rank {ranks.shape}, found {values.shape}; pass the same users"
        )
    if values.size and int(values.min()) < starts[0]:
        raise DataError(
            f"expected values of at least {starts[0]}, found {int(values.min())} for user row "
            f"{int(values.argmin())}; pass counts"
        )
    bucket = np.searchsorted(np.asarray(starts), values, side="right") - 1  # (U,)
    num_users = np.bincount(bucket, minlength=len(starts))  # (B,)
    recall = np.bincount(bucket, weights=recall_at(ranks, k), minlength=len(starts))
    ndcg = np.bincount(bucket, weights=ndcg_at(ranks, k), minlength=len(starts))
    return [
        {
            "bucket": label,
            "num_users": int(count),
            f"recall@{k}": float(recall[row] / count) if count else None,
            f"ndcg@{k}": float(ndcg[row] / count) if count else None,
        }
        for row, (label, count) in enumerate(zip(_labels(starts), num_users, strict=True))
    ]


def _labels(starts: Sequence[int]) -> list[str]:
    """The buckets' bounds: 0, 1-4, 5-9, …, 50+."""
    ends = [start - 1 for start in starts[1:]]
    closed = [
        str(first) if first == last else f"{first}-{last}"
        for first, last in zip(starts[:-1], ends, strict=True)
    ]
    return [*closed, f"{starts[-1]}+"]
