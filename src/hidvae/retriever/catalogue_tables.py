"""What the retriever looks up about items and prefixes, as buffers on the model's device."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hidvae.semantic_ids.table import SemanticIds
from hidvae.semantic_ids.trie import Trie


class Children(NamedTuple):
    """All children of nodes (B, W), in tables as wide as the most that one of them has, C."""

    code: Tensor
    """(B, W, C) the code that leads to each, ascending."""
    node: Tensor
    """(B, W, C) its number, a depth further down."""
    is_real: Tensor
    """(B, W, C) False where a node has fewer; code and node mean nothing there."""


class CatalogueTables(nn.Module):
    """Codes of every item, and the trie, as tensors.

    None of it is a weight: the tables come from the semantic IDs whenever a model is built, and
    are replaced when items are added.

    The trie holds all items, and a search may find any. A loss, though, sets a code against the
    others of its prefix, and so would teach that an item which never occurs in training is never
    chosen. What a loss looks up (``codes_after``, ``num_known_children``) therefore knows only
    prefixes of known items.
    """

    codes: Tensor
    """(N, M)."""
    item_at_leaf: Tensor
    """(N,)."""
    nodes_of_items: Tensor
    """(M + 1, N): node of an item's prefix at each depth."""

    def __init__(
        self, ids: SemanticIds, known_items: np.ndarray | None = None, trie: Trie | None = None
    ) -> None:
        """Build.

        Args:
            ids: Of the catalogue.
            known_items: (N,) booleans, the items that occur in training; all by default.
            trie: Of ``ids``, if there is one already.
        """
        super().__init__()
        trie = trie or Trie.build(ids.codes)
        is_known = trie.reachable(
            np.ones(trie.num_items, bool) if known_items is None else known_items
        )
        self.are_all_known = known_items is None or bool(known_items.all())
        self.level_sizes = ids.level_sizes
        self.trie = trie
        self._put("codes", ids.codes)
        self._put("item_at_leaf", trie.item_at_leaf)
        self._put("nodes_of_items", trie.nodes_of_items())
        for depth in range(trie.num_levels):
            start = trie.child_start[depth]
            self._put(f"child_start_{depth}", start)
            self._put(f"parents_{depth + 1}", np.repeat(np.arange(len(start) - 1), np.diff(start)))
            self._put(f"child_codes_{depth}", trie.child_codes[depth])
            self._put(f"is_known_child_{depth}", is_known[depth + 1])
            known_so_far = np.concatenate([[0], np.cumsum(is_known[depth + 1])])
            self._put(f"num_known_{depth}", np.diff(known_so_far[trie.child_start[depth]]))

    @property
    def num_items(self) -> int:
        """Catalogue size N."""
        return len(self.item_at_leaf)

    @property
    def num_levels(self) -> int:
        """Codes per ID, M."""
        return len(self.level_sizes)

    def num_nodes(self, depth: int) -> int:
        """Prefixes of a length, in [0, M]."""
        if depth == self.num_levels:
            return self.num_items
        return len(self.child_starts(depth)) - 1

    def children_at(self, depth: int, nodes: Tensor, most: int | None = None) -> Children:
        """The children of nodes (B, W) of a depth in [0, M).

        The cost depends on B, W and the codebook, not on the catalogue.

        Args:
            depth: Of the nodes.
            nodes: Their numbers.
            most: C, if it must not depend on the nodes; at least as many as any of them has.
        """
        start = self.child_starts(depth)
        codes: Tensor = getattr(self, f"child_codes_{depth}")
        first, end = (start[place].long().unsqueeze(2) for place in (nodes, nodes + 1))  # (B, W, 1)
        if most is None:
            most = int((end - first).max()) if nodes.numel() else 0
        child = first + torch.arange(most, device=nodes.device)
        is_real = child < end
        child.clamp_max_(len(codes) - 1)
        return Children(codes.take(child).long(), child, is_real)

    def codes_after(self, depth: int, nodes: Tensor) -> Tensor:
        """Which codes may follow nodes (n,) of a depth, as booleans (n, K), by known items."""
        is_known: Tensor = getattr(self, f"is_known_child_{depth}")
        asked = nodes if depth else nodes[:1]  # at depth 0 all are the root
        code, child, is_real = self.children_at(depth, asked.unsqueeze(1))
        size = self.level_sizes[depth]
        code = code.masked_fill(~(is_real & is_known[child]), size)  # one column more for the rest
        table = torch.zeros(len(asked), size + 1, dtype=torch.bool, device=nodes.device)
        return table.scatter_(1, code.squeeze(1), True)[:, :size].expand(len(nodes), -1)

    def num_known_children(self, depth: int, nodes: Tensor) -> Tensor:
        """How many codes may follow nodes (...) of a depth, by known items."""
        counts: Tensor = getattr(self, f"num_known_{depth}")
        return counts[nodes]

    def is_known(self, depth: int, nodes: Tensor) -> Tensor | None:
        """Whether a known item lies below nodes (...) of a depth of at least 1; None: all do."""
        if self.are_all_known:
            return None
        known: Tensor = getattr(self, f"is_known_child_{depth - 1}")
        return known[nodes]

    def known_items(self) -> Tensor | None:
        """(N,) booleans, the items that occur in training; None: all do."""
        return self.is_known(self.num_levels, self.nodes_of_items[self.num_levels])

    def child_starts(self, depth: int) -> Tensor:
        """Where, among the nodes of the next depth, the children of each node of a depth start."""
        start: Tensor = getattr(self, f"child_start_{depth}")
        return start

    def parents_of_nodes(self, depth: int) -> Tensor:
        """The node at depth - 1, ascending, that each node of a depth hangs from."""
        parents: Tensor = getattr(self, f"parents_{depth}")
        return parents

    def reachable(self, is_allowed: np.ndarray) -> list[Tensor]:
        """``Trie.reachable`` of items (N,), on the tables' device."""
        device = self.codes.device
        return [torch.from_numpy(mask).to(device) for mask in self.trie.reachable(is_allowed)]

    def _put(self, name: str, array: np.ndarray) -> None:
        """Keep an array; numbers in 32 bits, as a catalogue has fewer items than 2^31."""
        narrow = array if array.dtype == np.bool_ else array.astype(np.int32)
        self.register_buffer(name, torch.from_numpy(narrow.copy()), persistent=False)
