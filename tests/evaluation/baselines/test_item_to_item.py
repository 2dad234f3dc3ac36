"""Nearest items and EASE: against values by hand, and against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from hidvae.data.interactions import Sequences
from hidvae.errors import DataError
from hidvae.evaluation.baselines import item_to_item
from hidvae.evaluation.baselines.item_to_item import Ease, ItemKnn

N = 30
NEVER_TAKEN = (7, 28, 29)


def is_taken(histories: Sequences, num_items: int = N) -> np.ndarray:
    taken = np.zeros((histories.num_users, num_items))
    for user in range(histories.num_users):
        taken[user, histories[user]] = 1
    return taken


def log() -> Sequences:
    """60 users; repeats, users with nothing, and items that nobody took."""
    generator = np.random.default_rng(1)
    items = np.setdiff1d(np.arange(N), NEVER_TAKEN)
    return Sequences.from_lists(
        generator.choice(items, generator.integers(0, 9)) for _ in range(60)
    )


HISTORIES = Sequences.from_lists([[1, 2, 2, 28], [], [5], [9, 3, 5, 0, 9]])


@pytest.mark.parametrize("regularisation", [0.5, 200.0])
def test_ease_is_the_inverse_of_all_items(regularisation: float) -> None:
    taken = is_taken(log())
    inverse = np.linalg.inv(taken.T @ taken + regularisation * np.eye(N))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    expected = is_taken(HISTORIES) @ weights
    assert np.abs(expected).max() > 1e-3
    scores = Ease(log(), N, regularisation=regularisation).scores(HISTORIES)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    assert (scores[:, NEVER_TAKEN] == 0).all()


def test_ease_by_hand() -> None:
    # Two items, taken together by one of three users: G = [[2 + λ, 1], [1, 2 + λ]], λ = 1.
    ease = Ease(Sequences.from_lists([[0, 1], [0, 0], [1]]), 2, regularisation=1.0)
    np.testing.assert_allclose(ease.weights, [[0, 1 / 3], [1 / 3, 0]], rtol=1e-6)


def test_ease_of_an_empty_log_knows_nothing() -> None:
    assert (Ease(Sequences.from_lists([[], []]), 4).scores(HISTORIES.take([1])) == 0).all()


def test_nearest_items_by_hand() -> None:
    # Users of item 0: a, b, c; of 1: a, b; of 2: c, d; of 3: a; nobody took 4.
    train = Sequences.from_lists([[0, 1, 3, 0], [1, 0], [2, 0], [2]])
    two, one = 2 / np.sqrt(3 * 2), 1 / np.sqrt(3 * 2)
    far = {(0, 1): two, (0, 2): one, (0, 3): 1 / np.sqrt(3), (1, 3): 1 / np.sqrt(2)}
    similar = np.zeros((5, 5))
    for (first, second), cosine in far.items():
        similar[first, second] = similar[second, first] = cosine
    everything = ItemKnn(train, 5).neighbours.toarray()
    np.testing.assert_allclose(everything, similar, rtol=1e-6)
    kept = ItemKnn(train, 5, num_neighbours=1).neighbours.toarray()
    expected = np.zeros((5, 5))
    for item, nearest in ((0, 1), (1, 0), (2, 0), (3, 1)):
        expected[item, nearest] = similar[item, nearest]
    np.testing.assert_allclose(kept, expected, rtol=1e-6)
    scores = ItemKnn(train, 5, num_neighbours=1).scores(Sequences.from_lists([[3, 2, 2, 4]]))
    np.testing.assert_allclose(scores[0], expected[2] + expected[3], rtol=1e-6)


@pytest.mark.parametrize("scores_per_block", [1, 3 * N, 10**6])
def test_blocks_change_nothing(scores_per_block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = is_taken(log())
    norms = np.linalg.norm(taken, axis=0)
    similar = taken.T @ taken / np.maximum(np.outer(norms, norms), 1)
    np.fill_diagonal(similar, 0.0)
    expected = np.zeros_like(similar)
    for item, row in enumerate(np.round(similar, 6)):  # equal ones: the lower item_index
        nearest = np.argsort(-row, kind="stable")[:4]
        expected[item, nearest] = similar[item, nearest]
    monkeypatch.setattr(item_to_item, "_SCORES_PER_BLOCK", scores_per_block)
    found = ItemKnn(log(), N, num_neighbours=4).neighbours.toarray()
    assert np.count_nonzero(found, axis=1).max() == 4
    np.testing.assert_allclose(np.sort(found, axis=1), np.sort(expected, axis=1), atol=1e-6)
    ease = Ease(log(), N).weights
    monkeypatch.undo()
    np.testing.assert_allclose(ease, Ease(log(), N).weights)


@pytest.mark.parametrize("baseline", [ItemKnn, Ease])
def test_neither_order_nor_repeats_count(baseline: type[ItemKnn | Ease]) -> None:
    ranker = baseline(log(), N)
    again = Sequences.from_lists([[28, 2, 1], [], [5, 5, 5], [0, 3, 5, 9]])
    np.testing.assert_allclose(ranker.scores(again), ranker.scores(HISTORIES), atol=1e-6)


@pytest.mark.parametrize("baseline", [ItemKnn, Ease])
def test_events_of_unknown_items_are_refused(baseline: type[ItemKnn | Ease]) -> None:
    with pytest.raises(DataError, match=r"items in \[0, 20\)"):
        baseline(log(), 20)
