"""The table of neighbours after some items were added, changed or removed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hidvae.data.interactions import Sequences
from hidvae.features.item_graph import FloatMatrix, ItemGraph

_ITEMS_PER_BLOCK = 128
"""Changed items that are compared with the whole catalogue at once: a dense row for each."""


def changed_neighbours(
    neighbours: sparse.csr_array,
    graph: ItemGraph,
    changed: npt.NDArray[np.integer],
    is_removed: npt.NDArray[np.bool_],
    count: int,
) -> sparse.csr_array:
    """What ``graph.neighbours`` would give, but for the rows that gain a changed item.

    These may hold more than ``count`` neighbours, as the ones that were pushed out stay. Likeness
    is symmetric, so a changed item's row is its column too.

    Args:
        neighbours: (N, N) before the changes.
        graph: Of all M items, in their present state.
        changed: item_index of the items that were added or changed.
        is_removed: (M,); such an item is nobody's neighbour, but may be in a history.
        count: Most neighbours of an item.

    Returns: (M, M), columns ascending.
    """
    num_items = graph.num_items
    kept = neighbours.copy()
    least = np.zeros(num_items, dtype=np.float32)  # score that a new neighbour has to beat
    is_full = np.diff(kept.indptr) >= count
    full = np.flatnonzero(is_full)
    if len(full):
        smallest = np.minimum.reduceat(kept.data, kept.indptr[full])
        least[full] = smallest
    kept.resize(num_items, num_items)
    is_stale = np.zeros(num_items, dtype=bool)
    is_stale[changed] = True
    is_gone = is_stale | is_removed
    if is_gone[: neighbours.shape[0]].any():
        row = np.repeat(np.arange(num_items), np.diff(kept.indptr))
        kept.data[is_stale[row] | is_gone[kept.indices]] = 0.0
    rows, columns = [sparse.csr_array((0, num_items), dtype=np.float32)], []
    columns.append(rows[0])
    for start in range(0, len(changed), _ITEMS_PER_BLOCK):
        block = changed[start : start + _ITEMS_PER_BLOCK]
        scores = graph.scores(Sequences(block.astype(np.int32), np.arange(len(block) + 1)))
        scores[:, is_removed] = 0.0
        rows.append(_largest(scores, count))  # (b, M)
        scores[scores <= least] = 0.0
        scores[:, is_stale] = 0.0  # of pairs of changed items the rows speak
        scores[is_removed[block]] = 0.0
        columns.append(sparse.csr_array(scores))
    place = sparse.csr_array(
        (np.ones(len(changed), np.float32), (changed, np.arange(len(changed)))),
        shape=(num_items, len(changed)),
    )
    added = (place @ sparse.vstack(rows) + (place @ sparse.vstack(columns)).T).tocsr()
    added.sort_indices()  # so are those of the sum
    total = kept + added
    total.eliminate_zeros()
    return total


def _largest(scores: FloatMatrix, count: int) -> sparse.csr_array:
    """The ``count`` largest positive scores of each row."""
    if count < scores.shape[1]:
        place = scores.shape[1] - count
        bound = np.partition(scores, place, axis=1)[:, place : place + 1]
        scores = np.where(scores >= bound, scores, 0.0)
    return sparse.csr_array(np.maximum(scores, 0.0))
