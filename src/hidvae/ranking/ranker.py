"""What the evaluator asks of everything that ranks, and a retriever that answers."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hidvae.data.interactions import Sequences
from hidvae.ranking.graph_score import GraphScore
from hidvae.ranking.reranker import Reranker
from hidvae.ranking.search import search
from hidvae.retriever.interface import Retriever

VALIDATION_BEAMS = 20
"""Enough to rank 10; the evaluation stage uses its own width."""


class Ranked(NamedTuple):
    """Ranked items of U users, best first."""

    items: npt.NDArray[np.int64]
    """(U, W) item_index, -1 where a list is shorter."""
    scores: npt.NDArray[np.floating]
    """(U, W) what they are ranked by, minus infinity where a list is shorter."""


class Ranker(Protocol):
    """Anything that ranks the catalogue for users given their histories."""

    name: str

    def rank(
        self,
        histories: Sequences,
        k: int,
        users: npt.NDArray[np.integer] | None = None,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> Ranked:
        """Rank the catalogue, or the allowed items alone, for each history.

        Args:
            histories: U histories, oldest item first; a history may be empty.
            k: Items that are wanted besides those of the history.
            users: (U,), the users' rows in the dataset, or None for users it does not know.
            allowed: (N,), the items that may be ranked; None means all. Their order is the one
                that they have in the whole catalogue.

        Returns:
            Lists of distinct items, those of the history among them, as wide as k and the longest
            history: so each holds k items besides its history, unless the items run out.
        """
        ...


class GenerativeRanker:
    """Ranks by ``search``; implements ``Ranker``."""

    def __init__(
        self,
        retriever: Retriever,
        beam_width: int,
        max_history: int,
        batch_size: int = 256,
        name: str = "hidvae",
        graph: GraphScore | None = None,
        reranker: Reranker | None = None,
    ) -> None:
        self.name = name
        self.graph, self.reranker = graph, reranker
        self.retriever = retriever
        self.beam_width = beam_width
        self.max_history = max_history
        self.batch_size = batch_size

    def rank(
        self,
        histories: Sequences,
        k: int,
        users: npt.NDArray[np.integer] | None = None,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> Ranked:
        """See ``Ranker.rank``; a history must have at least one item.

        Raises:
            DataError: If a history is empty.
        """
        found = search(
            self.retriever,
            histories,
            k,
            max_history=self.max_history,
            allowed=allowed,
            besides=histories,
            graph=self.graph,
            reranker=self.reranker,
            beam_width=self.beam_width,
            batch_size=self.batch_size,
            users=users,
        )
        return Ranked(found.items, found.scores)
