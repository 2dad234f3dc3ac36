"""How good a table of semantic IDs is, before any recommender uses it.

Symbols: N items, M codes per ID, K_l codes that level l can use, L tag levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hidvae.errors import DataError, ShapeError
from hidvae.evaluation.metrics import tag_prefixes

IntArray = npt.NDArray[np.integer]


def id_quality(
    codes: IntArray, level_sizes: Sequence[int], tags: IntArray | None = None
) -> dict[str, Any]:
    """Codebook usage, collisions and agreement with the tags of a table of semantic IDs.

    Args:
        codes: (N, M), code of each level, in [0, K_l); N at least 1.
        level_sizes: (M,), K_l.
        tags: (N, L), tag id per level, -1 unknown; None leaves prefix purity out.

    Returns:
        JSON values. Lists have one entry per level:

        - ``num_items``, ``num_ids``: N and the distinct IDs.
        - ``collision_rate``: 1 - num_ids / N. ``largest_collision``: items of the most shared ID
          (1 when all are unique). ``num_colliding_items``: items whose ID is not theirs alone.
        - ``codebook_usage``: used codes / K_l. ``dead_codes``: K_l - used codes.
        - ``code_entropy``: -sum p log p in nats. ``perplexity``: exp of it, in [1, K_l].
        - ``dead_levels``: levels where all items have the same code, so it says nothing.
        - ``prefix_purity``: see ``prefix_purity``; only with ``tags``.

    Raises:
        ShapeError: If the inputs disagree on N or M.
        DataError: If there are no items or a code is out of range.

    Example:
        >>> quality = id_quality(np.array([[0, 1], [0, 1], [1, 0], [1, 1]]), [2, 4])
        >>> quality["collision_rate"], quality["codebook_usage"], quality["perplexity"][0]
        (0.25, [1.0, 0.5], 2.0)
    """
    codes = _checked_codes(codes, level_sizes)
    num_items, num_levels = codes.shape
    counts = [
        np.bincount(codes[:, level], minlength=level_sizes[level]) for level in range(num_levels)
    ]
    entropies = [_entropy(count) for count in counts]
    group_sizes = np.unique(codes, axis=0, return_counts=True)[1]
    quality: dict[str, Any] = {
        "num_items": num_items,
        "num_ids": int(group_sizes.size),
        "collision_rate": float(1.0 - group_sizes.size / num_items),
        "largest_collision": int(group_sizes.max()),
        "num_colliding_items": int(group_sizes[group_sizes > 1].sum()),
        "level_sizes": [int(size) for size in level_sizes],
        "codebook_usage": [float((count > 0).mean()) for count in counts],
        "dead_codes": [int((count == 0).sum()) for count in counts],
        "code_entropy": entropies,
        "perplexity": [float(np.exp(entropy)) for entropy in entropies],
        "dead_levels": [
            level for level, count in enumerate(counts) if np.count_nonzero(count) == 1
        ],
    }
    if tags is not None:
        quality["prefix_purity"] = prefix_purity(codes, tags)
    return quality


def prefix_purity(codes: IntArray, tags: IntArray) -> list[float | None]:
    """How far the items under one prefix agree on their tag, level by level.

    Formula: purity_l = sum over prefixes p of max_t |{i under p : tag_l(i) = t}|, divided by the
    items with a known tag at level l; p are the first l + 1 codes. Two tags are equal when their
    whole paths are. An item alone under its prefix is pure by itself, so read deep levels
    together with the number of prefixes.

    Args:
        codes: (N, M).
        tags: (N, L), -1 unknown; those items are skipped at that level.

    Returns:
        min(M, L) values in (0, 1]; None where no tag of the level is known.

    Raises:
        ShapeError: If the inputs disagree on N.

    Example:
        >>> prefix_purity(np.array([[0], [0], [0], [1]]), np.array([[5], [5], [6], [7]]))
        [0.75]
    """
    codes, tags = np.asarray(codes), np.asarray(tags)
    if tags.ndim != 2 or tags.shape[0] != codes.shape[0]:
        raise ShapeError(
            f"expected tags of shape ({codes.shape[0]}, L), found {tags.shape}; use the tags of "
            "the same catalogue"
        )
    paths = tag_prefixes(tags)
    return [
        _purity(codes[:, : level + 1], paths[:, level])
        for level in range(min(codes.shape[1], tags.shape[1]))
    ]


def _purity(prefixes: IntArray, tag: IntArray) -> float | None:
    is_known = tag >= 0
    if not is_known.any():
        return None
    prefix = np.unique(prefixes[is_known], axis=0, return_inverse=True)[1].reshape(-1)
    pairs, count = np.unique(np.stack([prefix, tag[is_known]], axis=1), axis=0, return_counts=True)
    largest = np.zeros(int(prefix.max()) + 1, dtype=np.int64)
    np.maximum.at(largest, pairs[:, 0], count)
    return float(largest.sum() / is_known.sum())


def _entropy(count: IntArray) -> float:
    share = count[count > 0] / count.sum()
    # abs: a single code gives -0.0
    return float(abs(-(share * np.log(share)).sum()))


def _checked_codes(codes: IntArray, level_sizes: Sequence[int]) -> IntArray:
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[1] != len(level_sizes) or codes.shape[1] == 0:
        raise ShapeError(
            f"expected codes of shape (N, {len(level_sizes)}), one column per level size, found "
            f"{codes.shape}"
        )
    if codes.shape[0] == 0:
        raise DataError("expected codes of at least 1 item, found none; run `hidvae tokenize`")
    is_outside = (codes < 0) | (codes >= np.asarray(level_sizes))
    if is_outside.any():
        row, level = np.argwhere(is_outside)[0].tolist()
        raise DataError(
            f"expected codes of level {level} in [0, {level_sizes[level]}), found "
            f"{int(codes[row, level])} in row {row}; pass the level sizes of this table"
        )
    return codes
