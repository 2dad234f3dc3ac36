"""A trained retriever as a ranker of the catalogue."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from hidvae.data.interactions import Sequences
from hidvae.errors import DataError
from hidvae.evaluation.ranking import Ranking, list_width, split_protocols
from hidvae.retriever.batches import reading_batches
from hidvae.retriever.beam_search import beam_search
from hidvae.retriever.interface import Retriever
from hidvae.retriever.prior import GraphPrior


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
        was_training = self.retriever.training
        self.retriever.eval()
        try:
            return self._rank(histories, top_k, user_index, candidates)
        finally:
            self.retriever.train(was_training)

    def _rank(
        self,
        histories: Sequences,
        top_k: int,
        user_index: np.ndarray | None,
        candidates: np.ndarray | None,
    ) -> Ranking:
        if histories.num_users and histories.lengths.min() == 0:
            raise DataError(
                f"history {int(histories.lengths.argmin())} is empty; the retriever needs at least "
                "one item of the catalogue to start from"
            )
        num_items = self.retriever.tables.num_items
        ranked = np.full(
            (histories.num_users, list_width(histories, top_k, num_items)), -1, dtype=np.int64
        )
        # W beams always find W candidates (or all): that many cannot fall short of top_k others.
        num_candidates = num_items if candidates is None else int(candidates.sum())
        enough = np.minimum(num_candidates, top_k + histories.lengths)
        reachable = None if candidates is None else self.retriever.tables.reachable(candidates)
        beams = max(self.beam_width, top_k)
        pending = np.arange(histories.num_users)
        while True:
            users = None if user_index is None else np.asarray(user_index)[pending]
            found = self._search(
                histories.take(pending), top_k, users, beams, candidates, reachable
            )
            ranked[pending, : found.shape[1]] = found
            ranking = split_protocols(ranked, histories, top_k, num_items)
            is_short = (ranking.excluding < 0).any(axis=1)
            pending = np.flatnonzero(is_short & (beams < enough))
            if not len(pending):
                break
            beams *= 2
        return ranking

    def _search(
        self,
        histories: Sequences,
        top_k: int,
        user_index: np.ndarray | None,
        beams: int,
        candidates: np.ndarray | None,
        reachable: list[Tensor] | None,
    ) -> np.ndarray:
        """The best items (U, W) of each history, W from ``list_width``, -1 at the end."""
        num_items = self.retriever.tables.num_items
        device = self.retriever.tables.codes.device
        width = list_width(histories, top_k, num_items)
        ranked = np.full((histories.num_users, width), -1, dtype=np.int64)
        for rows, items, users in reading_batches(
            histories, self.max_history, self.batch_size, user_index
        ):
            read = histories.take(rows)
            bonus = None if self.prior is None else self.prior.bonus(read, candidates).to(device)
            found = beam_search(
                self.retriever,
                items.to(device),
                users.to(device),
                beam_width=beams,
                num_results=list_width(read, top_k, num_items),
                reachable=reachable,
                bonus=bonus,
            )
            ranked[rows, : found.items.shape[1]] = found.items.cpu().numpy()
        return ranked
