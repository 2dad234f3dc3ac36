"""The table of neighbours after some items were added, changed or removed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hidvae.data.interactions import Sequences
from hidvae.features.item_graph import FloatMatrix, ItemGraph

_ITEMS_PER_BLOCK = 128
"""Items that are compared with the whole catalogue at once: a dense row for each."""


def changed_neighbours(
    neighbours: sparse.csr_array,
    graph: ItemGraph,
    changed: npt.NDArray[np.integer],
    earlier: npt.NDArray[np.integer],
    is_removed: npt.NDArray[np.bool_],
    least: npt.NDArray[np.float32],
    count: int,
) -> sparse.csr_array:
    """The neighbours before a change, and what the change makes of them.

    Only the changed items are compared with the catalogue; likeness is symmetric, so a changed
    item's row is its column too. All changes at once give the same as one after the other:

    - Rows of items that were ever added or changed are those of ``graph.neighbours``. One that
      loses a neighbour to the change, and may have had more than it kept, is made anew.
    - All other rows lose the neighbours that are gone, and gain the changed items that score more
      than ``least``. They may hold more than ``count``, as the ones that were pushed out stay.

    Args:
        neighbours: (N, N) before the change.
        graph: Of all M items, in their present state.
        changed: item_index of the items that this change adds or changes.
        earlier: item_index of those that only earlier changes did.
        is_removed: (M,); such an item is nobody's neighbour, but may be in a history.
        least: Of the items as trained, from ``scores_to_beat``.
        count: Most neighbours of an item.

    Returns: (M, M), columns ascending.
    """
    num_items = graph.num_items
    kept = neighbours.copy()
    kept.resize(num_items, num_items)
    is_changed, is_earlier = np.zeros((2, num_items), dtype=bool)
    is_changed[changed], is_earlier[earlier] = True, True
    to_beat = np.zeros(num_items, dtype=np.float32)
    to_beat[: len(least)] = least
    was_cut = is_earlier & (np.diff(kept.indptr) >= count)  # others hold all that is near
    # Here an equal score counts as well, as it does where a row is made.
    to_beat[earlier] = np.nextafter(scores_to_beat(kept, count)[earlier], np.float32(0))
    kept.data[np.repeat(is_changed, np.diff(kept.indptr))] = 0.0
    kept.data[(is_changed | is_removed)[kept.indices]] = 0.0
    rows, columns = [], []
    for block, scores in _scores(graph, changed):
        rows.append(_largest(scores, is_removed, count))  # (b, M)
        scores[scores <= to_beat] = 0.0
        scores[:, is_changed] = 0.0  # of pairs of changed items the rows speak
        scores[is_removed[block]] = 0.0
        columns.append(sparse.csr_array(scores))
    added = _placed(rows, changed, num_items) + _placed(columns, changed, num_items).T.tocsr()
    total = kept + added
    total.eliminate_zeros()
    length = np.diff(total.indptr)
    for item in np.flatnonzero(is_earlier & (length > count)):
        scores = total.data[total.indptr[item] : total.indptr[item + 1]]
        scores[scores < np.partition(scores, -count)[-count]] = 0.0
    is_short = was_cut & (length < count)
    short = np.flatnonzero(is_short)
    total.data[np.repeat(is_short, length)] = 0.0
    anew = [_largest(scores, is_removed, count) for _, scores in _scores(graph, short)]
    total = total + _placed(anew, short, num_items)
    total.eliminate_zeros()
    total.sort_indices()
    return total


def scores_to_beat(neighbours: sparse.csr_array, count: int) -> npt.NDArray[np.float32]:
    """(N,) the smallest score of each row that holds ``count`` neighbours, 0 of all others."""
    length = np.diff(neighbours.indptr)
    smallest = np.zeros(len(length), dtype=np.float32)
    some = np.flatnonzero(length)
    if len(some):
        smallest[some] = np.minimum.reduceat(neighbours.data, neighbours.indptr[some])
    smallest[length < count] = 0.0
    return smallest


def _scores(
    graph: ItemGraph, items: npt.NDArray[np.integer]
) -> Iterator[tuple[npt.NDArray[np.integer], FloatMatrix]]:
    """(b, M) scores of some items with all, by blocks."""
    for start in range(0, len(items), _ITEMS_PER_BLOCK):
        block = items[start : start + _ITEMS_PER_BLOCK]
        yield block, graph.scores(Sequences(block.astype(np.int32), np.arange(len(block) + 1)))


def _largest(
    scores: FloatMatrix, is_removed: npt.NDArray[np.bool_], count: int
) -> sparse.csr_array:
    """The ``count`` largest positive scores of each row among the items that are there."""
    scores = np.where(is_removed, 0.0, scores)
    if count < scores.shape[1]:
        place = scores.shape[1] - count
        bound = np.partition(scores, place, axis=1)[:, place : place + 1]
        scores = np.where(scores >= bound, scores, 0.0)
    return sparse.csr_array(np.maximum(scores, 0.0))


def _placed(
    blocks: list[sparse.csr_array], items: npt.NDArray[np.integer], num_items: int
) -> sparse.csr_array:
    """(M, M) with these rows at their items, and nothing else."""
    below = sparse.vstack([sparse.csr_array((0, num_items), dtype=np.float32), *blocks]).tocoo()
    shape = (num_items, num_items)
    return sparse.coo_array((below.data, (items[below.row], below.col)), shape=shape).tocsr()
