"""What moved items up after a history: which of its items, by what, and how much.

Only the pairs of the items that are explained and the latest history items are looked at.

Symbols: k items, n different history items that count, N items of the catalogue.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hidvae.features.csr import dense_rows
from hidvae.features.unit_rows import unit_rows
from hidvae.ranking.graph_score import GraphScore
from hidvae.ranking.graph_weight import CONTENT_WEIGHT, TFIDF_WEIGHT

KINDS = ("likeness", "co_occurrence", "content", "words")
"""By what a history item moves another up: the learned likeness, or a part of the item graph."""
_ROUNDING = 1e-4
"""Share of a neighbour's score that may be rounding."""


class Shares(NamedTuple):
    """What each history item has of the gains of k items."""

    sources: npt.NDArray[np.int64]
    """(n,) item_index of the history items that count, latest first, each once."""
    of_gain: npt.NDArray[np.float64]
    """(k, n, 4) by kind, in the order of ``KINDS``, in [0, 1]; the shares of an item sum to 1, or
    to 0 where nothing lifts it."""


class Reasons:
    """Shares out what item graph and likeness add to the scores of some items.

    Every pair of a history item h and an item i has four lifts, in nats (``GraphScore.lifts``): one
    by the learned likeness, and one by the item graph, which is split in proportion to what
    S_hi is made of: ``CONTENT_WEIGHT`` times the cosine of both contents, ``TFIDF_WEIGHT`` times
    that of both TF-IDF vectors, and the rest, which is co-occurrence. A share is a lift's part of
    all lifts above 0. What is below 0 holds the item back and has no share.
    """

    def __init__(
        self,
        graph: GraphScore | None,
        content: npt.NDArray[np.float32] | None = None,
        tfidf: sparse.csr_array | None = None,
    ) -> None:
        """Keep what the shares are made from.

        Args:
            graph: What adds to the scores; None where nothing does.
            content: (N, width) that the graph was built with, of any scale; None or width 0 where
                items have none.
            tfidf: (N, V) likewise.
        """
        self._graph = graph
        self._content = content if content is not None and content.shape[1] else None
        self._tfidf = tfidf if tfidf is not None and tfidf.shape[1] else None

    def shares(self, history: npt.NDArray[np.integer], items: npt.NDArray[np.integer]) -> Shares:
        """What lifts k items after a history.

        Args:
            history: (T,) item_index, oldest first, at least one.
            items: (k,) item_index.
        """
        if self._graph is None or not len(items):
            return Shares(np.zeros(0, np.int64), np.zeros((len(items), 0, len(KINDS))))
        lifts = self._graph.lifts(history, items)
        parts = self._parts_of_graph(items, lifts.sources, lifts.scores)
        by_kind = np.concatenate(
            [lifts.by_likeness[:, :, None], lifts.by_graph[:, :, None] * parts], axis=2
        ).clip(min=0.0)
        total = by_kind.sum(axis=(1, 2), keepdims=True)
        return Shares(lifts.sources, np.divide(by_kind, total, where=total > 0, out=by_kind))

    def _parts_of_graph(
        self,
        items: npt.NDArray[np.integer],
        sources: npt.NDArray[np.integer],
        scores: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """(k, n, 3) co-occurrence, content and words in the neighbours' scores (k, n), sum 1."""
        parts = np.zeros((*scores.shape, 3))
        rows, k = np.concatenate([items, sources]), len(items)
        if self._content is not None:
            vectors = self._content[rows].astype(np.float32)
            vectors = unit_rows(vectors, out=vectors)
            parts[:, :, 1] = CONTENT_WEIGHT * (vectors[:k] @ vectors[k:].T)
        if self._tfidf is not None:
            words = dense_rows(self._tfidf, rows)
            parts[:, :, 2] = TFIDF_WEIGHT * (words[:k] @ words[k:].T)
        parts[:, :, 0] = scores - parts.sum(axis=2)
        parts[parts < _ROUNDING * scores[:, :, None]] = 0.0
        total = parts.sum(axis=2, keepdims=True)
        return np.divide(parts, total, where=total > 0, out=parts)
