"""Untrained baselines: popularity, a graph of content and transitions, and content alone.

Both read training histories only and need no torch. Symbols: U users, N items, E training events,
D width of the item embeddings, B users of a block.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hidvae.data.interactions import Sequences
from hidvae.errors import ConfigError, DataError, ShapeError
from hidvae.evaluation.ranking import (
    Ranking,
    check_top_k,
    list_width,
    split_protocols,
    top_items,
)
from hidvae.features.collaborative import transition_weights

FloatMatrix = npt.NDArray[np.float32]

_SCORES_PER_BLOCK = 8_000_000
"""Dense scores held at once; users are ranked in blocks of this many divided by N."""


def item_popularity(train: Sequences, num_items: int) -> npt.NDArray[np.int64]:
    """Training events per item.

    Args:
        train: Training histories, E events.
        num_items: N.

    Returns:
        (N,), sums to E.

    Raises:
        DataError: If an event's item is outside the catalogue.
    """
    if train.items.size and int(train.items.max()) >= num_items:
        raise DataError(
            f"expected items in [0, {num_items}), found {int(train.items.max())}; use the "
            "catalogue that the events were indexed with"
        )
    return np.bincount(train.items, minlength=num_items).astype(np.int64)


class Popularity:
    """Everybody gets the items with the most training events; ties go to the lower item_index."""

    def __init__(self, train: Sequences, num_items: int, name: str = "popularity") -> None:
        self.name = name
        self.popularity = item_popularity(train, num_items)  # (N,)
        self._order = np.argsort(-self.popularity, kind="stable")  # (N,)

    def rank(
        self,
        histories: Sequences,
        top_k: int,
        user_index: npt.NDArray[np.integer] | None = None,
        candidates: npt.NDArray[np.bool_] | None = None,
    ) -> Ranking:
        """The same order for every user, without their history under ``excluding``."""
        check_top_k(top_k)
        num_items = self._order.size
        order = self._order if candidates is None else self._order[candidates[self._order]]
        parts = []
        for block in _blocks(histories, list_width(histories, top_k, num_items)):
            best = order[: list_width(block, top_k, num_items)]
            ranked = np.broadcast_to(best, (block.num_users, best.size))
            parts.append(split_protocols(ranked, block, top_k, num_items))
        return _joined(parts, top_k)


class ContentGraph:
    """Neighbours of the latest history items, by training transitions and by content.

    With A the symmetric matrix of training transitions (two items of one history, at most
    ``max_distance`` steps apart, weigh 1 / distance; an item is not its own neighbour),
    S = D^-1/2 A D^-1/2, and X the L2-normalised item embeddings, a user scores

        q S + two_hop_weight q S S + content_weight q X X',

    where q weighs the latest ``num_latest`` items of the history by ``decay`` ** steps back.
    S S is never formed, and users are scored in blocks.

    Args of the constructor:
        train: Training histories.
        num_items: N.
        item_embeddings: (N, D), any scale, or None to use transitions alone.
        max_distance: Most steps between two linked items.
        two_hop_weight: Weight of paths of two transitions.
        content_weight: Weight of the cosine of the item embeddings.
        num_latest: History items that count.
        decay: Weight of an item relative to the one after it, in (0, 1].

    The defaults of ``num_latest``, ``decay`` and ``content_weight`` were chosen on the validation
    split of Amazon Beauty 2014. There, the mean cosine of two items is 0.4 and the
    mean transition weight 0.01, so weighing them equally would drown the transitions.
    """

    def __init__(
        self,
        train: Sequences,
        num_items: int,
        item_embeddings: npt.NDArray[np.floating] | None = None,
        *,
        max_distance: int = 5,
        two_hop_weight: float = 0.3,
        content_weight: float = 0.1,
        num_latest: int = 10,
        decay: float = 0.6,
        name: str = "content_graph",
    ) -> None:
        if not 0.0 < decay <= 1.0:
            raise ConfigError(f"expected decay in (0, 1], found {decay}; e.g. 0.6")
        if num_latest < 1 or max_distance < 1:
            raise ConfigError(
                "expected num_latest and max_distance of at least 1, found "
                f"{num_latest} and {max_distance}"
            )
        self.name = name
        self.num_latest, self.decay = num_latest, decay
        self.two_hop_weight, self.content_weight = two_hop_weight, content_weight
        self.transitions = normalized_transitions(train, num_items, max_distance)  # (N, N)
        self._content = None if item_embeddings is None else _unit_rows(item_embeddings, num_items)

    def rank(
        self,
        histories: Sequences,
        top_k: int,
        user_index: npt.NDArray[np.integer] | None = None,
        candidates: npt.NDArray[np.bool_] | None = None,
    ) -> Ranking:
        """Rank by the score above; an empty history scores every item 0."""
        check_top_k(top_k)
        num_items = self.transitions.shape[0]
        parts = []
        for block in _blocks(histories, num_items):
            width = list_width(block, top_k, num_items)
            best = top_items(self.scores(block), width, candidates)
            parts.append(split_protocols(best, block, top_k, num_items))
        return _joined(parts, top_k)

    def scores(self, histories: Sequences) -> FloatMatrix:
        """(B, N) scores of a block of histories, items of the history included."""
        query = self._query(histories)  # (B, N) sparse
        one_hop = query @ self.transitions
        total = one_hop.toarray()
        if self.two_hop_weight:
            total += self.two_hop_weight * (one_hop @ self.transitions).toarray()
        if self._content is not None and self.content_weight:
            profile = np.asarray(query @ self._content)  # (B, D)
            total += self.content_weight * (profile @ self._content.T)
        scores: FloatMatrix = total
        return scores

    def _query(self, histories: Sequences) -> sparse.csr_array:
        return recency_query(histories, self.transitions.shape[0], self.num_latest, self.decay)


class TextSimilarity:
    """Items whose content is like that of the latest history items, whoever bought them.

    With X the L2-normalised item embeddings and q the weights of ``ContentGraph``, the score is the
    cosine of q X to each item: the known rule for items that have no events yet.

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
        self.name = name
        self.num_latest, self.decay = num_latest, decay
        self._content = _unit_rows(item_embeddings, len(item_embeddings))

    def rank(
        self,
        histories: Sequences,
        top_k: int,
        user_index: npt.NDArray[np.integer] | None = None,
        candidates: npt.NDArray[np.bool_] | None = None,
    ) -> Ranking:
        """Rank by the score above; an empty history scores every item 0."""
        check_top_k(top_k)
        num_items = len(self._content)
        parts = []
        for block in _blocks(histories, num_items):
            query = recency_query(block, num_items, self.num_latest, self.decay)
            scores = np.asarray(query @ self._content) @ self._content.T  # cosines but for a factor
            best = top_items(scores, list_width(block, top_k, num_items), candidates)
            parts.append(split_protocols(best, block, top_k, num_items))
        return _joined(parts, top_k)


