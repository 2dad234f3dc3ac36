"""How well the ways of filling tags do: hide known tags, fill them again, compare.

Arrays in, numbers out; ``scripts/experiments/tags.py`` runs it on a dataset.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from hidvae.errors import ConfigError
from hidvae.features.tags.from_llm import Candidates


def hide_tags(
    ids: np.ndarray, share: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Take all tags from some of the items that have any.

    Args:
        ids: (N, L), -1 unknown.
        share: Part of the items with a tag at level 0 that lose theirs, in (0, 1).
        generator: Chooses them.

    Returns: (N, L) with -1 for the chosen items, and their rows (H,), rising.

    Raises:
        ConfigError: If that hides no item or all.
    """
    tagged = np.flatnonzero(ids[:, 0] >= 0)
    num_hidden = round(share * len(tagged))
    if not 0 < num_hidden < len(tagged):
        raise ConfigError(
            f"share of hidden items: expected one that hides some of {len(tagged)} items with tags "
            f"and leaves some; found {share}; choose one between 0 and 1, such as 0.3"
        )
    hidden = np.sort(generator.choice(tagged, num_hidden, replace=False))
    left = ids.copy()
    left[hidden] = -1
    return left, hidden


def fill_with_majority(ids: np.ndarray) -> np.ndarray:
    """(N, L): every unknown tag becomes the most frequent one of its level."""
    filled = ids.copy()
    for column in filled.T:  # views
        known = column[column >= 0]
        if len(known):
            column[column < 0] = np.bincount(known).argmax()
    return filled


def fill_with_nearest(ids: np.ndarray, candidates: Candidates) -> np.ndarray:
    """(N, L): every unknown tag becomes the child of the tag above with the most similar text."""
    filled = ids.copy()
    for level in range(ids.shape[1]):
        items = candidates.open_items(filled, level)
        nearest = candidates.nearest(filled, level, items, num_candidates=1)
        filled[items, level] = [tags[0] for tags in nearest]
    return filled


def score_filled(truth: np.ndarray, filled: np.ndarray) -> list[dict[str, float | int | None]]:
    """Compare filled tags with the true ones.

    Args:
        truth: (H, L) tags that were hidden, -1 where the item has none at a level.
        filled: (H, L) tags that were filled in, -1 where nobody knew.

    Returns:
        Per level: ``num_items``, the items with a true tag there, and of them ``accuracy``, the
        share filled rightly (unknown is wrong), ``coverage``, the share filled at all, and
        ``precision``, the share of those filled that is right; and ``beyond_path``, the share of
        the items without a true tag there that were given one. None where there is no such item.
    """
    scores: list[dict[str, float | int | None]] = []
    for true, found in zip(truth.T, filled.T, strict=True):
        has_tag, is_filled = true >= 0, found >= 0
        is_right = has_tag & (true == found)
        num_items, num_filled = int(has_tag.sum()), int((has_tag & is_filled).sum())
        scores.append(
            {
                "num_items": num_items,
                "accuracy": _ratio(int(is_right.sum()), num_items),
                "coverage": _ratio(num_filled, num_items),
                "precision": _ratio(int(is_right.sum()), num_filled),
                "beyond_path": _ratio(int((~has_tag & is_filled).sum()), int((~has_tag).sum())),
            }
        )
    return scores


def compare_clusters(clusters: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Agreement of two partitions, over the items that both of them place.

    Args:
        clusters: (N,) cluster of each item, -1 for none.
        truth: (N,) true tag of each item, -1 for none.

    Returns:
        ``nmi``, the mutual information divided by the mean of the two entropies (1 for equal
        partitions, 0 for independent ones, and where both are a single group 1), and ``purity``,
        the share of items whose tag is the most frequent one of their cluster.

    Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval, section 16.3.
    """
    placed = (clusters >= 0) & (truth >= 0)
    shape = (int(clusters.max(initial=0)) + 1, int(truth.max(initial=0)) + 1)
    cells = (np.ones(placed.sum()), (clusters[placed], truth[placed]))
    counts = sp.coo_array(cells, shape=shape).toarray()
    total = max(counts.sum(), 1)
    of_clusters, of_tags = counts.sum(axis=1), counts.sum(axis=0)
    information = _entropy(of_clusters) + _entropy(of_tags) - _entropy(counts.ravel())
    mean_entropy = (_entropy(of_clusters) + _entropy(of_tags)) / 2
    return {
        "nmi": float(information / mean_entropy) if mean_entropy > 0 else 1.0,
        "purity": float(counts.max(axis=1, initial=0).sum() / total),
    }


def _entropy(counts: np.ndarray) -> float:
    """Of the distribution that counts are proportional to, in nats."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log(shares)).sum())


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
