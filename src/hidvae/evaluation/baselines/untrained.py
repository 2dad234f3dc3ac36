"""Untrained baselines: popularity, a graph of transitions and content, and content alone.

They read training histories only. Symbols: U users, N items, E training events,
D width of the item embeddings, B users of a block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hidvae.data.interactions import Sequences, count_items
from hidvae.features.item_graph import ItemGraph, check_items_known, recency_query, unit_embeddings
from hidvae.ranking.ranker import Ranked
from hidvae.ranking.search import top_items

_SCORES_PER_BLOCK = 8_000_000
"""Dense scores held at once; users are ranked in blocks of this many divided by N."""


class Popularity:
    """Everybody gets the items with the most training events; ties go to the lower item_index."""

    def __init__(self, train: Sequences, num_items: int, name: str = "popularity") -> None:
        self.name = name
        check_items_known(train, num_items)
        self.popularity = count_items(train, num_items)  # (N,)

    def rank(
        self,
        histories: Sequences,
        k: int,
        users: npt.NDArray[np.integer] | None = None,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> Ranked:
        """See ``Ranker.rank``; the same order for every user."""
        one = self.popularity[None].astype(np.float32)
        items, scores = top_items(one, k + int(histories.lengths.max(initial=0)), allowed)
        shape = (histories.num_users, items.shape[1])
        return Ranked(np.broadcast_to(items, shape), np.broadcast_to(scores, shape))


class ByScore(ABC):
    """Ranks by the scores of all items, in blocks of users; a subclass gives the scores."""

    name: str
    num_items: int

    @abstractmethod
    def scores(self, histories: Sequences) -> npt.NDArray[np.float32]:
        """(B, N) scores of a block of histories, items of the history included."""

    def rank(
        self,
        histories: Sequences,
        k: int,
        users: npt.NDArray[np.integer] | None = None,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> Ranked:
        """See ``Ranker.rank``; an empty history scores every item 0."""
        width = k + int(histories.lengths.max(initial=0))
        size = max(1, _SCORES_PER_BLOCK // self.num_items)
        parts = [(np.empty((0, width), np.int64), np.empty((0, width), np.float32))]
        for start in range(0, histories.num_users, size):
            block = histories.take(np.arange(start, min(start + size, histories.num_users)))
            parts.append(top_items(self.scores(block), width, allowed))
        return Ranked(*map(np.concatenate, zip(*parts, strict=True)))


class ContentGraph(ByScore):
    """Neighbours of the latest history items, by co-occurrence, content and TF-IDF (``ItemGraph``).

    The defaults were chosen on the validation split of Amazon Beauty 2014, for the graph alone.
    There, the mean cosine of two items' content is 0.4 and the mean transition weight 0.01, so
    weighing them equally would drown the transitions.
    """

    def __init__(
        self,
        train: Sequences,
        num_items: int,
        item_embeddings: npt.NDArray[np.floating] | None = None,
        tfidf: sparse.csr_array | None = None,
        *,
        max_distance: int = 5,
        two_hop_weight: float = 4.0,
        content_weight: float = 0.05,
        word_weight: float = 0.1,
        num_latest: int = 10,
        decay: float = 0.6,
        name: str = "content_graph",
    ) -> None:
        self.name, self.num_items = name, num_items
        self.graph = ItemGraph(
            train,
            num_items,
            item_embeddings,
            tfidf,
            max_distance=max_distance,
            two_hop_weight=two_hop_weight,
            content_weight=content_weight,
            word_weight=word_weight,
            num_latest=num_latest,
            decay=decay,
        )

    def scores(self, histories: Sequences) -> npt.NDArray[np.float32]:
        """(B, N) of the graph."""
        return self.graph.scores(histories)


class TextSimilarity(ByScore):
    """Items whose content is like that of the latest history items, whoever bought them.

    With X the L2-normalised item embeddings and q the weights of ``ItemGraph``, the score is the
    cosine of q X to each item, but for a factor: the known rule for items that have no events yet.

    Args of the constructor:
        item_embeddings: (N, D), any scale.
        num_latest: History items that count.
        decay: Weight of an item relative to the one after it, in (0, 1].
    """

    def __init__(
        self,
        item_embeddings: npt.NDArray[np.floating],
        *,
        num_latest: int = 10,
        decay: float = 0.6,
        name: str = "text_similarity",
    ) -> None:
        self.name, self.num_items = name, len(item_embeddings)
        self.num_latest, self.decay = num_latest, decay
        self._content = unit_embeddings(item_embeddings, self.num_items)

    def scores(self, histories: Sequences) -> npt.NDArray[np.float32]:
        """(B, N) of q X X'."""
        query = recency_query(histories, self.num_items, self.num_latest, self.decay)
        scores: npt.NDArray[np.float32] = np.asarray(query @ self._content) @ self._content.T
        return scores
