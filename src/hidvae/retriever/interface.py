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
    """A transformer that reads a history and says how probable each next item is.

    What it knows of a history is its *memory*, computed once. How items are found with it is one of
    two ways: an ``ExactRetriever`` has the probabilities of all items, a ``BeamRetriever`` those of
    the next code alone.
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
    def code_log_probs(self, memory: Any, items: Tensor) -> Tensor:
        """Log-probability (B, R, M) of each code of items (B, R) given the codes before it."""


class ExactRetriever(Retriever):
    """Has the probability of every item, so that the best ones are found exactly."""

    @abstractmethod
    def item_log_probs(self, memory: Any) -> Tensor:
        """Log-probability (B, N) of every item's ID given the history."""


class BeamRetriever(Retriever):
    """Generates an ID code by code, so that items are found by a beam search.

    The memory of a history is shared by all beams; the *state* of the beams is reordered as they
    fork and die.
    """

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

    def code_log_probs(self, memory: Any, items: Tensor) -> Tensor:
        """See ``Retriever.code_log_probs``: one beam follows each item."""
        tables = self.tables
        state = self.begin(memory)
        parents = torch.zeros_like(items)  # of the first codes: the one beam there is
        of_codes = []
        for level in range(tables.num_levels):
            nodes = tables.nodes_of_items[level, items if level else items[:, :1]]
            children = tables.children_at(level, nodes)
            log_probs, state = self.step(memory, state, level, children)
            codes = tables.codes[items][:, :, level].long()
            is_taken = (children.code == codes.unsqueeze(2)) & children.is_real  # (B, R, C)
            of_codes.append(log_probs.masked_fill(~is_taken, 0.0).sum(dim=2))
            if level < tables.num_levels - 1:
                nodes = tables.nodes_of_items[level + 1, items]
                state = self.advance(state, level, parents, codes, nodes)
                parents = torch.arange(items.shape[1], device=items.device).expand_as(items)
        return torch.stack(of_codes, dim=2)

    def child_log_probs(self, logits: Tensor, level: int, children: Children) -> Tensor:
        """What ``step`` returns, from logits of all codes.

        The logit of a cold child was never trained and is noise. It is given the mean logit of its
        warm siblings, so that a cold item is as probable as its prefix makes it.

        Args:
            logits: (B, W, K) of the next code.
            level: Of that code.
            children: Of the beams' nodes.

        Returns: (B, W, C), minus infinity where there is no child.
        """
        logits = logits.float()
        of_child = logits.gather(2, children.code)
        is_warm = self.tables.is_warm(level + 1, children.node)
        if is_warm is not None:
            is_warm = is_warm & children.is_real
            count = is_warm.sum(dim=2, keepdim=True).clamp_min(1)
            means = (of_child * is_warm).sum(dim=2, keepdim=True) / count
            of_child = torch.where(is_warm, of_child, means)
        of_child = of_child.masked_fill(~children.is_real, -torch.inf)
        of_which = of_child if self.prefix_normalized else logits
        return of_child - of_which.logsumexp(dim=2, keepdim=True)


def gather_beams(values: Tensor, parents: Tensor) -> Tensor:
    """Rows (B, W', ...) of values (B, W, ...) named by parents (B, W')."""
    shape = parents.shape + (1,) * (values.dim() - 2)
    return values.gather(1, parents.view(shape).expand(*parents.shape, *values.shape[2:]))
