"""The prefix tree of real semantic IDs, as flat arrays.

Nodes of one depth are numbered in the order of their prefixes, so the children of a node are
neighbours, and a leaf's number is its ID's rank. Depth 0 is the root, depth M the items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hidvae.errors import DataError


@dataclass(frozen=True)
class Trie:
    """Which codes may follow which prefix.

    The children of node n at depth d are the nodes ``child_start[d][n] : child_start[d][n + 1]`` of
    depth d + 1; ``child_codes[d]`` holds the code that leads to each of them.
    """

    child_start: tuple[np.ndarray, ...]
    """For each depth d < M: (nodes of depth d, and one more,) int32."""
    child_codes: tuple[np.ndarray, ...]
    """For each depth d < M: (nodes of depth d + 1 in number,) int32."""
    item_at_leaf: np.ndarray
    """(N,) int32: item_index of the leaf."""
    first_leaf: tuple[np.ndarray, ...]
    """For each depth d < M: (nodes of depth d,) int32, the first leaf below a node."""

    @classmethod
    def build(cls, codes: np.ndarray) -> Trie:
        """Build from codes (N, M); row i belongs to item_index i.

        Raises:
            DataError: If two items share an ID, or there are none.
        """
        num_items, num_levels = codes.shape
        if num_items == 0:
            raise DataError("a trie needs at least one item; the catalogue is empty")
        order = np.lexsort(codes.T[::-1])
        ranked = codes[order]
        is_new = np.zeros(num_items, dtype=bool)  # does a node of the current depth begin here?
        is_new[0] = True
        node_starts = [np.flatnonzero(is_new)]  # first leaf of each node, by depth
        child_start, child_codes = [], []
        for level in range(num_levels):
            is_new = is_new.copy()
            is_new[1:] |= ranked[1:, level] != ranked[:-1, level]
            starts = np.flatnonzero(is_new)
            child_codes.append(ranked[starts, level].astype(np.int32))
            first_child = np.searchsorted(starts, node_starts[-1])
            child_start.append(np.append(first_child, len(starts)).astype(np.int32))
            node_starts.append(starts)
        if len(node_starts[-1]) != num_items:
            raise DataError(
                f"{num_items} items have only {len(node_starts[-1])} distinct semantic IDs; run "
                "`hidvae tokenize` again, which separates items that share one"
            )
        return cls(
            tuple(child_start),
            tuple(child_codes),
            order.astype(np.int32),
            tuple(starts.astype(np.int32) for starts in node_starts[:-1]),
        )

    @property
    def num_levels(self) -> int:
        """Codes per ID, M."""
        return len(self.child_codes)

    @property
    def num_items(self) -> int:
        """Leaves, N."""
        return len(self.item_at_leaf)

    def num_nodes(self, depth: int) -> int:
        """Distinct prefixes of ``depth`` codes."""
        return self.num_items if depth == self.num_levels else len(self.first_leaf[depth])

    def nodes_of_items(self) -> np.ndarray:
        """Node of every item's prefix at every depth d <= M, (M + 1, N) int64."""
        leaf_of_item = np.empty(self.num_items, dtype=np.int64)
        leaf_of_item[self.item_at_leaf] = np.arange(self.num_items)
        above = [np.searchsorted(s, leaf_of_item, side="right") - 1 for s in self.first_leaf]
        return np.stack([*above, leaf_of_item])
