"""What the retriever architectures have in common: how they are trained and how they decode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from torch import Tensor, nn

from hidvae.retriever.catalogue_tables import CatalogueTables


class HistoryBatch(NamedTuple):
    """Histories of a batch of users, padded on the right."""

    items: Tensor
    """(B, T) item_index, -1 where there is nothing."""
    targets: Tensor
    """(B, T) item to predict after reading up to that position, -1 where there is none."""
    users: Tensor
    """(B,) user index, -1 unknown; only its bucket matters, and only with a user embedding."""


class Retriever(nn.Module, ABC):
    """A transformer that reads a history and generates the next item's codes, one after the other.

    Decoding keeps two things apart: the *memory* of a user's history, computed once and shared by
    all beams, and the *state* of the beams, which is reordered as they fork and die.
    """

    ranks_unknown_items = False
    """Whether the logits mean something for items that training never saw."""

    def __init__(self, tables: CatalogueTables, prefix_normalized: bool = True) -> None:
        super().__init__()
        self.tables = tables
        self.prefix_normalized = prefix_normalized

    @abstractmethod
    def loss(self, batch: HistoryBatch, label_smoothing: float = 0.0) -> Tensor:
        """Mean of -log p(target's ID | history) over the batch's targets, a scalar."""

    def forward(self, batch: HistoryBatch, label_smoothing: float = 0.0) -> Tensor:
        """``loss``, under the name that Fabric wraps."""
        return self.loss(batch, label_smoothing)

    @abstractmethod
    def read(self, items: Tensor, users: Tensor) -> Any:
        """Memory of histories (B, T), -1 padded on the right, each with at least one item."""

    @abstractmethod
    def begin(self, memory: Any) -> Any:
        """State of one beam per user, before any code."""

    @abstractmethod
    def step(self, memory: Any, state: Any, level: int) -> tuple[Tensor, Any]:
        """Logits (B, W, K_level) of the next code of every beam, and the state after looking."""

    @abstractmethod
    def advance(self, state: Any, level: int, parents: Tensor, codes: Tensor, nodes: Tensor) -> Any:
        """State of the beams that survive.

        Args:
            state: From ``step``.
            level: Level of ``codes``.
            parents: (B, W'), which old beam each new one goes on from.
            codes: (B, W'), the code it takes.
            nodes: (B, W'), the trie's node at depth level + 1 that it then stands on.
        """


def gather_beams(values: Tensor, parents: Tensor) -> Tensor:
    """Rows (B, W', ...) of values (B, W, ...) named by parents (B, W')."""
    shape = parents.shape + (1,) * (values.dim() - 2)
    return values.gather(1, parents.view(shape).expand(*parents.shape, *values.shape[2:]))
