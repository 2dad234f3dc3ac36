"""What item graph and learned likeness add to the retriever's scores: a product of experts.

The retriever is trained alone and knows order and composition; the graph knows which items are
near, the likeness which contents follow each other. They err differently: ranking by their product
beats each by far (docs/experiments.md).

Symbols: B users, T positions, N items, L latest items, C items that gain.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor, nn

from hidvae.ranking.sparse_rows import SparseRows

# Chosen on the validation split of Amazon Beauty and not worth choosing again.
NUM_LATEST = 10
"""Latest items of a history whose neighbours count; by ``DECAY``, older ones hardly would."""
DECAY = 0.6
"""Weight of a history item relative to the one after it."""
NUM_NEIGHBOURS = 300
"""Neighbours that are kept of an item; what is near to everything says little."""


class Added(NamedTuple):
    """What some items of each user gain; all others gain nothing."""

    items: Tensor
    """(B, C + 1) item_index."""
    values: Tensor
    """(B, C + 1) at least 0, in nats."""


class Lifts(NamedTuple):
    """What n history items lift k items by; see ``GraphScore.lifts``."""

    sources: npt.NDArray[np.int64]
    """(n,) item_index of the history items that count, latest first, each once."""
    scores: npt.NDArray[np.float64]
    """(k, n) S_hi: what each is near to, 0 where it is no neighbour."""
    by_graph: npt.NDArray[np.float64]
    """(k, n) at least 0, in nats."""
    by_likeness: npt.NDArray[np.float64]
    """(k, n) in nats; below 0 where two items are unlike."""


class GraphScore(nn.Module):
    """Turns the neighbours of the latest history items into what an item gains over the others.

    With q the weights of the latest items (``recency_query``), S the neighbours' scores and E the
    vectors of the learned likeness, an item has

        t = weight * log(q S + smoothing) + likeness_weight * q E E'.

    The ``num_candidates`` best items of a history gain t - t_next, t_next being that of the best
    item that gains nothing. An item is then ranked by log p(ID | history) plus its gain. Of a cold
    item, which never occurs in training, the retriever knows little, so the graph counts
    ``cold_factor`` times as much there.
    """

    is_cold: Tensor
    """(N,) whether an item never occurs in training."""
    likeness: Tensor | None
    """(N, d) vectors of the learned likeness."""
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
        likeness: npt.NDArray[np.float32] | None = None,
        likeness_weight: float = 0.0,
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
            cold_factor: On what all others gain by the graph.
            likeness: (N, d) vectors of the learned likeness, where it counts.
            likeness_weight: In nats, of an item as like the latest history item as can be.
        """
        super().__init__()
        self.neighbours = neighbours
        self._rows = SparseRows(neighbours)
        self.weight, self.smoothing = weight, smoothing
        self.cold_factor, self.likeness_weight = cold_factor, likeness_weight
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
            "likeness_weight": likeness_weight,
        }
        buffers = {
            "is_cold": ~warm_items,
            "recency": np.power(decay, np.arange(num_latest)).astype(np.float32),
        }
        for name, array in buffers.items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)
        vectors = None if likeness is None or not likeness_weight else torch.from_numpy(likeness)
        self.register_buffer("likeness", vectors, persistent=False)

    def over(
        self,
        neighbours: sparse.csr_array,
        warm_items: npt.NDArray[np.bool_],
        likeness: npt.NDArray[np.float32] | None = None,
    ) -> GraphScore:
        """The same settings for another catalogue."""
        other = GraphScore(neighbours, warm_items=warm_items, likeness=likeness, **self._settings)
        return other.to(self.is_cold.device)

    def forward(self, history: Tensor, allowed: Tensor | None = None) -> Added:
        """What is added to the items' scores after B histories.

        Args:
            history: (B, T) item_index, oldest first, -1 on the right.
            allowed: (1, N) or (B, N), the items that may gain; None means all.
        """
        num_items = len(self.is_cold)
        latest, weight = latest_items(history, self.recency)
        by_graph = self.weight * self._log_nearness(latest, weight)  # (B, N)
        total = by_graph
        if self.likeness is not None:
            profile = (self.likeness[latest] * weight.unsqueeze(2)).sum(dim=1)  # (B, d)
            total = total + self.likeness_weight * (profile @ self.likeness.T)
            if self.favours_history:
                # That an item is like itself was never learned, and says nothing of repeats.
                itself = self.likeness[latest].square().sum(dim=2) * weight  # (B, L)
                total = total.scatter_add(1, latest, -self.likeness_weight * itself)
        floor = total.amin(dim=1, keepdim=True)
        if not self.favours_history:
            total = torch.where(contained(history, num_items), floor, total)
        if allowed is not None:
            total = torch.where(allowed, total, floor)
        missing = self.num_candidates + 1 - num_items
        if missing > 0:  # columns beyond the catalogue are as items that gain nothing
            total = torch.cat([total, floor.expand(-1, missing)], dim=1)
        best, items = total.topk(self.num_candidates + 1, dim=1, sorted=False)
        gains = best - best.amin(dim=1, keepdim=True)
        items = items.clamp_max(num_items - 1)
        if self.cold_factor != 1.0:
            of_graph = by_graph.gather(1, items)
            more = (self.cold_factor - 1.0) * (of_graph - of_graph.amin(dim=1, keepdim=True))
            gains = gains + more * (self.is_cold[items] & (gains > 0))
        return Added(items, gains)

    def lifts(self, history: npt.NDArray[np.integer], items: npt.NDArray[np.integer]) -> Lifts:
        """What each of the latest history items lifts some items by.

        An item is lifted above one that nothing in the history is near to or like, whose t is
        weight * log(smoothing). The graph lifts item i by weight * log(1 + (q S)_i / smoothing),
        ``cold_factor`` times as much where i is cold, and a history item h has the part of that
        which q_h S_hi is of (q S)_i. By likeness, h lifts i by likeness_weight * q_h E_h E_i',
        and itself by nothing. So the lifts of a warm item sum to t_i - weight * log(smoothing),
        and differ between two warm items as their gains do, as long as both gain.

        Args:
            history: (T,) item_index, oldest first, at least one; the weights q of an item that
                occurs more than once add up.
            items: (k,) item_index.
        """
        latest = history[::-1][: len(self.recency)].tolist()
        weight_of: dict[int, float] = {}
        for item, recency in zip(latest, self.recency.tolist(), strict=False):
            weight_of[item] = weight_of.get(item, 0.0) + recency
        sources = np.array(list(weight_of), dtype=np.int64)
        weights = np.array(list(weight_of.values()))
        shape = (len(items), len(sources))
        pairs = (np.tile(sources, len(items)), np.repeat(items, len(sources)))
        scores = np.asarray(self.neighbours[pairs], dtype=np.float64).reshape(shape)
        found = weights * scores  # q_h S_hi
        total = found.sum(axis=1, keepdims=True)  # (k, 1)
        is_cold = self.is_cold[torch.from_numpy(items).to(self.is_cold.device)].cpu().numpy()
        lift = self.weight * np.log1p(total / self.smoothing)
        lift[is_cold] *= self.cold_factor
        by_graph = np.divide(lift * found, total, where=total > 0, out=np.zeros_like(found))
        by_likeness = np.zeros_like(found)
        if self.likeness is not None:
            index = torch.from_numpy(np.concatenate([items, sources])).to(self.likeness.device)
            vectors = self.likeness[index].cpu().numpy()
            cosines = vectors[: len(items)] @ vectors[len(items) :].T
            is_other = sources != items[:, None]
            by_likeness = self.likeness_weight * weights * cosines * is_other
        return Lifts(sources, scores, by_graph, by_likeness)

    def _log_nearness(self, latest: Tensor, weight: Tensor) -> Tensor:
        """(B, N) log(q S + smoothing)."""
        return (self._rows.sums(latest, weight.unsqueeze(2)).squeeze(2) + self.smoothing).log()


def latest_items(history: Tensor, recency: Tensor) -> tuple[Tensor, Tensor]:
    """The latest items (B, L), latest first, and the weight of each; 0 where there is none.

    Args:
        history: (B, T) item_index, oldest first, -1 on the right.
        recency: (L,) weight of the latest item, of the one before it, and so on.
    """
    steps_back = torch.arange(len(recency), device=history.device)
    place = (history >= 0).sum(dim=1, keepdim=True) - 1 - steps_back  # (B, L)
    latest = history.gather(1, place.clamp_min(0)).clamp_min(0)
    return latest, recency * (place >= 0)


def contained(items: Tensor, num_items: int) -> Tensor:
    """(B, N) whether each item is one of B times items (B, n), -1 where there is none."""
    mask = torch.zeros(items.shape[0], num_items + 1, dtype=torch.bool, device=items.device)
    return mask.scatter(1, items.where(items >= 0, num_items), True)[:, :num_items]
