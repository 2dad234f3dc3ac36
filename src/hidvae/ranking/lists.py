"""What every recommender hands to the evaluator: ranked item indices under both protocols.

``including`` may rank items of the history again, ``excluding`` never does. Both come from one
ranking pass, because the second is the first with the history left out. Symbols: U users,
N items, W positions of a wide list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hidvae.data.interactions import Sequences
from hidvae.errors import ConfigError, ShapeError

IndexArray = npt.NDArray[np.int64]

PADDING = -1


@dataclass(frozen=True)
class Ranking:
    """Ranked lists of some users, best first, -1 where a list is shorter."""

    including: IndexArray
    """(U, top_k) item_index; items of the history may be ranked."""
    excluding: IndexArray
    """(U, top_k) item_index; items of the history are left out."""


class Ranker(Protocol):
    """Anything that ranks the catalogue for users given their histories."""

    name: str

    def rank(
        self,
        histories: Sequences,
        top_k: int,
        user_index: npt.NDArray[np.integer] | None,
        candidates: npt.NDArray[np.bool_] | None = None,
    ) -> Ranking:
        """Rank the catalogue, or the candidates alone, for each history.

        Args:
            histories: U histories, oldest item first; a history may be empty.
            top_k: Length of the lists.
            user_index: (U,), the users' rows in the dataset, or None for users it does not know.
            candidates: (N,), the items that may be ranked; None means all. The order of the
                candidates is the one that they have in the whole catalogue.

        Returns:
            Lists of distinct item indices; shorter than ``top_k`` only if the items run out.
        """
        ...


def history_keys(histories: Sequences, num_items: int) -> IndexArray:
    """One sorted integer per distinct (user, item) pair of the histories: u * N + item."""
    user = np.repeat(np.arange(histories.num_users, dtype=np.int64), histories.lengths)
    return np.unique(user * num_items + histories.items)


def is_in_history(
    ranked: npt.NDArray[np.integer], histories: Sequences, num_items: int
) -> npt.NDArray[np.bool_]:
    """Whether each ranked item is in that user's history; False for padding and invalid ids.

    Args:
        ranked: (U, W), item_index, -1 padding.
        histories: U histories.
        num_items: N.

    Returns:
        (U, W).
    """
    user = np.arange(ranked.shape[0], dtype=np.int64)[:, None]
    is_item = (ranked >= 0) & (ranked < num_items)
    keys = np.where(is_item, user * num_items + ranked, -1)
    return np.isin(keys, history_keys(histories, num_items))


def list_width(histories: Sequences, top_k: int, num_items: int) -> int:
    """Positions W to rank so that ``top_k`` are left after any of these histories is excluded."""
    check_top_k(top_k)
    longest = int(histories.lengths.max()) if histories.num_users else 0
    return min(num_items, top_k + longest)


def split_protocols(
    ranked: npt.NDArray[np.integer], histories: Sequences, top_k: int, num_items: int
) -> Ranking:
    """Make both protocols from one wide ranking.

    Args:
        ranked: (U, W), item_index best first, -1 padding at the end; W from ``list_width``.
        histories: U histories.
        top_k: Length of the lists.
        num_items: N.

    Raises:
        ShapeError: If ``ranked`` and ``histories`` disagree on U.
    """
    check_top_k(top_k)
    if ranked.shape[0] != histories.num_users:
        raise ShapeError(
            f"expected one ranked list per history ({histories.num_users}), found "
            f"{ranked.shape[0]}; rank the same users"
        )
    is_left_out = is_in_history(ranked, histories, num_items) | (ranked < 0)
    # A stable sort of "left out" moves the kept items to the front without changing their order.
    order = np.argsort(is_left_out, axis=1, kind="stable")[:, :top_k]
    kept = np.where(
        np.take_along_axis(is_left_out, order, axis=1),
        PADDING,
        np.take_along_axis(ranked, order, axis=1),
    )
    return Ranking(_widened(ranked[:, :top_k], top_k), _widened(kept, top_k))


def top_items(
    scores: npt.NDArray[np.floating],
    width: int,
    candidates: npt.NDArray[np.bool_] | None = None,
) -> IndexArray:
    """The best items of each row of scores; equal scores are ordered by item_index.

    Args:
        scores: (U, N), higher is better; -inf means never.
        width: W, items wanted per row.
        candidates: (N,), the items that may be ranked; None means all.

    Returns:
        (U, min(W, N)), best first, -1 where only -inf is left.
    """
    num_users, num_items = scores.shape
    if candidates is not None:
        scores = np.where(candidates, scores, -np.inf)
    width = min(width, num_items)
    if width == 0 or num_users == 0:
        return np.full((num_users, width), PADDING, dtype=np.int64)
    worst_kept = np.partition(scores, num_items - width, axis=1)[:, num_items - width]  # (U,)
    row, item = np.nonzero(scores >= worst_kept[:, None])  # at least W per row, more at ties
    order = np.lexsort((item, -scores[row, item], row))
    first_of_row = np.searchsorted(row, np.arange(num_users))
    position = first_of_row[:, None] + np.arange(width)  # (U, W)
    best = item[order][position]
    is_never = np.isneginf(np.take_along_axis(scores, best, axis=1))
    return np.where(is_never, PADDING, best).astype(np.int64)


def check_top_k(top_k: int) -> None:
    """Refuse list lengths below 1.

    Raises:
        ConfigError: If ``top_k`` is below 1.
    """
    if top_k < 1:
        raise ConfigError(f"expected top_k of at least 1, found {top_k}; ask for e.g. 10 items")


def _widened(ranked: npt.NDArray[np.integer], top_k: int) -> IndexArray:
    """The lists with -1 appended up to ``top_k`` positions."""
    wide = np.full((ranked.shape[0], top_k), PADDING, dtype=np.int64)
    wide[:, : ranked.shape[1]] = ranked
    return wide