def recency_query(
    histories: Sequences, num_items: int, num_latest: int, decay: float
) -> sparse.csr_array:
    """q: (B, N), ``decay`` ** steps back for each of the latest items of B histories."""
    latest = histories.last(num_latest)
    user = np.repeat(np.arange(latest.num_users), latest.lengths)
    steps_back = np.repeat(latest.offsets[1:], latest.lengths) - 1 - np.arange(user.size)
    weight = np.power(decay, steps_back).astype(np.float32)
    shape = (latest.num_users, num_items)
    return sparse.coo_array((weight, (user, latest.items)), shape=shape).tocsr()


def normalized_transitions(train: Sequences, num_items: int, max_distance: int) -> sparse.csr_array:
    """Symmetric, degree-normalised matrix of training transitions, D^-1/2 A D^-1/2.

    Args:
        train: Training histories.
        num_items: N.
        max_distance: Items of one history that are d <= ``max_distance`` steps apart add 1 / d.

    Returns:
        (N, N) float32, zero diagonal; empty rows for items without a transition.

    Raises:
        DataError: If an event's item is outside the catalogue.
    """
    item_popularity(train, num_items)  # refuses unknown items
    both_ways = transition_weights(train, num_items=num_items, window=max_distance)
    degree = np.asarray(both_ways.sum(axis=1)).reshape(-1)
    scale = np.zeros_like(degree)
    np.divide(1.0, np.sqrt(degree), out=scale, where=degree > 0)
    normalized = sparse.diags_array(scale) @ both_ways @ sparse.diags_array(scale)
    return normalized.tocsr().astype(np.float32)


def _unit_rows(embeddings: npt.NDArray[np.floating], num_items: int) -> FloatMatrix:
    """Rows scaled to length 1; a zero row stays zero and is similar to nothing."""
    if embeddings.ndim != 2 or embeddings.shape[0] != num_items:
        raise ShapeError(
            f"expected item embeddings of shape ({num_items}, D), found {embeddings.shape}; use "
            "the embeddings of the same catalogue"
        )
    matrix = embeddings.astype(np.float32)
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return (matrix / np.where(length > 0, length, 1.0)).astype(np.float32)


def _blocks(histories: Sequences, width: int) -> Iterator[Sequences]:
    """The histories in blocks small enough for ``width`` scores per user."""
    size = max(1, _SCORES_PER_BLOCK // max(1, width))
    for start in range(0, histories.num_users, size):
        yield histories.take(np.arange(start, min(start + size, histories.num_users)))


def _joined(parts: list[Ranking], top_k: int) -> Ranking:
    none = np.empty((0, top_k), dtype=np.int64)
    return Ranking(
        including=np.concatenate([none, *(part.including for part in parts)]),
        excluding=np.concatenate([none, *(part.excluding for part in parts)]),
    )
