"""Neighbours after one change after the other are those of all changes at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from hidvae.data.interactions import Sequences
from hidvae.features.item_graph import ItemGraph
from hidvae.ranking.changed_neighbours import changed_neighbours, scores_to_beat

N, COUNT, DIM = 30, 4, 6
TRAIN = Sequences.from_lists([[0, 1, 2, 3], [5, 6, 7], [2, 8, 9, 10, 4], [11, 5, 3]])


def some_content(num_items: int, seed: int) -> np.ndarray:
    """Of items that all have something in common, so that rows are full and are cut."""
    content = np.random.default_rng(seed).normal(size=(num_items, DIM)) + 1.5
    return content.astype(np.float32)


def as_trained() -> ItemGraph:
    return ItemGraph(
        TRAIN,
        N,
        some_content(N, 0),
        max_distance=3,
        two_hop_weight=4.0,
        content_weight=0.1,
        num_latest=3,
        decay=0.6,
    )


class State(NamedTuple):
    """A catalogue between two changes."""

    content: np.ndarray
    ever: frozenset[int]
    """Items that were added or changed since the training."""
    removed: frozenset[int]
    neighbours: sparse.csr_array


def changed(
    state: State, rows: dict[int, np.ndarray], gone: frozenset[int] = frozenset()
) -> tuple[State, int, sparse.csr_array]:
    """After a change: the state, how many rows were compared, and all changes at once."""
    num_items = max(len(state.content), *[row + 1 for row in rows], 0)
    content = np.zeros((num_items, DIM), np.float32)
    content[: len(state.content)] = state.content
    for row, vector in rows.items():
        content[row] = vector
    removed = (state.removed - rows.keys()) | gone
    ever = state.ever | rows.keys()
    trained = as_trained()
    neighbours = trained.neighbours(COUNT)
    graph = Counting(trained.over(num_items, content, None))
    is_removed = np.isin(np.arange(num_items), [*removed])
    least = scores_to_beat(neighbours, COUNT)

    def made(before: sparse.csr_array, now: set[int], earlier: set[int]) -> sparse.csr_array:
        latest, others = (np.array(sorted(items), dtype=np.int64) for items in (now, earlier))
        return changed_neighbours(before, graph, latest, others, is_removed, least, COUNT)  # type: ignore[arg-type]

    found = made(state.neighbours, {*rows}, {*ever} - {*rows})
    compared = graph.compared
    return (
        State(content, ever, removed, found),
        compared,
        made(neighbours, {*ever}, set()),
    )


class Counting:
    """A graph that counts the histories that it scores."""

    def __init__(self, graph: ItemGraph) -> None:
        self._graph, self.num_items, self.compared = graph, graph.num_items, 0

    def scores(self, histories: Sequences) -> np.ndarray:
        self.compared += histories.num_users
        return self._graph.scores(histories)


def start() -> State:
    return State(some_content(N, 0), frozenset(), frozenset(), as_trained().neighbours(COUNT))


def same(found: sparse.csr_array, expected: sparse.csr_array) -> None:
    assert found.has_sorted_indices and (found.data > 0).all()
    np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=1e-5)


@given(st.data())
def test_one_after_the_other_is_all_at_once(data: st.DataObject) -> None:
    state = start()
    for step in range(data.draw(st.integers(1, 6))):
        num_items = len(state.content)
        there = sorted({*range(num_items)} - state.removed)
        kind = data.draw(st.sampled_from(["add", "update", "remove", "add again"]))
        rows: dict[int, np.ndarray] = {}
        gone: frozenset[int] = frozenset()
        vectors = some_content(8, 100 + data.draw(st.integers(0, 50)) + 100 * step)
        if kind == "add":
            count = data.draw(st.integers(1, 5))
            rows = {num_items + place: vectors[place] for place in range(count)}
        elif kind == "remove":
            gone = data.draw(st.frozensets(st.sampled_from(there), min_size=1, max_size=5))
        else:
            pool = there if kind == "update" else sorted(state.removed)
            if pool:
                items = data.draw(st.sets(st.sampled_from(pool), min_size=1, max_size=5))
                rows = dict(zip(sorted(items), vectors, strict=False))
        state, _, expected = changed(state, rows, gone)
        same(state.neighbours, expected)
        removed = [*state.removed]
        assert not state.neighbours[:, removed].nnz
        # Rows of changed items are those of a graph made anew.
        trained = as_trained()
        graph = trained.over(len(state.content), state.content, None)
        for item in state.ever:
            scores = graph.scores(Sequences.from_lists([[item]]))[0]
            scores[removed] = 0.0
            best = np.sort(np.maximum(scores, 0.0))[::-1][:COUNT]
            np.testing.assert_allclose(
                np.sort(state.neighbours[[item]].data)[::-1], best, atol=1e-5
            )


def test_only_what_a_change_touches_is_compared() -> None:
    state, compared, _ = changed(start(), {N + i: v for i, v in enumerate(some_content(20, 1))})
    assert compared == 20
    state, compared, expected = changed(state, {N + 20: some_content(1, 2)[0]})
    assert compared == 1
    same(state.neighbours, expected)
    # Nobody's neighbour among the items that were added: its removal compares nothing.
    nobodys = next(item for item in range(N) if not state.neighbours[N:, [item]].nnz)
    state, compared, expected = changed(state, {}, frozenset({nobodys}))
    assert compared == 0
    same(state.neighbours, expected)
    # A row that was cut and loses a neighbour is made anew, and no other one.
    somebodys = int(np.argmax((state.neighbours[N:] > 0).sum(axis=0)))
    touched = state.neighbours[N:, [somebodys]].nnz
    assert 0 < touched < 21
    state, compared, expected = changed(state, {}, frozenset({somebodys}))
    assert compared == touched
    same(state.neighbours, expected)


def test_a_removed_item_has_later_items_as_neighbours() -> None:
    """Histories may still hold it."""
    state, _, _ = changed(start(), {}, frozenset({20}))
    state, _, expected = changed(state, {N: state.content[20]})
    assert state.neighbours[20, N] > 0 == state.neighbours[N, 20]
    same(state.neighbours, expected)


def test_a_row_is_beaten_by_its_own_smallest_score() -> None:
    matrix = np.array([[0.5, 0, 0.9], [0, 0, 0], [0.1, 0.2, 0], [0, 0.3, 0]], dtype=np.float32)
    assert scores_to_beat(sparse.csr_array(matrix), 2) == pytest.approx([0.5, 0, 0.1, 0])
