"""What the item graph adds to the retriever's scores: a product of two experts.

The retriever is trained alone and knows order and composition; the graph knows which items are
near. They err differently: ranking by their product beats either by far (docs/experiments.md).

Symbols: B users, T positions, N items, L latest items, C items that gain.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn


class Added(NamedTuple):
    """What some items of each user gain; all others gain nothing."""

    items: Tensor
    """(B, C + 1) item_index."""
    values: Tensor
    """(B, C + 1) at least 0, in nats."""


class GraphScore(nn.Module):
    """Turns the neighbours of the latest history items into what an item gains over the others.

    With q the weights of the latest items (``recency_query``) and S the neighbours' scores, an item
    has g = q S. The ``num_candidates`` best items of a history gain

        weight * log((g + smoothing) / (g_next + smoothing)),

    g_next being the score of the best item that gains nothing. The item is then ranked by
    log p(ID | history) plus its gain. Of a cold item, which never occurs in training, the retriever
    knows little, so the graph counts ``cold_factor`` times as much there.
    """

    start: Tensor
    """(N + 1,) where the neighbours of each item start."""
    near: Tensor
    """(E,) item_index of the neighbours, side by side for each item."""
    scores: Tensor
    """(E,) their scores."""
    weights: Tensor
    """(N,) nats per e-fold of the score."""
    recency: Tensor
    """(L,) weight of the latest item, of the one before it, and so on."""

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
        warm_items: npt.NDArray[np.bool_],
        cold_factor: float,
    ) -> None:
        """Keep the settings.

        Args:
            neighbours: S, (N, N), from ``ItemGraph.neighbours``.
            num_latest: History items that count, L.
            decay: Weight of an item relative to the one after it.
            weight: Of the graph against the retriever, in nats per e-fold of the score.
            smoothing: Score of an item that is no neighbour, above 0.
            num_candidates: Most items per history that gain, C.
            favours_history: Whether items of the history may gain; no, where nobody repeats items.
            warm_items: (N,), the items that occur in training.
            cold_factor: On what all others gain.
        """
        super().__init__()
        self.neighbours = neighbours
        self.weight, self.smoothing = weight, smoothing
        self.num_candidates = num_candidates
        self.favours_history = favours_history
        self._settings: dict[str, Any] = {
            "num_latest": num_latest,
            "decay": decay,
            "weight": weight,
            "smoothing": smoothing,
            "num_candidates": num_candidates,
            "favours_history": favours_history,
            "cold_factor": cold_factor,
        }
        buffers = {
            "start": neighbours.indptr.astype(np.int64),
            "near": neighbours.indices,
            "scores": neighbours.data.astype(np.float32, copy=False),
            "weights": weight * np.where(warm_items, 1.0, cold_factor).astype(np.float32),
            "recency": np.power(decay, np.arange(num_latest)).astype(np.float32),
        }
        for name, array in buffers.items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)
        self._most_neighbours = int(np.diff(neighbours.indptr).max(initial=0))

    def over(self, neighbours: sparse.csr_array, warm_items: npt.NDArray[np.bool_]) -> GraphScore:
        """The same settings for another catalogue."""
        other = GraphScore(neighbours, warm_items=warm_items, **self._settings)
        return other.to(self.start.device)

    def forward(self, history: Tensor, allowed: Tensor | None = None) -> Added:
        """What is added to the items' scores after B histories.

        Args:
            history: (B, T) item_index, oldest first, -1 on the right.
            allowed: (1, N) or (B, N), the items that may gain; None means all.
        """
        num_items = len(self.start) - 1
        near, scores = self._neighbours_of(history)
        # The last column takes what is no item.
        found = scores.new_zeros(history.shape[0], num_items + 1).scatter_add(1, near, scores)
        if not self.favours_history:
            found = found.scatter(1, history.where(history >= 0, num_items), 0.0)
        found = found[:, :num_items]
        if allowed is not None:
            found = found * allowed
        missing = self.num_candidates + 1 - num_items
        if missing > 0:  # columns beyond the catalogue score 0, as items that gain nothing do
            found = F.pad(found, (0, missing))
        best, items = found.topk(self.num_candidates + 1, dim=1, sorted=False)
        items = items.clamp_max(num_items - 1)
        logs = (best + self.smoothing).log()
        return Added(items, self.weights[items] * (logs - logs.amin(dim=1, keepdim=True)))

    def _neighbours_of(self, history: Tensor) -> tuple[Tensor, Tensor]:
        """Neighbours (B, n) of the latest items and what each adds to q S; repeats add up."""
        steps_back = torch.arange(len(self.recency), device=history.device)
        place = (history >= 0).sum(dim=1, keepdim=True) - 1 - steps_back  # (B, L)
        latest = history.gather(1, place.clamp_min(0)).clamp_min(0)
        first, end = self.start[latest].unsqueeze(2), self.start[latest + 1].unsqueeze(2)
        # The shapes of an exported program may not depend on the items.
        is_exporting = torch.compiler.is_exporting()
        most = (
            self._most_neighbours if is_exporting else int((end - first).max()) if len(end) else 0
        )
        entry = first + torch.arange(most, device=history.device)  # (B, L, most)
        weight = (self.recency * (place >= 0)).unsqueeze(2) * (entry < end)
        entry = entry.clamp_max(max(0, len(self.near) - 1))
        return self.near[entry].long().flatten(1), (self.scores[entry] * weight).flatten(1)
