"""What the item graph adds to the generator's scores at decoding: a product of two experts.

The generator is trained alone and knows order and composition; the graph knows which items are
near. They err differently: ranking by their product beats either by far (docs/experiments.md).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

from hidvae.data.interactions import Sequences
from hidvae.features.item_graph import FloatMatrix, recency_query
from hidvae.retriever.catalogue_tables import CatalogueTables

_TABLE_SIZE = 1 << 23
"""Nodes times users of a batch up to which a table of all is quicker than a search (32 MiB)."""


class Bonus(NamedTuple):
    """What some items of each user gain; all others gain nothing."""

    items: Tensor
    """(B, C) item_index, -1 where there is none."""
    values: Tensor
    """(B, C) at least 0, in nats; 0 where there is no item."""

    def to(self, device: torch.device) -> Bonus:
        """The same on a device."""
        return Bonus(self.items.to(device), self.values.to(device))

    def of_nodes(self, tables: CatalogueTables, depth: int, nodes: Tensor) -> Tensor:
        """The largest bonus below each node, which is what a prefix can still gain.

        Args:
            tables: Of the catalogue.
            depth: Of the nodes, at least 1.
            nodes: (B, n) node numbers for each user.

        Returns: (B, n).
        """
        node_of_item = tables.nodes_of_items[depth]
        num_nodes = tables.num_nodes(depth)
        row = torch.arange(len(self.items), device=self.items.device).unsqueeze(1) * num_nodes
        keys = (row + node_of_item[self.items.clamp_min(0)]).flatten()
        asked = row + nodes
        size = len(self.items) * num_nodes
        if size <= _TABLE_SIZE:
            table = self.values.new_zeros(size)
            return table.scatter_reduce_(0, keys, self.values.flatten(), "amax")[asked]
        known, place = keys.unique(return_inverse=True)
        best = self.values.new_zeros(len(known))
        best.scatter_reduce_(0, place, self.values.flatten(), "amax")
        found = torch.searchsorted(known, asked).clamp_max(len(known) - 1)
        return best[found] * (known[found] == asked)


class GraphPrior:
    """Turns the neighbours of the latest history items into what an item gains over the others.

    With q the weights of the latest items (``recency_query``) and S the neighbours' scores, an item
    has g = q S. The ``num_candidates`` best items of a history gain

        weight * log((g + smoothing) / (g_next + smoothing)),

    g_next being the score of the best item that gains nothing. The item is then ranked by
    log p(ID | history) plus its gain. Of an item that never occurs in training the generator knows
    little, so the graph counts ``unknown_factor`` times as much there.
    """

    def __init__(
        self,
        neighbours: sparse.csr_array,
        *,
        num_latest: int,
        decay: float,
        weight: float,
        smoothing: float,
        num_candidates: int,
        favours_history: bool,
        known_items: npt.NDArray[np.bool_],
        unknown_factor: float,
    ) -> None:
        """Keep the settings.

        Args:
            neighbours: S, (N, N), from ``ItemGraph.neighbours``.
            num_latest: History items that count.
            decay: Weight of an item relative to the one after it.
            weight: Of the graph against the generator, in nats per e-fold of the score.
            smoothing: Score of an item that is no neighbour, above 0.
            num_candidates: Most items per history that gain, C.
            favours_history: Whether items of the history may gain; no, where nobody repeats items.
            known_items: (N,), the items that occur in training.
            unknown_factor: On the gains of all others.
        """
        self.neighbours = neighbours
        self.num_latest, self.decay = num_latest, decay
        self.weight, self.smoothing = weight, smoothing
        self.num_candidates = num_candidates
        self.favours_history = favours_history
        self.unknown_factor = unknown_factor
        self.item_weights = weight * np.where(known_items, 1.0, unknown_factor)  # (N,)

    def over(self, neighbours: sparse.csr_array, known_items: npt.NDArray[np.bool_]) -> GraphPrior:
        """The same settings for another catalogue."""
        return GraphPrior(
            neighbours,
            num_latest=self.num_latest,
            decay=self.decay,
            weight=self.weight,
            smoothing=self.smoothing,
            num_candidates=self.num_candidates,
            favours_history=self.favours_history,
            known_items=known_items,
            unknown_factor=self.unknown_factor,
        )

    def bonus(self, histories: Sequences, candidates: npt.NDArray[np.bool_] | None = None) -> Bonus:
        """The gains of B histories.

        Args:
            histories: B of them.
            candidates: (N,), the items that may be ranked; None means all.
        """
        num_items = self.neighbours.shape[0]
        query = recency_query(histories, num_items, self.num_latest, self.decay)
        found = query @ self.neighbours  # (B, N), few per row
        if not self.favours_history:
            longest = int(histories.lengths.max(initial=1))
            seen = recency_query(histories, num_items, longest, 1.0) > 0
            found = found - found.multiply(seen)
        if candidates is not None:
            found = found.multiply(candidates).tocsr()
        best, items = _largest(found, self.num_candidates + 1)  # (B, C + 1)
        logs = np.log(best + self.smoothing)
        items = items[:, :-1]
        gains = self.item_weights[items] * (logs[:, :-1] - logs[:, -1:])
        gains = np.where(items >= 0, gains, 0.0).astype(np.float32)
        return Bonus(torch.from_numpy(items), torch.from_numpy(gains))


def _largest(matrix: sparse.csr_array, count: int) -> tuple[FloatMatrix, npt.NDArray[np.int64]]:
    """The largest positive entries of each row, best first, equals in the columns' order.

    Returns: Values (B, count), 0 where there are fewer, and their columns (B, count), -1 there.
    """
    matrix.eliminate_zeros()
    matrix.sort_indices()
    lengths = np.diff(matrix.indptr)
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(row)) - np.repeat(matrix.indptr[:-1], lengths)
    shape = (len(lengths), max(count, int(lengths.max(initial=0))))
    values, columns = np.zeros(shape, np.float32), np.full(shape, -1)
    values[row, place], columns[row, place] = matrix.data, matrix.indices
    if shape[1] > count:
        kept = np.sort(np.argpartition(-values, count, axis=1)[:, :count], axis=1)
        values = np.take_along_axis(values, kept, axis=1)
        columns = np.take_along_axis(columns, kept, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(columns, order, axis=1)
