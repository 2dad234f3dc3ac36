"""Untrained baselines with one weight between each two items: the nearest items, and EASE.

Both read which items a user took in training, and neither in what order nor how often. Symbols:
U users, N items, X (U, N) with 1 where a user took an item, B users of a block.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from hidvae.data.interactions import Sequences, count_items
from hidvae.evaluation.baselines.untrained import ByScore
from hidvae.features.item_graph import check_items_known

NUM_NEIGHBOURS = 300
"""Neighbours that ``ItemKnn`` keeps of an item: of 20, 100 and 300 the best on Amazon Beauty's
validation (docs/experiments.md)."""
REGULARISATION = 50.0
"""Of ``Ease``; of 20, 50, 100 and 200 the best there, by ndcg@10."""
MOST_ITEMS_OF_EASE = 30_000
"""Its weights between them take 3.4 GiB; the time grows with the third power."""
_SCORES_PER_BLOCK = 8_000_000
"""Similarities held at once, at most."""


class ItemKnn(ByScore):
    """Items near to those of the history, whoever comes next in it.

    Two items are as near as the cosine of their columns of X. Of every item the nearest are kept;
    a user scores the sum of what is kept of the items of the history.

    Source: Deshpande and Karypis, "Item-based top-N recommendation algorithms", ACM TOIS 22 (2004),
    the cosine without normalised rows.

    Args of the constructor:
        train: Training histories.
        num_items: N.
        num_neighbours: Most that are kept of an item; among equally near ones the lower item_index.
    """

    def __init__(
        self,
        train: Sequences,
        num_items: int,
        *,
        num_neighbours: int = NUM_NEIGHBOURS,
        name: str = "item_knn",
    ) -> None:
        self.name, self.num_items = name, num_items
        check_items_known(train, num_items)
        taken = _is_taken(train, num_items)
        users = np.maximum(np.asarray(taken.sum(axis=0)), 1.0)  # (N,)
        unit = (taken @ sparse.diags_array(1 / np.sqrt(users))).tocsc()
        size = max(1, _SCORES_PER_BLOCK // max(num_items, 1))
        blocks = [
            _largest((unit[:, rows].T @ unit).tocoo(), rows.start, num_neighbours)
            for rows in (slice(at, min(at + size, num_items)) for at in range(0, num_items, size))
        ]
        self.neighbours = sparse.vstack(blocks, format="csr", dtype=np.float32)  # (N, N)

    def scores(self, histories: Sequences) -> npt.NDArray[np.float32]:
        """(B, N) sums over the items of the history, each counted once."""
        found: npt.NDArray[np.float32] = (
            _is_taken(histories, self.num_items) @ self.neighbours
        ).toarray()
        return found


class Ease(ByScore):
    """A linear model of all items that predicts each item from the others, solved in one step.

    With G = X'X + λI and P = G^-1 the weight from item i to item j is -P_ij / P_jj, and 0 where
    i = j. A user scores the sum of the weights from the items of the history.

    Source: Steck, "Embarrassingly shallow autoencoders for sparse data", arXiv:1905.03375. Differs:
    the items without a training event are left out of G, as nothing leads to or from them.

    Args of the constructor:
        train: Training histories.
        num_items: N; beyond ``MOST_ITEMS_OF_EASE`` it takes too long.
        regularisation: λ > 0.
    """

    def __init__(
        self,
        train: Sequences,
        num_items: int,
        *,
        regularisation: float = REGULARISATION,
        name: str = "ease",
    ) -> None:
        self.name, self.num_items = name, num_items
        check_items_known(train, num_items)
        self.known = np.flatnonzero(count_items(train, num_items))  # (K,)
        taken = _is_taken(train, num_items)[:, self.known].tocsc()
        gram = np.empty((self.known.size, self.known.size), np.float32, order="F")
        size = max(1, _SCORES_PER_BLOCK // max(num_items, 1))
        for start in range(0, self.known.size, size):
            columns = slice(start, start + size)
            gram[:, columns] = (taken.T @ taken[:, columns]).toarray()
        np.fill_diagonal(gram, gram.diagonal() + regularisation)
        weights = _inverse(gram)
        weights /= -weights.diagonal()
        np.fill_diagonal(weights, 0.0)
        self.weights = weights  # (K, K), from row to column

    def scores(self, histories: Sequences) -> npt.NDArray[np.float32]:
        """(B, N) sums over the items of the history, each counted once; unknown items have 0."""
        found = np.zeros((histories.num_users, self.num_items), np.float32)
        found[:, self.known] = _is_taken(histories, self.num_items)[:, self.known] @ self.weights
        return found


def _is_taken(histories: Sequences, num_items: int) -> sparse.csr_array:
    """(U, N) float32, 1 where a history holds an item."""
    ones = np.ones(histories.items.size, np.float32)
    shape = (histories.num_users, num_items)
    taken = sparse.csr_array((ones, histories.items, histories.offsets), shape=shape, copy=True)
    taken.sum_duplicates()
    taken.data[:] = 1.0
    return taken


def _largest(similar: sparse.coo_array, first: int, count: int) -> sparse.csr_array:
    """The ``count`` largest of each row of (b, N), without item ``first`` + row itself."""
    is_other = similar.row + first != similar.col
    row, column, value = (part[is_other] for part in (similar.row, similar.col, similar.data))
    order = np.lexsort([column, -value, row])
    row, column, value = row[order], column[order], value[order]
    place = np.arange(row.size) - np.searchsorted(row, row)  # 0 is the nearest of its row
    kept = place < count
    return sparse.csr_array((value[kept], (row[kept], column[kept])), shape=similar.shape)


def _inverse(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Of a symmetric positive definite matrix (K, K) in Fortran's order, in its memory."""
    if not matrix.size:
        return matrix
    factor, failed = linalg.lapack.spotrf(matrix, lower=True, overwrite_a=True)
    if not failed:
        factor, failed = linalg.lapack.spotri(factor, lower=True, overwrite_c=True)
    assert not failed, "the regularisation makes it positive definite"
    inverse: npt.NDArray[np.float32] = factor.T  # as symmetric as its upper half is made
    for row in range(1, len(inverse)):
        inverse[row, :row] = inverse[:row, row]
    return inverse
