"""A trained retriever as a ranker of the catalogue."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from hidvae.data.interactions import Sequences
from hidvae.errors import DataError
from hidvae.ranking.beam_search import beam_search
from hidvae.ranking.graph_score import GraphPrior
from hidvae.ranking.lists import (
    PADDING,
    Ranking,
    is_in_history,
    list_width,
    split_protocols,
)
from hidvae.retriever.batches import reading_batches
from hidvae.retriever.interface import Retriever

VALIDATION_BEAMS = 20
"""Enough to rank 10; the evaluation stage uses its own width."""


class GenerativeRanker:
    """Ranks by beam search; one search serves both history protocols.

    Implements ``evaluation.Ranker``. The last step of the search keeps enough items that the
    history can be left out. Where the beams held too few others, those users are searched again
    with twice the beams, so that lists are short only if the items run out.
    """

    def __init__(
        self,
        retriever: Retriever,
        beam_width: int,
        max_history: int,
        batch_size: int = 256,
        name: str = "hidvae",
        prior: GraphPrior | None = None,
    ) -> None:
        self.name = name
        self.prior = prior
        self.retriever = retriever
        self.beam_width = beam_width
        self.max_history = max_history
        self.batch_size = batch_size

    def rank(
        self,
        histories: Sequences,
        top_k: int,
        user_index: np.ndarray | None,
        candidates: np.ndarray | None = None,
    ) -> Ranking:
        """See ``evaluation.Ranker.rank``; a history must have at least one item.

        Raises:
            DataError: If a history is empty.
        """
        ranked, _ = self._wide(histories, top_k, user_index, candidates)
        num_items = self.retriever.tables.num_items
        return split_protocols(ranked, histories, top_k, num_items)

    def best(
        self,
        histories: Sequences,
        k: int,
        *,
        exclude_history: bool = True,
        candidates: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items of U unknown users and what they are ranked by.

        Args:
            histories: U of them, of at least one item each.
            k: Length of the lists.
            exclude_history: Leave the history's own items out.
            candidates: (N,), the items that may be listed; None means all.

        Returns: Items (U, k) item_index and scores (U, k), best first, -1 and -inf where a list is
            shorter because the items run out.

        Raises:
            DataError: If a history is empty.
        """
        ranked, scores = self._wide(histories, k, None, candidates)
        is_left_out = ranked < 0
        if exclude_history:
            is_left_out |= is_in_history(ranked, histories, self.retriever.tables.num_items)
        # A stable sort of "left out" moves the kept items to the front in their order.
        order = np.argsort(is_left_out, axis=1, kind="stable")[:, :k]
        kept = ~np.take_along_axis(is_left_out, order, axis=1)
        items, of_items = (np.take_along_axis(of, order, axis=1) for of in (ranked, scores))
        found = (
            np.full((histories.num_users, k), PADDING),
            np.full((histories.num_users, k), -np.inf),
        )
        found[0][:, : items.shape[1]] = np.where(kept, items, PADDING)
        found[1][:, : items.shape[1]] = np.where(kept, of_items, -np.inf)
        return found

    def _wide(
        self,
        histories: Sequences,
        top_k: int,
        user_index: np.ndarray | None,
        candidates: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Items and scores (U, W), W from ``list_width``: enough for ``top_k`` without history."""
        if histories.num_users and histories.lengths.min() == 0:
            raise DataError(
                f"history {int(histories.lengths.argmin())} is empty; the retriever needs at least "
                "one item of the catalogue to start from"
            )
        num_items = self.retriever.tables.num_items
        shape = (histories.num_users, list_width(histories, top_k, num_items))
        ranked, scores = np.full(shape, PADDING), np.full(shape, -np.inf, np.float32)
        # W beams always find W candidates (or all): that many cannot fall short of top_k others.
        num_candidates = num_items if candidates is None else int(candidates.sum())
        enough = np.minimum(num_candidates, top_k + histories.lengths)
        reachable = None if candidates is None else self.retriever.tables.reachable(candidates)
        beams = max(self.beam_width, top_k)
        pending = np.arange(histories.num_users)
        while len(pending):
            users = None if user_index is None else np.asarray(user_index)[pending]
            waiting = histories.take(pending)
            with _evaluation_mode(self.retriever):
                for rows, found, found_scores in self._search(
                    waiting, top_k, users, beams, candidates, reachable
                ):
                    ranked[pending[rows], : found.shape[1]] = found
                    scores[pending[rows], : found.shape[1]] = found_scores
            excluding = split_protocols(ranked[pending], waiting, top_k, num_items).excluding
            is_short = (excluding < 0).any(axis=1)
            pending = pending[is_short & (beams < enough[pending])]
            beams *= 2
        return ranked, scores

    def _search(
        self,
        histories: Sequences,
        top_k: int,
        user_index: np.ndarray | None,
        beams: int,
        candidates: np.ndarray | None,
        reachable: list[Tensor] | None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Search in batches.

        Yields: Rows (B,) of ``histories``, their best items (B, w) and the scores (B, w) of these.
        """
        device = self.retriever.tables.codes.device
        for rows, items, users in reading_batches(
            histories, self.max_history, self.batch_size, user_index
        ):
            read = histories.take(rows)
            found = beam_search(
                self.retriever,
                items.to(device),
                users.to(device),
                beam_width=beams,
                num_results=list_width(read, top_k, self.retriever.tables.num_items),
                reachable=reachable,
                bonus=None if self.prior is None else self.prior.bonus(read, candidates).to(device),
            )
            yield rows, found.items.cpu().numpy(), found.scores.cpu().numpy()


@contextlib.contextmanager
def _evaluation_mode(retriever: Retriever) -> Iterator[None]:
    """Within the block nothing is dropped out; afterwards the mode is as before."""
    was_training = retriever.training
    retriever.eval()
    try:
        yield
    finally:
        retriever.train(was_training)
