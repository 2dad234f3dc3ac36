"""Ranking metrics as functions of arrays: item indices in, numbers out.

Knows nothing of models or torch. Symbols: U users, R ranked positions, N items of the
catalogue, L tag levels; ``ranked[u]`` lists item indices best first and is padded with -1 where a
list is shorter. Every user has exactly one target, so recall@k equals the hit rate.

A mean over nothing (no user, or no item returned) is ``nan``; a share of nothing returned is 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hidvae.data.interactions import Sequences
from hidvae.errors import ConfigError, DataError, ShapeError

IntArray = npt.NDArray[np.integer]
FloatArray = npt.NDArray[np.float64]

PADDING = -1
_PAIRS_PER_BLOCK = 2_000_000


def target_ranks(ranked: IntArray, targets: IntArray) -> npt.NDArray[np.int64]:
    """Rank of each user's target in their list, from 1; 0 where it is not in the list.

    Formula: r_u = min {p : ranked[u, p - 1] = targets[u]}.

    Args:
        ranked: (U, R), item_index best first, -1 padding.
        targets: (U,), item_index, at least 0.

    Returns:
        (U,), in [0, R].

    Raises:
        ShapeError: If ``ranked`` is not (U, R) or the inputs disagree on U.
        DataError: If an input does not hold integers or a target is negative.

    Example:
        >>> target_ranks(np.array([[4, 7, 2], [5, 1, -1]]), np.array([7, 3])).tolist()
        [2, 0]
    """
    ranked, targets = _checked_lists(ranked), np.asarray(targets)
    if targets.shape != ranked.shape[:1]:
        raise ShapeError(
            f"expected one target per ranked list ({ranked.shape[0]}), found targets of shape "
            f"{targets.shape}; pass the targets of the same users"
        )
    if targets.size and targets.dtype.kind not in "iu":
        raise DataError(f"expected integer targets, found {targets.dtype}; pass item indices")
    if targets.size and int(targets.min()) < 0:
        user = int(np.argmax(targets < 0))
        raise DataError(
            f"expected targets of at least 0, found {int(targets[user])} for user row {user}; "
            "leave out users without a target"
        )
    if ranked.shape[1] == 0:
        return np.zeros(ranked.shape[0], dtype=np.int64)
    is_hit = ranked == targets[:, None]  # (U, R)
    return np.where(is_hit.any(axis=1), is_hit.argmax(axis=1) + 1, 0).astype(np.int64)


def recall_at(ranks: IntArray, k: int) -> FloatArray:
    """Recall@k of each user (one target, so it equals the hit rate): 1 if found by rank k.

    Formula: recall@k(u) = [1 <= r_u <= k].

    Args:
        ranks: (U,), rank of the target from 1, 0 where not found (``target_ranks``).
        k: Cut-off, at least 1.

    Returns:
        (U,), 0.0 or 1.0.

    Example:
        >>> recall_at(np.array([1, 3, 0]), k=2).tolist()
        [1.0, 0.0, 0.0]
    """
    ranks = _checked_ranks(ranks, k)
    return ((ranks >= 1) & (ranks <= k)).astype(np.float64)


def ndcg_at(ranks: IntArray, k: int) -> FloatArray:
    """NDCG@k of each user: the discount of the target's rank; the ideal list has it first.

    Formula: ndcg@k(u) = [1 <= r_u <= k] / log2(1 + r_u).

    Args:
        ranks: (U,), rank of the target from 1, 0 where not found (``target_ranks``).
        k: Cut-off, at least 1.

    Returns:
        (U,), in [0, 1].

    Source: Järvelin and Kekäläinen, 2002, for one relevant item of gain 1.

    Example:
        >>> ndcg_at(np.array([1, 3, 0]), k=5).tolist()
        [1.0, 0.5, 0.0]
    """
    ranks = _checked_ranks(ranks, k)
    is_found = (ranks >= 1) & (ranks <= k)
    return np.where(is_found, 1.0 / np.log2(1.0 + np.maximum(ranks, 1)), 0.0)


def both_protocols(
    ranked: IntArray, histories: Sequences, k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The lists of both history protocols, from one.

    Args:
        ranked: (U, W), item_index best first, -1 at the end; wide enough for k items besides those
            of the history.
        histories: U histories.
        k: Length of the lists.

    Returns: (U, k) with items of the history and (U, k) without, -1 where a list is shorter.
    """
    is_left_out = is_in_history(ranked, histories) | (ranked < 0)
    # A stable sort of "left out" moves the kept items to the front without changing their order.
    order = np.argsort(is_left_out, axis=1, kind="stable")[:, :k]
    is_kept = ~np.take_along_axis(is_left_out, order, axis=1)
    kept = np.where(is_kept, np.take_along_axis(ranked, order, axis=1), PADDING)
    return _padded(ranked, k), _padded(kept, k)


