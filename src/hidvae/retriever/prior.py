"""What the item graph adds to the generator's scores at decoding: a product of two experts.

The generator is trained alone and knows order and composition; the graph knows which items are
near. They err differently: ranking by their product beats either by far (docs/experiments.md).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hidvae.data.interactions import Sequences
from hidvae.evaluation.ranking import top_items
from hidvae.features.item_graph import ItemGraph
from hidvae.retriever.catalogue_tables import CatalogueTables


class Bonus(NamedTuple):
    """What some items of each user gain; all others gain nothing."""

    items: Tensor
    """(B, C) item_index, -1 where there is none."""
    values: Tensor
    """(B, C) at least 0, in nats; 0 where there is no item."""

    def to(self, device: torch.device) -> Bonus:
        """The same on a device."""
        return Bonus(self.items.to(device), self.values.to(device))

    def of_children(
        self, tables: CatalogueTables, depth: int, users: Tensor, nodes: Tensor
    ) -> Tensor:
        """The largest bonus below each node, which is what a prefix can still gain.

        Args:
            tables: Of the catalogue.
            depth: Of the nodes, at least 1.
            users: (n,) row of this batch that each node is looked at for.
            nodes: (n,) node numbers.

        Returns: (n,).
        """
        node_of_item = tables.nodes_of_items[depth]
        num_nodes = tables.num_nodes(depth)
        row = torch.arange(len(self.items), device=self.items.device).unsqueeze(1)
        keys = (row * num_nodes + node_of_item[self.items.clamp_min(0)]).flatten()
        known, place = keys.unique(return_inverse=True)
        best = self.values.new_zeros(len(known))
        best.scatter_reduce_(0, place, self.values.flatten(), "amax")
        asked = users * num_nodes + nodes
        found = torch.searchsorted(known, asked).clamp_max(len(known) - 1)
        return best[found] * (known[found] == asked)


class GraphPrior:
    """Turns an item graph's scores g into what an item gains over the rest of the catalogue.

    Of the ``num_candidates`` best items of a history, each gains

        weight * log((g + smoothing) / (g_last + smoothing)),

    g_last being the least of these scores, so that the gain falls to 0 at the last one. The item is
    then ranked by log p(ID | history) plus its gain. Of an item that never occurs in training the
    generator knows little, so the graph counts ``unknown_factor`` times as much there.
    """

    def __init__(
        self,
        graph: ItemGraph,
        weight: float,
        smoothing: float,
        num_candidates: int,
        favours_history: bool,
        known_items: npt.NDArray[np.bool_],
        unknown_factor: float,
    ) -> None:
        """Keep the settings.

        Args:
            graph: Of the training histories.
            weight: Of the graph against the generator, in nats per e-fold of the score.
            smoothing: Score of an item that is no neighbour, above 0.
            num_candidates: Items per history that gain, C.
            favours_history: Whether items of the history may gain; no, where nobody repeats items.
            known_items: (N,), the items that occur in training.
            unknown_factor: On the gains of all others.
        """
        self.graph = graph
        self.weight, self.smoothing = weight, smoothing
        self.num_candidates = num_candidates
        self.favours_history = favours_history
        self._factor = np.where(known_items, 1.0, unknown_factor)  # (N,)

    def bonus(self, histories: Sequences, candidates: npt.NDArray[np.bool_] | None = None) -> Bonus:
        """The gains of B histories.

        Args:
            histories: B of them.
            candidates: (N,), the items that may be ranked; None means all.
        """
        scores = self.graph.scores(histories)
        if not self.favours_history:
            rows = np.repeat(np.arange(histories.num_users), histories.lengths)
            scores[rows, histories.items] = -np.inf
        items = top_items(scores, self.num_candidates, candidates)  # (B, C), best first
        best = np.where(items >= 0, np.take_along_axis(scores, np.maximum(items, 0), axis=1), 0.0)
        logs = np.log(np.maximum(best, 0.0) + self.smoothing)
        last = np.where(items >= 0, logs, np.inf).min(axis=1, keepdims=True)
        gains = np.where(items >= 0, self.weight * self._factor[items] * (logs - last), 0.0)
        return Bonus(torch.from_numpy(items), torch.from_numpy(gains.astype(np.float32)))
