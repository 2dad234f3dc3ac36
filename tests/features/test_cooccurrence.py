from __future__ import annotations

import numpy as np
import pytest

from hidvae.data.interactions import Sequences
from hidvae.data.split import leave_one_out
from hidvae.features import cooccurrence
from hidvae.features.cooccurrence import cooccurrence_embedding, cooccurrence_weights


def communities(num_items: int = 40, num_users: int = 120, length: int = 8) -> Sequences:
    """Two halves of the catalogue; users stay in one half, a few cross over."""
    generator = np.random.default_rng(3)
    half = num_items // 2
    starts = np.where(np.arange(num_users) % 2 == 0, 0, half)
    histories = starts[:, None] + generator.integers(0, half, (num_users, length))
    histories[::20, -1] = (histories[::20, -1] + half) % num_items
    return Sequences.from_lists(histories)


def mean_similarities(embedding: np.ndarray) -> tuple[float, float]:
    similarity = embedding @ embedding.T
    half = len(embedding) // 2
    return float(similarity[:half, :half].mean()), float(similarity[:half, half:].mean())


def test_weights_by_hand() -> None:
    weights = cooccurrence_weights(
        Sequences.from_lists([[0, 1, 2], [1, 0], [3], [2, 2]]), num_items=5, window=2
    ).toarray()
    expected = np.zeros((5, 5))
    expected[0, 1] = 1 + 1  # both users, both directions
    expected[1, 2] = 1
    expected[0, 2] = 1 / 2
    np.testing.assert_allclose(weights, expected + expected.T)


def test_the_window_ends_at_the_user() -> None:
    weights = cooccurrence_weights(Sequences.from_lists([[0, 1], [2, 3]]), num_items=4, window=5)
    assert sorted(zip(*(axis.tolist() for axis in weights.nonzero()), strict=True)) == [
        (0, 1),
        (1, 0),
        (2, 3),
        (3, 2),
    ]


def decompose(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have small matrices decomposed like large ones."""
    sizes = {"dense": (400, 400), "lanczos": (0, 400), "approximate": (0, 0)}[how]
    monkeypatch.setattr(cooccurrence, "_DENSE_SIZE", sizes[0])
    monkeypatch.setattr(cooccurrence, "_LANCZOS_SIZE", sizes[1])


@pytest.mark.parametrize("how", ["dense", "lanczos", "approximate"])
def test_planted_communities_end_up_apart(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decompose(how, monkeypatch)
    embedding = cooccurrence_embedding(communities(), num_items=40, dim=4, window=3)
    within, across = mean_similarities(embedding)
    assert within > 0.5 > across + 0.4
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(("how", "tolerance"), [("lanczos", 1e-5), ("approximate", 0.02)])
def test_large_matrices_are_decomposed_nearly_like_small_ones(
    how: str, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = cooccurrence_embedding(communities(), num_items=40, dim=6, window=3)
    decompose(how, monkeypatch)
    sparse = cooccurrence_embedding(communities(), num_items=40, dim=6, window=3)
    np.testing.assert_allclose(sparse, dense, atol=tolerance)
    again = cooccurrence_embedding(communities(), num_items=40, dim=6, window=3)
    np.testing.assert_array_equal(again, sparse)


@pytest.mark.parametrize("how", ["lanczos", "approximate"])
def test_identical_disjoint_cliques_are_all_seen(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # a symmetric start vector would miss the directions that tell the cliques apart
    decompose(how, monkeypatch)
    cliques = Sequences.from_lists(np.arange(30).reshape(6, 5))
    embedding = cooccurrence_embedding(cliques, num_items=30, dim=6, window=4)
    similarity = (embedding @ embedding.T).reshape(6, 5, 6, 5).mean(axis=(1, 3))
    assert np.linalg.matrix_rank(similarity, tol=0.1) == 6


def test_validation_and_test_events_change_nothing() -> None:
    histories = [list(history) for history in communities(num_users=30)]
    changed = [[*history[:-2], 0, 39] for history in histories]
    embeddings = [
        cooccurrence_embedding(
            leave_one_out(Sequences.from_lists(lists)).train,
            num_items=40,
            dim=8,
            window=5,
        )
        for lists in (histories, changed)
    ]
    np.testing.assert_array_equal(*embeddings)
    assert embeddings[0].any()


def test_items_without_training_events_get_zeros() -> None:
    embedding = cooccurrence_embedding(
        Sequences.from_lists([[0, 1, 2], [4]]), num_items=6, dim=2, window=2
    )
    assert embedding.any(axis=1).tolist() == [True, True, True, False, False, False]


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 50])
def test_a_tiny_catalogue_is_padded_with_zeros(dim: int) -> None:
    embedding = cooccurrence_embedding(
        Sequences.from_lists([[0, 1, 2, 3]]), num_items=4, dim=dim, window=3
    )
    assert embedding.shape == (4, dim)
    assert np.isfinite(embedding).all()
    assert not embedding[:, 4:].any()


@pytest.mark.parametrize("histories", [[], [[0], [1]], [[], []], [[2, 2, 2]]])
def test_no_transition_at_all_gives_zeros(histories: list[list[int]]) -> None:
    embedding = cooccurrence_embedding(
        Sequences.from_lists(histories), num_items=3, dim=2, window=5
    )
    assert embedding.shape == (3, 2)
    assert not embedding.any()