def is_in_history(ranked: IntArray, histories: Sequences) -> npt.NDArray[np.bool_]:
    """(U, W) whether each ranked item is in that user's history; -1 never is."""
    user = np.arange(len(ranked), dtype=np.int64)[:, None]
    base = 1 + max(int(ranked.max(initial=0)), int(histories.items.max(initial=0)))
    keys = np.where(ranked >= 0, user * base + ranked, -1)
    return np.isin(keys, np.repeat(user[:, 0], histories.lengths) * base + histories.items)


def coverage_at(ranked: IntArray, k: int, num_items: int) -> float:
    """Catalogue coverage@k: the share of all items that appear in some user's top k.

    Formula: coverage@k = |{ranked[u, p] : all u, p < k}| / N.

    Args:
        ranked: (U, R), item_index best first, -1 padding.
        k: Cut-off, at least 1.
        num_items: N, at least 1.

    Returns:
        In [0, 1]; 0 when nothing was returned.

    Example:
        >>> coverage_at(np.array([[0, 1, 3], [1, 0, 2]]), k=2, num_items=4)
        0.5
    """
    returned = _returned_items(ranked, k, num_items)
    return float(np.unique(returned).size / num_items)


def novelty_at(ranked: IntArray, k: int, popularity: IntArray) -> float:
    """Novelty@k in bits: how surprising the returned items are, averaged over the top k lists.

    Formula: novelty@k = mean over returned i of -log2((c_i + 1) / (sum_j c_j + N)), with c_i the
    training events of item i; adding one keeps unseen items finite.

    Args:
        ranked: (U, R), item_index best first, -1 padding.
        k: Cut-off, at least 1.
        popularity: (N,), training events per item.

    Returns:
        At least 0, in bits; nan when nothing was returned.

    Example:
        >>> novelty_at(np.array([[0, 1]]), k=2, popularity=np.array([3, 1, 1, 0, 0, 0, 2, 1]))
        2.5
    """
    popularity = _checked_popularity(popularity)
    returned = _returned_items(ranked, k, popularity.size)
    if returned.size == 0:
        return float("nan")
    share = (popularity + 1.0) / (popularity.sum() + popularity.size)
    return float(-np.log2(share)[returned].mean())


def popularity_bias_at(ranked: IntArray, k: int, popularity: IntArray) -> float:
    """Popularity bias@k: mean popularity percentile of the returned items.

    Formula: percentile(i) = (|{j : c_j < c_i}| + |{j : c_j = c_i}| / 2) / N, averaged over all
    returned i. Items drawn uniformly score 1/2 on average; 1 means only the most popular.

    Args:
        ranked: (U, R), item_index best first, -1 padding.
        k: Cut-off, at least 1.
        popularity: (N,), training events per item.

    Returns:
        In (0, 1); nan when nothing was returned.

    Example:
        >>> popularity_bias_at(np.array([[2, 0]]), k=2, popularity=np.array([5, 5, 9, 1]))
        0.6875
    """
    popularity = _checked_popularity(popularity)
    returned = _returned_items(ranked, k, popularity.size)
    if returned.size == 0:
        return float("nan")
    _, group, group_size = np.unique(popularity, return_inverse=True, return_counts=True)
    num_below = np.cumsum(group_size) - group_size
    percentile = (num_below + group_size / 2.0) / popularity.size  # (groups,)
    return float(percentile[group][returned].mean())


