from __future__ import annotations

import numpy as np
import pytest

from hidvae.errors import ShapeError
from hidvae.features.tags import from_neighbours
from hidvae.features.tags.from_neighbours import fill_from_neighbours
from hidvae.features.tags.vocabulary import TagVocabulary


def vocabulary_of(*parents: list[int]) -> TagVocabulary:
    names = [[f"{level}.{tag}" for tag in range(len(p))] for level, p in enumerate(parents)]
    arrays = [np.array(p, np.int64) for p in parents]
    return TagVocabulary(names, names, arrays, [np.zeros(len(p), np.int64) for p in parents])


def angles(*degrees: float) -> np.ndarray:
    radians = np.radians(np.array(degrees, np.float32))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


FLAT = vocabulary_of([-1, -1, -1])


def test_the_nearest_items_vote_by_similarity() -> None:
    ids = np.array([[0], [1], [1], [2], [-1]])
    vectors = angles(10, 20, 20, 120, 0) * np.array([[1], [7], [0.1], [1], [3]], np.float32)
    near, far = np.cos(np.radians(10)), np.cos(np.radians(20))
    for num_neighbours, tag, share in ((1, 0, 1.0), (3, 1, 2 * far / (2 * far + near))):
        filled, agreement = fill_from_neighbours(ids, FLAT, vectors, num_neighbours=num_neighbours)
        assert filled.ravel().tolist() == [0, 1, 1, 2, tag]
        assert agreement[4, 0] == pytest.approx(share, rel=1e-5)
        assert np.isnan(agreement[:4]).all()
    assert ids[4, 0] == -1


def test_items_on_the_other_side_have_no_vote() -> None:
    ids = np.array([[0], [1], [1], [1], [-1]])
    filled, agreement = fill_from_neighbours(
        ids, FLAT, angles(80, 100, 180, 260, 0), num_neighbours=10
    )
    assert filled[4, 0] == 0 and agreement[4, 0] == pytest.approx(1)
    filled, agreement = fill_from_neighbours(
        ids[1:], FLAT, angles(100, 180, 260, 0), num_neighbours=10
    )
    assert filled[3, 0] == -1 and np.isnan(agreement[3, 0])


def test_an_item_without_a_vector_stays_unknown() -> None:
    vectors = angles(0, 10, 20)
    vectors[2] = 0
    filled, _ = fill_from_neighbours(np.array([[0], [1], [-1]]), FLAT, vectors, num_neighbours=2)
    assert filled[2, 0] == -1


TREE = vocabulary_of([-1, -1], [0, 0, 1])


def test_only_items_under_the_same_parent_vote() -> None:
    ids = np.array([[0, 0], [0, 1], [1, 2], [1, 2], [0, -1], [-1, -1]])
    vectors = angles(60, 90, 1, 2, 0, 3)
    filled, _ = fill_from_neighbours(ids, TREE, vectors, num_neighbours=1)
    assert filled[4].tolist() == [0, 0]  # the nearest of all carry tag 2, under the other parent
    assert filled[5].tolist() == [1, 2]  # the parent that was just filled counts


def test_filled_tags_do_not_vote() -> None:
    ids = np.array([[0, 0], [1, 2], [0, -1], [0, -1]])
    filled, _ = fill_from_neighbours(ids, TREE, angles(0, 170, 90.5, 92), num_neighbours=1)
    # Item 3 is most similar to item 2, whose tag is only filled; item 0 has no positive similarity.
    assert filled.tolist() == [[0, 0], [1, 2], [0, -1], [0, -1]]
    filled, _ = fill_from_neighbours(ids, TREE, angles(0, 170, 80, 92), num_neighbours=1)
    assert filled.tolist() == [[0, 0], [1, 2], [0, 0], [0, -1]]


