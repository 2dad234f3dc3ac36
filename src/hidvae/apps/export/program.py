"""The retriever with its search as one graph of tensor operations, which torch alone can run.

What the package does in Python when it recommends happens here on tensors whose shapes follow from
the batch: the window of a history, the gains of the item graph, the beam search over the trie, the
history left out, and wider beams where that leaves too few items. The retriever's own code does
the rest, so that all architectures can be exported.

Symbols: B users, T positions, N items, M codes per ID, W beams, C most children of a node, L latest
items that the graph looks at, K most neighbours of an item, k items of a list.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from hidvae.errors import ConfigError
from hidvae.ranking.graph_score import GraphPrior
from hidvae.ranking.recommender import Recommender
from hidvae.retriever.item_softmax import ItemSoftmax

LONGEST_HISTORY = 250
"""Most items of a history that a program takes, unless told otherwise."""

_Ranked = tuple[Tensor, Tensor]
"""Items (B, k), best first, -1 where they run out, and their scores (B, k), -inf there."""


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
        offered = recommender.is_offered
        self.gains = None
        if recommender.prior is not None:
            self.gains = GraphGains(recommender.prior, offered)
        self.num_offered = int(offered.sum())
        self.may_enter: list[Tensor] = []
        if not offered.all():
            self.may_enter = recommender.retriever.tables.reachable(offered)
        self.k = k
        self.longest_history = longest_history
        self.beam_width = max(recommender.beam_width, k)
        self.max_history = recommender.max_history
        trie = recommender.retriever.tables.trie
        self.most_children = [int(np.diff(start).max()) for start in trie.child_start]

    def forward(self, history: Tensor, exclude_history: Tensor) -> _Ranked:
        """Rank the catalogue.

        Args:
            history: (B, T) item_index, oldest first, -1 where there is nothing.
            exclude_history: Scalar boolean, whether items of a history are left out of its list.

        Returns: Items (B, k) and scores (B, k); no items for an empty history.
        """
        num_items = self.retriever.tables.num_items
        # Padding goes to the right, wherever it was.
        order = (history < 0).to(torch.int8).argsort(dim=1, stable=True)
        history = history.gather(1, order)
        length = (history >= 0).sum(dim=1, keepdim=True)  # (B, 1)
        nobody = history.new_full((history.shape[0],), -1)
        memory = self.retriever.read(self._window(history, length), nobody)
        rows = history.where(history >= 0, num_items)
        seen = torch.zeros(history.shape[0], num_items + 1, dtype=torch.bool).scatter(1, rows, True)
        is_left_out = (seen[:, :num_items] & exclude_history) | (length == 0)
        parts, structure = pytree.tree_flatten((memory, self._node_gains(history), is_left_out))

        def search(beams: int, parts: list[Tensor]) -> _Ranked:
            memory, node_gains, is_left_out = pytree.tree_unflatten(parts, structure)
            return self._search(memory, node_gains, is_left_out, beams)

        found = search(self.beam_width, parts)
        # W beams always find W items (or all), so more than this many are never needed.
        enough = torch.where(length > 0, self.k + is_left_out.sum(dim=1, keepdim=True), 0)
        enough = enough.clamp_max(self.num_offered).squeeze(1)
        return self._widened(search, parts, enough, found)

    def _window(self, history: Tensor, length: Tensor) -> Tensor:
        """The latest items (B, w), at most ``max_history``, -1 on the right."""
        # No wider than the longest needs; at least 2 columns, as torch makes another graph for 1.
        width = cast(int, length.max().clamp(2, max(2, self.max_history)).item())
        torch._check(width >= 2)
        torch._check(width <= max(2, self.max_history))
        place = (length - self.max_history).clamp_min(0) + torch.arange(width)
        window = history.gather(1, place.clamp_max(history.shape[1] - 1))
        return window.masked_fill(place >= length, -1)

    def _node_gains(self, history: Tensor) -> list[Tensor]:
        """Per depth from 1 to M, the largest gain (B, nodes) below each node; see ``Bonus``."""
        if self.gains is None:
            return []
        tables = self.retriever.tables
        items, gains = self.gains(history)
        return [
            gains.new_zeros(history.shape[0], tables.num_nodes(depth)).scatter_reduce(
                1, tables.nodes_of_items[depth].long()[items], gains, "amax"
            )
            for depth in range(1, tables.num_levels + 1)
        ]

    def _search(
        self, memory: Any, node_gains: list[Tensor], is_left_out: Tensor, beams: int
    ) -> _Ranked:
        """``beam_search`` with tables of children as wide as any node needs.

        Args:
            memory: From ``Retriever.read``.
            node_gains: From ``_node_gains``.
            is_left_out: (B, N), items that are not to be found.
            beams: W.
        """
        tables = self.retriever.tables
        batch_size, last_level = is_left_out.shape[0], tables.num_levels - 1
        state = self.retriever.begin(memory)
        nodes = torch.zeros(batch_size, 1, dtype=torch.long)  # the root
        sums = torch.zeros(batch_size, 1)
        for level, most in enumerate(self.most_children):
            children = tables.children_at(level, nodes, most)
            child = children.node.flatten(1)
            log_probs, state = self.retriever.step(memory, state, level, children)
            totals = (sums.unsqueeze(2) + log_probs).flatten(1)
            ranked_by = totals + node_gains[level].gather(1, child) if node_gains else totals
            if self.may_enter:
                ranked_by = ranked_by.masked_fill(~self.may_enter[level + 1][child], -torch.inf)
            if level == last_level:
                items = tables.item_at_leaf.long()[child]
                ranked_by = ranked_by.masked_fill(is_left_out.gather(1, items), -torch.inf)
            width = min(beams if level < last_level else self.k, child.shape[1])
            scores, chosen = ranked_by.topk(width, dim=1)
            sums, nodes = totals.gather(1, chosen), child.gather(1, chosen)
            if level < last_level:
                codes = children.code.flatten(1).gather(1, chosen)
                state = self.retriever.advance(state, level, chosen // most, codes, nodes)
        found = items.gather(1, chosen).masked_fill(scores == -torch.inf, -1)
        missing = self.k - width
        return (
            nn.functional.pad(found, (0, missing), value=-1),
            nn.functional.pad(scores, (0, missing), value=-torch.inf),
        )

    def _widened(
        self,
        search: Callable[[int, list[Tensor]], _Ranked],
        parts: list[Tensor],
        enough: Tensor,
        found: _Ranked,
    ) -> _Ranked:
        """Search with twice the beams, again and again, for users whose list is too short.

        Args:
            search: By a number of beams and the tensors ``parts``.
            parts: What the search needs.
            enough: (B,), beams that are sure to find k items, or all.
            found: With ``beam_width`` beams.
        """
        beams = self.beam_width
        while beams < min(self.k + self.longest_history, self.num_offered):
            is_short = (found[0] < 0).any(dim=1) & (enough > beams)
            beams *= 2
            again = partial(_search_again, search, beams)
            given = (*found, is_short.unsqueeze(1), *parts)
            found = torch.cond(is_short.any(), again, _keep, given)
        return found


class GraphGains(nn.Module):
    """``GraphPrior.bonus`` on tensors: what the items near a history gain."""

    neighbours: Tensor
    """(N, K) item_index."""
    scores: Tensor
    """(N, K), 0 where an item has fewer neighbours."""
    weights: Tensor
    """(N,) nats per e-fold of the score."""
    decay: Tensor
    """(L,) weight of the latest item, of the one before it, and so on."""
    offered: Tensor
    """(N,) 1 for an item that may be recommended, else 0."""

    def __init__(self, prior: GraphPrior, is_offered: npt.NDArray[np.bool_]) -> None:
        super().__init__()
        self.smoothing = prior.smoothing
        self.num_candidates = prior.num_candidates
        self.favours_history = prior.favours_history
        neighbours, scores = _padded_rows(prior)
        decay = np.power(prior.decay, np.arange(prior.num_latest)).astype(np.float32)
        self.register_buffer("neighbours", torch.from_numpy(neighbours))
        self.register_buffer("scores", torch.from_numpy(scores))
        self.register_buffer("weights", torch.from_numpy(prior.item_weights))
        self.register_buffer("decay", torch.from_numpy(decay))
        self.register_buffer("offered", torch.from_numpy(is_offered.astype(np.float32)))

    def forward(self, history: Tensor) -> tuple[Tensor, Tensor]:
        """Items (B, c) and their gains (B, c) in nats, of histories (B, T), -1 on the right."""
        batch_size, num_items = history.shape[0], len(self.neighbours)
        place = (history >= 0).sum(dim=1, keepdim=True) - 1 - torch.arange(len(self.decay))
        latest = history.gather(1, place.clamp_min(0)).clamp_min(0)  # (B, L)
        counts = self.scores[latest] * (self.decay * (place >= 0)).unsqueeze(2)  # (B, L, K)
        near = self.neighbours[latest].long()
        found = self.scores.new_zeros(batch_size, num_items + 1)  # the last takes the padding
        found = found.scatter_add(1, near.flatten(1), counts.flatten(1))
        if not self.favours_history:
            found = found.scatter(1, history.where(history >= 0, num_items), 0.0)
        # Columns beyond the catalogue have a score of 0, as the items that gain nothing do.
        missing = max(0, self.num_candidates + 1 - num_items)
        found = nn.functional.pad(found[:, :num_items] * self.offered, (0, missing))
        best, items = found.topk(self.num_candidates + 1, dim=1)
        items = items[:, :-1].clamp_max(num_items - 1)
        logs = (best + self.smoothing).log()
        return items, (self.weights[items] * (logs[:, :-1] - logs[:, -1:])).float()


def _search_again(
    search: Callable[[int, list[Tensor]], _Ranked],
    beams: int,
    items: Tensor,
    scores: Tensor,
    is_short: Tensor,
    *parts: Tensor,
) -> _Ranked:
    """The lists of users (B, 1) with too short a one are replaced."""
    wider_items, wider_scores = search(beams, list(parts))
    return wider_items.where(is_short, items), wider_scores.where(is_short, scores)


def _keep(items: Tensor, scores: Tensor, is_short: Tensor, *parts: Tensor) -> _Ranked:
    return items.clone(), scores.clone()  # a branch may not return what it was given


def _padded_rows(prior: GraphPrior) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Columns and values (N, K) of the neighbours' matrix; 0 and 0 where a row has fewer."""
    matrix = prior.neighbours
    lengths = np.diff(matrix.indptr)
    shape = (len(lengths), max(1, int(lengths.max(initial=0))))
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(row)) - np.repeat(matrix.indptr[:-1], lengths)
    columns, values = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    columns[row, place], values[row, place] = matrix.indices, matrix.data
    return columns, values
