"""What the retriever looks up about items and prefixes, as buffers on the model's device."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
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
    others of its prefix, and so would teach that a cold item, which never occurs in training, is
    never chosen. What a loss looks up (``codes_after``, ``num_warm_children``) therefore holds only
    prefixes of warm items.
    """

    codes: Tensor
    """(N, M)."""
    item_at_leaf: Tensor
    """(N,)."""
    nodes_of_items: Tensor
    """(M + 1, N): node of an item's prefix at each depth."""

    def __init__(
        self, ids: SemanticIds, warm_items: np.ndarray | None = None, trie: Trie | None = None
    ) -> None:
        """Build.

        Args:
            ids: Of the catalogue.
            warm_items: (N,) booleans, the items that occur in training; all by default.
            trie: Of ``ids``, if there is one already.
        """
        super().__init__()
        trie = trie or Trie.build(ids.codes)
        if warm_items is None:
            warm_items = np.ones(trie.num_items, dtype=bool)
        self.are_all_warm = bool(warm_items.all())
        self.level_sizes = ids.level_sizes
        self.trie = trie
        self.most_children = [int(np.diff(start).max()) for start in trie.child_start]
        self._put("codes", ids.codes)
        self._put("item_at_leaf", trie.item_at_leaf)
        self._put("nodes_of_items", trie.nodes_of_items())
        for depth in range(trie.num_levels):
            self._put(f"child_start_{depth}", trie.child_start[depth])
            self._put(f"child_codes_{depth}", trie.child_codes[depth])
            self._put(f"first_leaf_{depth}", np.append(trie.first_leaf[depth], trie.num_items))
        is_warm = self.reachable(torch.from_numpy(warm_items)[None])
        for depth in range(trie.num_levels):
            is_warm_child = is_warm[depth + 1][0].numpy()
            warm_so_far = np.concatenate([[0], np.cumsum(is_warm_child)])
            self._put(f"is_warm_child_{depth}", is_warm_child)
            self._put(f"num_warm_{depth}", np.diff(warm_so_far[trie.child_start[depth]]))

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
        return self.trie.num_nodes(depth)

    def children_at(self, depth: int, nodes: Tensor) -> Children:
        """The children of nodes (B, W) of a depth in [0, M).

        The cost depends on B, W and the codebook, not on the catalogue. C is the most children
        that one of these nodes has; in an exported program, whose shapes may not depend on the
        nodes, the most of any node.
        """
        start: Tensor = getattr(self, f"child_start_{depth}")
        codes: Tensor = getattr(self, f"child_codes_{depth}")
        first, end = (start[place].long().unsqueeze(2) for place in (nodes, nodes + 1))  # (B, W, 1)
        if torch.compiler.is_exporting():
            most = self.most_children[depth]
        else:
            most = int((end - first).max()) if nodes.numel() else 0
        child = first + torch.arange(most, device=nodes.device)
        is_real = child < end
        child.clamp_max_(len(codes) - 1)
        return Children(codes.take(child).long(), child, is_real)

    def codes_after(self, depth: int, nodes: Tensor) -> Tensor:
        """Which codes may follow nodes (n,) of a depth, as booleans (n, K), by warm items."""
        is_warm: Tensor = getattr(self, f"is_warm_child_{depth}")
        asked = nodes if depth else nodes[:1]  # at depth 0 all are the root
        code, child, is_real = self.children_at(depth, asked.unsqueeze(1))
        size = self.level_sizes[depth]
        code = code.masked_fill(~(is_real & is_warm[child]), size)  # one column more for the rest
        table = torch.zeros(len(asked), size + 1, dtype=torch.bool, device=nodes.device)
        return table.scatter_(1, code.squeeze(1), True)[:, :size].expand(len(nodes), -1)

    def num_warm_children(self, depth: int, nodes: Tensor) -> Tensor:
        """How many codes may follow nodes (...) of a depth, by warm items."""
        counts: Tensor = getattr(self, f"num_warm_{depth}")
        return counts[nodes]

    def is_warm(self, depth: int, nodes: Tensor) -> Tensor | None:
        """Whether a warm item lies below nodes (...) of a depth of at least 1; None: all do."""
        if self.are_all_warm:
            return None
        warm: Tensor = getattr(self, f"is_warm_child_{depth - 1}")
        return warm[nodes]

    def warm_items(self) -> Tensor | None:
        """(N,) booleans, the items that occur in training; None: all do."""
        return self.is_warm(self.num_levels, self.nodes_of_items[self.num_levels])

    def first_leaves(self, depth: int) -> Tensor:
        """Where, among the leaves, those below each node of a depth in [0, M) start; and N."""
        first: Tensor = getattr(self, f"first_leaf_{depth}")
        return first

    def reachable(self, allowed: Tensor) -> list[Tensor]:
        """Per depth from 0 to M, whether a node has an allowed item below it.

        A search that enters only these nodes meets no dead end.

        Args:
            allowed: (B, N) booleans by item_index.

        Returns: M + 1 times (B, nodes).
        """
        at_leaf = allowed[:, self.item_at_leaf]
        so_far = F.pad(at_leaf.long().cumsum(dim=1), (1, 0))  # (B, N + 1)
        above = []
        for depth in range(self.num_levels):
            at_edges = so_far.index_select(1, self.first_leaves(depth))
            above.append(at_edges[:, 1:] > at_edges[:, :-1])
        return [*above, at_leaf]

    def _put(self, name: str, array: np.ndarray) -> None:
        """Keep an array; numbers in 32 bits, as a catalogue has fewer items than 2^31."""
        narrow = array if array.dtype == np.bool_ else array.astype(np.int32)
        self.register_buffer(name, torch.from_numpy(narrow.copy()), persistent=False)
