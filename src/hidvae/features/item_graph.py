"""How near every item is to a history: by transitions, by content and by common words.

Nothing here is trained; it reads training histories and the catalogue. Symbols: U users, N items,
D width of the item embeddings, B users of a block.
"""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hidvae.data.interactions import Sequences
from hidvae.errors import ConfigError, DataError, ShapeError
from hidvae.features.cooccurrence import cooccurrence_weights
from hidvae.features.unit_rows import unit_rows

_ITEMS_PER_BLOCK = 512

FloatMatrix = npt.NDArray[np.float32]


class ItemGraph:
    """Neighbours of the latest history items.

    With A the symmetric matrix of training co-occurrences (two items of one history, at most
    ``max_distance`` steps apart, weigh 1 / distance; an item is not its own neighbour),
    S = D^-1/2 A D^-1/2, X the L2-normalised item embeddings and V the items' TF-IDF vectors, a user
    scores

        q S + two_hop_weight q S S + content_weight q X X' + word_weight q V V',

    where q weighs the latest ``num_latest`` items of the history by ``decay`` ** steps back.
    S S is never formed.

    Args of the constructor:
        train: Training histories.
        num_items: N.
        item_embeddings: (N, D), any scale, or None to leave content out.
        tfidf: (N, V) TF-IDF vectors of the texts, or None to leave them out.
        max_distance: Most steps between two linked items.
        two_hop_weight: Weight of paths of two transitions.
        content_weight: Weight of the cosine of the item embeddings.
        word_weight: Weight of the cosine of the TF-IDF vectors.
        num_latest: History items that count.
        decay: Weight of an item relative to the one after it, in (0, 1].
    """

    def __init__(
        self,
        train: Sequences,
        num_items: int,
        item_embeddings: npt.NDArray[np.floating] | None = None,
        tfidf: sparse.csr_array | None = None,
        *,
        max_distance: int,
        two_hop_weight: float,
        content_weight: float,
        word_weight: float = 0.0,
        num_latest: int,
        decay: float,
    ) -> None:
        if not 0.0 < decay <= 1.0:
            raise ConfigError(f"expected decay in (0, 1], found {decay}; e.g. 0.6")
        if num_latest < 1 or max_distance < 1:
            raise ConfigError(
                "expected num_latest and max_distance of at least 1, found "
                f"{num_latest} and {max_distance}"
            )
        self.num_items = num_items
        self.num_latest, self.decay = num_latest, decay
        self.two_hop_weight, self.content_weight = two_hop_weight, content_weight
        self.word_weight = word_weight
        self.cooccurrence = normalized_cooccurrence(train, num_items, max_distance)  # (N, N)
        self._content = (
            None if item_embeddings is None else unit_embeddings(item_embeddings, num_items)
        )
        self._tfidf = tfidf

    def over(
        self,
        num_items: int,
        item_embeddings: npt.NDArray[np.floating] | None,
        tfidf: sparse.csr_array | None,
    ) -> ItemGraph:
        """The same transitions among other contents, of as many items or more.

        Args:
            num_items: M, at least N; items beyond N have no transitions.
            item_embeddings: (M, D).
            tfidf: (M, V).
        """
        other = copy.copy(self)
        other.num_items = num_items
        other.cooccurrence = self.cooccurrence.copy()
        other.cooccurrence.resize(other.num_items, other.num_items)
        other._content = None
        if item_embeddings is not None:
            other._content = unit_embeddings(item_embeddings, other.num_items)
        other._tfidf = tfidf
        return other

    def neighbours(self, count: int) -> sparse.csr_array:
        """The nearest items of every item, by the score of a history that holds it alone.

        Args:
            count: Most neighbours of an item, K.

        Returns:
            (N, N) float32 with at most K positive scores per row, columns ascending.
        """
        blocks = []
        for start in range(0, self.num_items, _ITEMS_PER_BLOCK):
            stop = min(start + _ITEMS_PER_BLOCK, self.num_items)
            items = np.arange(start, stop, dtype=np.int32)
            scores = self.scores(Sequences(items, np.arange(len(items) + 1)))  # (b, N)
            if count < self.num_items:
                nearest = np.sort(np.argpartition(-scores, count, axis=1)[:, :count], axis=1)
            else:
                nearest = np.broadcast_to(np.arange(self.num_items), scores.shape)
            kept = np.maximum(np.take_along_axis(scores, nearest, axis=1), 0.0)
            starts = np.arange(len(items) + 1) * nearest.shape[1]
            shape = (len(items), self.num_items)
            block = sparse.csr_array((kept.ravel(), nearest.ravel(), starts), shape=shape)
            block.eliminate_zeros()
            blocks.append(block)
        return sparse.vstack(blocks, format="csr") if blocks else sparse.csr_array((0, 0))

    def scores(self, histories: Sequences) -> FloatMatrix:
        """(B, N) scores of a block of histories, items of the history included."""
        query = recency_query(histories, self.num_items, self.num_latest, self.decay)
        one_hop = query @ self.cooccurrence
        total = one_hop.toarray()
        if self.two_hop_weight:
            total += self.two_hop_weight * (one_hop @ self.cooccurrence).toarray()
        if self._content is not None and self.content_weight:
            profile = np.asarray(query @ self._content)  # (B, D)
            total += self.content_weight * (profile @ self._content.T)
        if self._tfidf is not None and self.word_weight:
            profile = (query @ self._tfidf).toarray()  # (B, V)
            total += self.word_weight * (self._tfidf @ profile.T).T
        scores: FloatMatrix = total
        return scores


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


def normalized_cooccurrence(
    train: Sequences, num_items: int, max_distance: int
) -> sparse.csr_array:
    """Symmetric, degree-normalised matrix of training co-occurrences, D^-1/2 A D^-1/2.

    Args:
        train: Training histories.
        num_items: N.
        max_distance: Items of one history that are d <= ``max_distance`` steps apart add 1 / d.

    Returns:
        (N, N) float32, zero diagonal; empty rows for items without a transition.

    Raises:
        DataError: If an event's item is outside the catalogue.
    """
    check_items_known(train, num_items)
    both_ways = cooccurrence_weights(train, num_items=num_items, window=max_distance)
    degree = np.asarray(both_ways.sum(axis=1)).reshape(-1)
    scale = np.zeros_like(degree)
    np.divide(1.0, np.sqrt(degree), out=scale, where=degree > 0)
    normalized = sparse.diags_array(scale) @ both_ways @ sparse.diags_array(scale)
    return normalized.tocsr().astype(np.float32)


def check_items_known(histories: Sequences, num_items: int) -> None:
    """Refuse events of items outside the catalogue.

    Raises:
        DataError: If there is one.
    """
    if histories.items.size and int(histories.items.max()) >= num_items:
        raise DataError(
            f"expected items in [0, {num_items}), found {int(histories.items.max())}; use the "
            "catalogue that the events were indexed with"
        )


def unit_embeddings(embeddings: npt.NDArray[np.floating], num_items: int) -> FloatMatrix:
    """Item embeddings as float32 rows of length 1.

    Raises:
        ShapeError: If there is not one row per item.
    """
    if embeddings.ndim != 2 or embeddings.shape[0] != num_items:
        raise ShapeError(
            f"expected item embeddings of shape ({num_items}, D), found {embeddings.shape}; use "
            "the embeddings of the same catalogue"
        )
    matrix = embeddings.astype(np.float32)
    return unit_rows(matrix, out=matrix)
