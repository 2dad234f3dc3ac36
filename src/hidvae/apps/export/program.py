"""The retriever with its search as one graph of tensor operations, which torch alone can run.

It traces ``best_items``, the core of every search in the package, ``GraphScore`` and ``Reranker``;
what is left to do here is to read a history that stands in a tensor. So all architectures can be
exported.

Symbols: B users, T positions, N items, k items of a list.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from hidvae.errors import ConfigError
from hidvae.ranking.graph_score import contained
from hidvae.ranking.recommender import Recommender
from hidvae.ranking.search import PADDING, Asked, best_items
from hidvae.retriever.item_softmax import ItemSoftmax

LONGEST_HISTORY = 250
"""Most items of a history that a program takes, unless told otherwise."""


def build_program(
    recommender: Recommender, k: int, longest_history: int = LONGEST_HISTORY
) -> ExportedProgram:
    """The graph of ``Program``, for any number of users.

    Args:
        recommender: On the CPU.
        k: Length of the lists.
        longest_history: Most items that it takes.

    Raises:
        ConfigError: If a number is out of range.
    """
    for name, value, least in (("k", k, 1), ("longest_history", longest_history, 3)):
        if value < least:
            raise ConfigError(f"{name}: expected at least {least}; found {value}")
    program = Program(recommender, k, longest_history)
    history = torch.tensor([[0, 0, 0], [0, -1, -1], [0, 0, -1], [0, -1, -1]])
    sizes = {0: Dim("users"), 1: Dim("items", max=longest_history)}
    with torch.no_grad():
        exported = torch.export.export(
            program, (history, torch.tensor(True)), dynamic_shapes=(sizes, None), strict=False
        )
    exported.example_inputs = None  # the one part that torch would pickle into the file
    return exported


class Program(nn.Module):
    """A history in, ranked items out: the order of ``Recommender.recommend`` for any batch."""

    allowed: Tensor | None

    def __init__(self, recommender: Recommender, k: int, longest_history: int) -> None:
        """Copy what is needed.

        Args:
            recommender: On the CPU; stays as it is.
            k: Length of the lists.
            longest_history: Most items of a history.
        """
        super().__init__()
        self.retriever = copy.deepcopy(recommender.retriever).eval().requires_grad_(False)
        if isinstance(self.retriever, ItemSoftmax):
            self.retriever.keep_vectors_only()
        # Not "graph", which is a name that torch's own modules have.
        self.graph_score, self.reranker = copy.deepcopy((recommender.graph, recommender.reranker))
        allowed = torch.from_numpy(recommender.allowed)[None]  # (1, N)
        self.register_buffer("allowed", None if allowed.all() else allowed)
        self.k = k
        self.longest_history = longest_history
        self.beam_width = recommender.beam_width
        self.max_history = recommender.max_history

    def forward(self, history: Tensor, exclude_history: Tensor) -> tuple[Tensor, Tensor]:
        """Rank the catalogue.

        Args:
            history: (B, T) item_index, oldest first, -1 where there is nothing.
            exclude_history: Scalar boolean, whether items of a history are left out of its list.

        Returns: Items (B, k), best first, -1 where they run out, and scores (B, k), minus infinity
            there; no items for an empty history.
        """
        # Padding goes to the right, wherever it was.
        order = (history < 0).to(torch.int8).argsort(dim=1, stable=True)
        history = history.gather(1, order)
        length = (history >= 0).sum(dim=1, keepdim=True)  # (B, 1)
        nobody = history.new_full((history.shape[0],), -1)
        asked = Asked(
            self.retriever.read(self._window(history, length), nobody),
            None if self.graph_score is None else self.graph_score(history, self.allowed),
            self.allowed,
            contained(history, self.retriever.tables.num_items) & exclude_history,
            history=history,
        )
        found = best_items(
            self.retriever,
            asked,
            self.k,
            reranker=self.reranker,
            most_apart=self.longest_history,
            beam_width=self.beam_width,
        )
        is_empty = length == 0
        return (
            found.items.masked_fill(is_empty, PADDING),
            found.scores.masked_fill(is_empty, -torch.inf),
        )

    def _window(self, history: Tensor, length: Tensor) -> Tensor:
        """The latest items (B, w), at most ``max_history``, -1 on the right."""
        # No wider than the longest needs; at least 2 columns, as torch makes another graph for 1.
        width = cast(int, length.max().clamp(2, max(2, self.max_history)).item())
        torch._check(width >= 2)
        torch._check(width <= max(2, self.max_history))
        place = (length - self.max_history).clamp_min(0) + torch.arange(width)
        window = history.gather(1, place.clamp_max(history.shape[1] - 1))
        return window.masked_fill(place >= length, -1)