def diversity_at(ranked: IntArray, k: int, tags: IntArray) -> float:
    """Intra-list diversity@k by tag: how little of their tag paths two items of a list share.

    Formula: for items i, j let m be the levels whose whole tag path down to there is known for
    both, and s those of them on which the two paths agree; share(i, j) = s / m. Diversity of a
    list is 1 - mean of share over its pairs, averaged over the lists. Pairs with m = 0 and lists
    without a pair that counts are left out.

    Args:
        ranked: (U, R), item_index best first, -1 padding.
        k: Cut-off, at least 1.
        tags: (N, L), tag id per level, coarse to fine; -1 unknown.

    Returns:
        In [0, 1]; nan when no pair can be compared (k = 1, no known tags).

    Raises:
        ShapeError: If ``tags`` is not (N, L).

    Example:
        >>> diversity_at(np.array([[0, 1], [1, 2]]), k=2, tags=np.array([[0, 0], [0, 1], [1, 0]]))
        0.75
    """
    ranked, tags = _checked_lists(ranked), np.asarray(tags)
    if tags.ndim != 2:
        raise ShapeError(
            f"expected tags of shape (N, L), found {tags.shape}; pass one row per item"
        )
    _check_cutoff(k)
    prefixes = tag_prefixes(tags)  # (N, L)
    top = ranked[:, :k]
    first, second = np.triu_indices(top.shape[1], k=1)  # (P,) each
    if first.size == 0 or prefixes.shape[0] == 0:
        return float("nan")
    block = max(1, _PAIRS_PER_BLOCK // first.size)
    per_list = [
        _list_diversity(top[start : start + block], prefixes, first, second)
        for start in range(0, top.shape[0], block)
    ]
    diversity = np.concatenate([*per_list, np.empty(0)])
    return float(diversity.mean()) if diversity.size else float("nan")


def invalid_rate(ranked: IntArray, num_items: int) -> float:
    """Share of the returned ids that are not items of the catalogue; padding does not count.

    Formula: |{(u, p) : ranked[u, p] not in [0, N), not -1}| / |{(u, p) : ranked[u, p] != -1}|.

    Args:
        ranked: (U, R), item_index, -1 padding.
        num_items: N, at least 1.

    Returns:
        In [0, 1]; 0 when nothing was returned.

    Example:
        >>> invalid_rate(np.array([[0, 9, -1], [3, 1, -1]]), num_items=4)
        0.25
    """
    ranked = _checked_lists(ranked)
    _check_num_items(num_items)
    is_returned = ranked != PADDING
    is_invalid = is_returned & ((ranked < 0) | (ranked >= num_items))
    return float(is_invalid.sum() / max(1, is_returned.sum()))


def tag_prefixes(tags: IntArray) -> npt.NDArray[np.int64]:
    """Number the distinct tag paths of each level, so that equal numbers mean equal paths.

    Args:
        tags: (N, L), tag id per level, -1 unknown.

    Returns:
        (N, L), a path's number in [0, paths of that level); -1 from the first unknown level on.

    Example:
        >>> tag_prefixes(np.array([[0, 5], [1, 5], [0, -1]])).tolist()
        [[0, 0], [1, 1], [0, -1]]
    """
    num_items, num_levels = tags.shape
    prefixes = np.full((num_items, num_levels), -1, dtype=np.int64)
    is_known = np.logical_and.accumulate(tags >= 0, axis=1)
    parent = np.zeros(num_items, dtype=np.int64)
    for level in range(num_levels):
        known = is_known[:, level]
        path = np.stack([parent[known], tags[known, level]], axis=1)
        number = np.unique(path, axis=0, return_inverse=True)[1].reshape(-1)
        prefixes[known, level] = number
        parent = prefixes[:, level]
    return prefixes


def _list_diversity(
    top: IntArray, prefixes: IntArray, first: IntArray, second: IntArray
) -> FloatArray:
    """Diversity of each list of a block that has a comparable pair; other lists are dropped."""
    is_item = (top >= 0) & (top < prefixes.shape[0])
    safe = np.where(is_item, top, 0)
    num_known = np.zeros((top.shape[0], first.size), dtype=np.int16)  # (U, P)
    num_equal = np.zeros_like(num_known)
    for level in range(prefixes.shape[1]):
        number = np.where(is_item, prefixes[safe, level], -1)  # (U, k)
        left, right = number[:, first], number[:, second]  # (U, P)
        is_known = (left >= 0) & (right >= 0)
        num_known += is_known
        num_equal += is_known & (left == right)
    counts = num_known > 0
    share = np.where(counts, num_equal / np.maximum(num_known, 1), 0.0)
    num_pairs = counts.sum(axis=1)
    has_pair = num_pairs > 0
    diversity: FloatArray = 1.0 - share[has_pair].sum(axis=1) / num_pairs[has_pair]
    return diversity


def _returned_items(ranked: IntArray, k: int, num_items: int) -> IntArray:
    """All real items of the top k lists, flat, repeats kept."""
    _check_cutoff(k)
    _check_num_items(num_items)
    top = _checked_lists(ranked)[:, :k]
    items: IntArray = top[(top >= 0) & (top < num_items)]
    return items


def _checked_lists(ranked: IntArray) -> IntArray:
    ranked = np.asarray(ranked)
    if ranked.ndim != 2:
        raise ShapeError(
            f"expected ranked lists of shape (U, R), found {ranked.shape}; pass one row per user"
        )
    if ranked.size and ranked.dtype.kind not in "iu":
        raise DataError(f"expected integer ranked lists, found {ranked.dtype}; pass item indices")
    return ranked


def _checked_ranks(ranks: IntArray, k: int) -> IntArray:
    _check_cutoff(k)
    ranks = np.asarray(ranks)
    if ranks.ndim != 1:
        raise ShapeError(
            f"expected ranks of shape (U,), found {ranks.shape}; pass target_ranks(...)"
        )
    return ranks


def _checked_popularity(popularity: IntArray) -> IntArray:
    popularity = np.asarray(popularity)
    if popularity.ndim != 1:
        raise ShapeError(
            f"expected popularity of shape (N,), found {popularity.shape}; pass events per item"
        )
    return popularity


def _check_cutoff(k: int) -> None:
    if k < 1:
        raise ConfigError(f"expected a cut-off k of at least 1, found {k}; choose e.g. 10")


def _check_num_items(num_items: int) -> None:
    if num_items < 1:
        raise DataError(f"expected at least 1 item, found {num_items}; pass the catalogue's size")


def _padded(ranked: IntArray, top_k: int) -> npt.NDArray[np.int64]:
    """The first ``top_k`` positions, -1 where there are fewer."""
    padded = np.full((len(ranked), top_k), PADDING, dtype=np.int64)
    padded[:, : ranked.shape[1]] = ranked[:, :top_k]
    return padded