def test_below_the_agreement_asked_for_it_stays_unknown_with_all_below() -> None:
    ids = np.array([[0, 0], [1, 2], [-1, -1], [0, 1], [0, -1]])
    vectors = angles(10, -10, 0, 100, 10)
    settings = {"num_neighbours": 2}
    filled, agreement = fill_from_neighbours(ids, TREE, vectors, **settings, min_agreement=0.6)
    assert filled[2].tolist() == [-1, -1] and np.isnan(agreement[2]).all()
    assert filled[4].tolist() == [0, 0]  # alone with a positive vote: all of the weight
    filled, _ = fill_from_neighbours(ids, TREE, vectors, **settings, min_agreement=0.49)
    assert (filled[2] >= 0).all()


def test_a_parent_without_children_is_a_path_that_ends() -> None:
    ids = np.array([[0, 0], [1, -1], [1, -1]])
    filled, _ = fill_from_neighbours(ids, TREE, angles(0, 1, 2), num_neighbours=2)
    np.testing.assert_array_equal(filled, ids)


def test_any_tags_become_consistent_ones_and_known_ones_stay() -> None:
    generator = np.random.default_rng(0)
    parents = [
        [-1] * 3,
        generator.integers(0, 3, 9).tolist(),
        generator.integers(0, 9, 30).tolist(),
    ]
    leaf = generator.integers(0, 30, 400)
    middle = np.array(parents[2])[leaf]
    ids = np.stack([np.array(parents[1])[middle], middle, leaf], axis=1)
    known = generator.integers(0, 4, 400)  # levels that are known
    ids[np.arange(3) >= known[:, None]] = -1
    vectors = generator.standard_normal((400, 8)).astype(np.float32)
    filled, agreement = fill_from_neighbours(
        ids, vocabulary_of(*parents), vectors, num_neighbours=5
    )
    np.testing.assert_array_equal(filled[ids >= 0], ids[ids >= 0])
    for level in (1, 2):
        has_tag = filled[:, level] >= 0
        parent = np.array(parents[level])[filled[has_tag, level]]
        np.testing.assert_array_equal(parent, filled[has_tag, level - 1])
    np.testing.assert_array_equal(np.isfinite(agreement), (ids < 0) & (filled >= 0))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    ids = generator.integers(-1, 3, (300, 1))
    vectors = generator.standard_normal((300, 8)).astype(np.float32)
    whole = fill_from_neighbours(ids, FLAT, vectors, num_neighbours=7)
    monkeypatch.setattr(from_neighbours, "_QUERIES", 13)
    monkeypatch.setattr(from_neighbours, "_FIRST_CANDIDATES", 5)
    monkeypatch.setattr(from_neighbours, "_CANDIDATES", 11)
    blocks = fill_from_neighbours(ids, FLAT, vectors, num_neighbours=7)
    np.testing.assert_array_equal(whole[0], blocks[0])
    np.testing.assert_allclose(whole[1], blocks[1], rtol=1e-5)


def test_the_vote_is_that_of_a_full_sort() -> None:
    generator = np.random.default_rng(2)
    ids = generator.integers(-1, 3, (200, 1))
    vectors = generator.standard_normal((200, 6)).astype(np.float32)
    filled, agreement = fill_from_neighbours(ids, FLAT, vectors, num_neighbours=9)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    voters = np.flatnonzero(ids[:, 0] >= 0)
    for item in np.flatnonzero(ids[:, 0] < 0):
        cosines = unit[voters] @ unit[item]
        nearest = np.argsort(-cosines)[:9]
        weights = np.bincount(ids[voters[nearest], 0], np.maximum(cosines[nearest], 0), 3)
        assert filled[item, 0] == weights.argmax()
        assert agreement[item, 0] == pytest.approx(weights.max() / weights.sum(), rel=1e-4)


def test_tags_of_other_items_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(3, 1\)"):
        fill_from_neighbours(np.zeros((2, 1), int), FLAT, angles(0, 1, 2), num_neighbours=1)
