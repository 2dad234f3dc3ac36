"""What the retriever architectures have in common: how they are trained and how they decode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hidvae.retriever.catalogue_tables import CatalogueTables, Children


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

    def __init__(self, tables: CatalogueTables, prefix_normalized: bool = True) -> None:
        super().__init__()
        self.tables = tables
        self.prefix_normalized = prefix_normalized

    def catalogue_changed(self) -> None:  # noqa: B027 - most keep nothing
        """Forget what is kept of the items from one call to the next."""

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
    def step(self, memory: Any, state: Any, level: int, children: Children) -> tuple[Tensor, Any]:
        """Look at what the beams' prefixes may go on with.

        Args:
            memory: From ``read``.
            state: Of B x W beams.
            level: Of the next code.
            children: Of the nodes (B, W) that the beams stand on.

        Returns: log p(code | prefix, history) (B, W, C) of each child, minus infinity where there
            is none, and the state after looking.
        """

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

    def child_log_probs(self, logits: Tensor, level: int, children: Children) -> Tensor:
        """What ``step`` returns, from logits of all codes.

        The logit of an unknown child was never trained and is noise. It is given the mean logit of
        its known siblings, so that an unknown item is as probable as its prefix makes it.

        Args:
            logits: (B, W, K) of the next code.
            level: Of that code.
            children: Of the beams' nodes.

        Returns: (B, W, C), minus infinity where there is no child.
        """
        logits = logits.float()
        of_child = logits.gather(2, children.code)
        is_known = self.tables.is_known(level + 1, children.node)
        if is_known is not None:
            is_known = is_known & children.is_real
            count = is_known.sum(dim=2, keepdim=True).clamp_min(1)
            means = (of_child * is_known).sum(dim=2, keepdim=True) / count
            of_child = torch.where(is_known, of_child, means)
        of_child = of_child.masked_fill(~children.is_real, -torch.inf)
        of_which = of_child if self.prefix_normalized else logits
        return of_child - of_which.logsumexp(dim=2, keepdim=True)


def gather_beams(values: Tensor, parents: Tensor) -> Tensor:
    """Rows (B, W', ...) of values (B, W, ...) named by parents (B, W')."""
    shape = parents.shape + (1,) * (values.dim() - 2)
    return values.gather(1, parents.view(shape).expand(*parents.shape, *values.shape[2:]))
