"""The trie against a dictionary of prefixes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hidvae.errors import DataError
from hidvae.semantic_ids.trie import Trie


@st.composite
def distinct_codes(draw: st.DrawFn) -> np.ndarray:
    """(N, M) codes, all rows different, levels of different sizes."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    row = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    rows = draw(st.lists(row, min_size=1, max_size=40, unique=True))
    return np.array(rows, dtype=np.int64)


def prefixes(codes: np.ndarray, depth: int) -> list[tuple[int, ...]]:
    """Distinct prefixes in ascending order: the number of a node is its place here."""
    return sorted({tuple(row[:depth]) for row in codes.tolist()})


def paths(trie: Trie, depth: int) -> list[tuple[int, ...]]:
    """The prefix of every node of a depth, read off the arrays."""
    found: list[tuple[int, ...]] = [()]
    for level in range(depth):
        start, codes = trie.child_start[level], trie.child_codes[level]
        found = [
            (*prefix, int(codes[child]))
            for node, prefix in enumerate(found)
            for child in range(start[node], start[node + 1])
        ]
    return found


@given(distinct_codes())
@settings(max_examples=60, deadline=None)
def test_nodes_are_the_distinct_prefixes_in_order(codes: np.ndarray) -> None:
    trie = Trie.build(codes)
    assert (trie.num_levels, trie.num_items) == codes.shape[::-1]
    for depth in range(codes.shape[1] + 1):
        assert paths(trie, depth) == prefixes(codes, depth)
        assert trie.num_nodes(depth) == len(prefixes(codes, depth))


@given(distinct_codes())
@settings(max_examples=60, deadline=None)
def test_leaves_and_nodes_lead_to_their_items(codes: np.ndarray) -> None:
    trie = Trie.build(codes)
    nodes = trie.nodes_of_items()
    assert nodes.shape == (codes.shape[1] + 1, len(codes))
    for leaf, path in enumerate(paths(trie, codes.shape[1])):
        assert tuple(codes[trie.item_at_leaf[leaf]].tolist()) == path
    for depth in range(codes.shape[1] + 1):
        expected = prefixes(codes, depth)
        for item, row in enumerate(codes.tolist()):
            assert expected[nodes[depth, item]] == tuple(row[:depth])
        first_leaves = [*trie.first_leaf, np.arange(trie.num_items)][depth]
        for node, first in enumerate(first_leaves.tolist()):
            below = [
                leaf
                for leaf, path in enumerate(paths(trie, codes.shape[1]))
                if path[:depth] == expected[node]
            ]
            assert first == min(below)


def test_items_that_share_an_id_are_refused() -> None:
    with pytest.raises(DataError, match=r"3 items have only 2 distinct.*hidvae tokenize") as error:
        Trie.build(np.array([[0, 1], [2, 1], [0, 1]]))
    assert "\n" not in str(error.value)


def test_an_empty_catalogue_is_refused() -> None:
    with pytest.raises(DataError, match="at least one item"):
        Trie.build(np.empty((0, 3), dtype=np.int64))


def test_one_item() -> None:
    trie = Trie.build(np.array([[3, 0, 7]]))
    assert paths(trie, 3) == [(3, 0, 7)]
    assert trie.item_at_leaf.tolist() == [0]
    assert trie.nodes_of_items().tolist() == [[0]] * 4


def test_row_order_of_the_catalogue_changes_only_the_names_of_leaves() -> None:
    codes = np.array([[1, 0], [0, 1], [0, 0], [1, 2]])
    order = np.array([2, 0, 3, 1])
    first, second = Trie.build(codes), Trie.build(codes[order])
    assert paths(first, 2) == paths(second, 2)
    assert (order[second.item_at_leaf] == first.item_at_leaf).all()
