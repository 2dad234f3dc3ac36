from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from hidvae.errors import DataError
from hidvae.features.tags import from_clusters
from hidvae.features.tags.from_clusters import split, tags_from_clusters
from hidvae.features.tags.hidden import compare_clusters


def planted(num_items: int = 360, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of 3 far groups, each of 2 near ones; and the number of every item's near group."""
    generator = np.random.default_rng(seed)
    group = generator.integers(0, 6, num_items)
    centres = generator.standard_normal((3, 16)) * 10
    shifts = generator.standard_normal((6, 16)) * 2
    noise = generator.standard_normal((num_items, 16)) * 0.1
    return (centres[group // 2] + shifts[group] + noise).astype(np.float32), group


def test_planted_groups_are_found_at_both_levels() -> None:
    vectors, group = planted()
    ids, vocabulary = tags_from_clusters(vectors, None, num_clusters=(3, 2), seed=0)
    assert vocabulary.sizes == [3, 6]
    assert compare_clusters(ids[:, 0], group // 2)["nmi"] == pytest.approx(1)
    assert compare_clusters(ids[:, 1], group)["nmi"] == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_tags_form_a_tree_with_the_largest_child_first(seed: int) -> None:
    vectors = np.random.default_rng(seed).standard_normal((500, 6)).astype(np.float32)
    ids, vocabulary = tags_from_clusters(vectors, None, num_clusters=(4, 3, 5), seed=seed)
    for level in range(3):
        known = ids[:, level] >= 0
        counts = np.bincount(ids[known, level], minlength=vocabulary.sizes[level])
        np.testing.assert_array_equal(vocabulary.counts[level], counts)
        assert counts.min() >= 2
        parents = vocabulary.parents[level]
        if level == 0:
            assert (parents == -1).all() and known.all()
        else:
            np.testing.assert_array_equal(parents[ids[known, level]], ids[known, level - 1])
            assert (np.diff(parents) >= 0).all()
            assert np.bincount(parents).max() <= (4, 3, 5)[level]
        for parent in np.unique(parents):
            assert (np.diff(counts[parents == parent]) <= 0).all()


def test_the_seed_decides_everything() -> None:
    vectors = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    texts = pl.Series([f"word{row % 7}x of item" for row in range(300)])
    first, second, other = (
        tags_from_clusters(vectors, texts, num_clusters=(5, 4), seed=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1].paths == second[1].paths
    assert (first[0] != other[0]).any()


def test_small_clusters_are_not_split_and_none_is_smaller_than_asked() -> None:
    vectors, _ = planted(120)
    ids, vocabulary = tags_from_clusters(vectors, None, num_clusters=(6, 4), seed=0, min_count=12)
    assert min(counts.min(initial=12) for counts in vocabulary.counts) >= 12
    is_leaf = ids[:, 1] < 0
    assert is_leaf.any()
    assert set(ids[is_leaf, 0]).isdisjoint(vocabulary.parents[1])


def test_outliers_join_the_nearest_cluster_instead_of_being_one() -> None:
    vectors = np.zeros((41, 2), np.float32)
    vectors[20:40] = [10, 0]
    vectors[40] = [30, 0]
    generator = np.random.default_rng(0)
    found = split(vectors, np.arange(41), 3, 5, generator)
    assert sorted(np.bincount(found)) == [20, 21] and found[40] == found[39]


def test_equal_items_are_not_split() -> None:
    vectors = np.repeat(np.eye(2, dtype=np.float32), 20, axis=0)
    ids, vocabulary = tags_from_clusters(vectors, None, num_clusters=(8, 4), seed=0)
    assert vocabulary.sizes == [2, 0]
    assert (ids[:, 1] == -1).all()


@pytest.mark.parametrize("num_items", [0, 3, 30])
def test_items_that_cannot_be_told_apart_are_refused(num_items: int) -> None:
    with pytest.raises(DataError, match=rf"two groups of 2 items.*{num_items} items"):
        tags_from_clusters(np.ones((num_items, 1), np.float32), None, num_clusters=(3,), seed=0)


def test_a_fit_on_a_sample_finds_the_same_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, group = planted(2000)
    monkeypatch.setattr(from_clusters, "_SAMPLE", 100)
    monkeypatch.setattr(from_clusters, "_BLOCK", 77)
    ids, _ = tags_from_clusters(vectors, None, num_clusters=(3, 2), seed=1)
    assert compare_clusters(ids[:, 1], group)["nmi"] == pytest.approx(1)
