from __future__ import annotations

import doctest
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hidvae.errors import ConfigError, DataError, ShapeError
from hidvae.evaluation import metrics
from hidvae.evaluation.metrics import (
    coverage_at,
    diversity_at,
    invalid_rate,
    ndcg_at,
    novelty_at,
    popularity_bias_at,
    recall_at,
    tag_prefixes,
    target_ranks,
)

RANKED = np.array([[4, 7, 2], [5, 1, -1], [0, 3, 8]])
RANKS = arrays.arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 60))


def test_docstring_examples():
    result = doctest.testmod(metrics)
    assert result.attempted >= 9
    assert result.failed == 0


def test_metrics_need_no_torch():
    code = "import sys, hidvae.evaluation.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_target_ranks_are_the_position_from_one_or_zero():
    assert target_ranks(RANKED, np.array([2, 5, 6])).tolist() == [3, 1, 0]


def test_target_rank_of_a_repeated_item_is_its_first_position():
    assert target_ranks(np.array([[3, 9, 9]]), np.array([9])).tolist() == [2]


def test_padding_never_counts_as_a_hit():
    with pytest.raises(DataError, match="at least 0, found -1 for user row 1"):
        target_ranks(RANKED, np.array([4, -1, 0]))


def test_recall_and_ndcg_by_hand():
    ranks = np.array([1, 2, 3, 7, 0])
    assert recall_at(ranks, 3).mean() == 3 / 5
    assert ndcg_at(ranks, 3).tolist() == pytest.approx([1, 1 / math.log2(3), 1 / 2, 0, 0])
    assert ndcg_at(ranks, 7).tolist() == pytest.approx([1, 1 / math.log2(3), 1 / 2, 1 / 3, 0])


@given(RANKS, st.integers(1, 60))
def test_recall_is_monotone_in_k_and_bounds_ndcg(ranks, k):
    assert (recall_at(ranks, k) <= recall_at(ranks, k + 1)).all()
    assert (ndcg_at(ranks, k) <= ndcg_at(ranks, k + 1)).all()
    assert (ndcg_at(ranks, k) <= recall_at(ranks, k)).all()
    assert (ndcg_at(ranks, 1) == recall_at(ranks, 1)).all()


@given(st.integers(0, 2**32 - 1))
def test_permuting_users_changes_nothing(seed):
    generator = np.random.default_rng(seed)
    ranked = generator.integers(-1, 12, size=(9, 4))
    targets = generator.integers(0, 12, size=9)
    popularity = generator.integers(0, 5, size=12)
    tags = generator.integers(-1, 3, size=(12, 2))
    order = generator.permutation(9)
    shuffled = ranked[order]
    ranks = target_ranks(ranked, targets)
    assert (target_ranks(shuffled, targets[order]) == ranks[order]).all()
    assert coverage_at(shuffled, 3, 12) == coverage_at(ranked, 3, 12)
    assert invalid_rate(shuffled, 12) == invalid_rate(ranked, 12)
    for of, what in (
        (novelty_at, popularity),
        (popularity_bias_at, popularity),
        (diversity_at, tags),
    ):
        assert of(shuffled, 3, what) == pytest.approx(of(ranked, 3, what), nan_ok=True)


def test_agrees_with_ranx_on_random_rankings(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # compiling takes longer than scoring
    ranx = pytest.importorskip("ranx")
    generator = np.random.default_rng(3)
    num_users, num_items, length = 200, 60, 20
    ranked = np.argsort(generator.random((num_users, num_items)), axis=1)[:, :length]
    targets = generator.integers(0, num_items, size=num_users)
    qrels = ranx.Qrels({f"u{u:03}": {f"i{targets[u]}": 1} for u in range(num_users)})
    run = ranx.Run(
        {
            f"u{u:03}": {f"i{item}": float(length - p) for p, item in enumerate(ranked[u])}
            for u in range(num_users)
        }
    )
    names = [f"{name}@{k}" for name in ("recall", "ndcg") for k in (1, 5, 10, 20)]
    expected = ranx.evaluate(qrels, run, names, return_mean=False)
    ranks = target_ranks(ranked, targets)
    assert 0 < (ranks > 0).sum() < num_users
    for name in names:
        of = recall_at if name.startswith("recall") else ndcg_at
        k = int(name.split("@")[1])
        np.testing.assert_allclose(of(ranks, k), expected[name], atol=1e-12)


def test_coverage_counts_distinct_items_of_the_top_k_only():
    assert coverage_at(RANKED, 1, 9) == 3 / 9
    assert coverage_at(RANKED, 3, 9) == 8 / 9


def test_coverage_ignores_padding_and_invalid_ids():
    assert coverage_at(np.array([[0, -1], [99, 0]]), 2, 4) == 1 / 4


def test_novelty_by_hand():
    popularity = np.array([6, 0, 0, 0, 0, 0])  # 6 events, 6 items: shares 7/12 and 1/12
    expected = (-math.log2(7 / 12) - math.log2(1 / 12)) / 2
    assert novelty_at(np.array([[0, 3]]), 2, popularity) == pytest.approx(expected)


def test_novelty_without_any_event_is_the_entropy_of_a_uniform_catalogue():
    assert novelty_at(np.array([[0, 3]]), 2, np.zeros(8, dtype=int)) == 3.0


def test_popularity_bias_by_hand():
    popularity = np.array([5, 5, 9, 1])  # percentiles 1/2, 1/2, 7/8, 1/8
    assert popularity_bias_at(np.array([[2, 0]]), 2, popularity) == (7 / 8 + 1 / 2) / 2
    assert popularity_bias_at(np.array([[2, 0]]), 1, popularity) == 7 / 8


@given(arrays.arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 5)))
def test_popularity_bias_of_the_whole_catalogue_is_one_half(popularity):
    everything = np.arange(popularity.size)[None, :]
    bias = popularity_bias_at(everything, popularity.size, popularity)
    assert bias == pytest.approx(1 / 2)


def test_diversity_by_hand():
    tags = np.array([[0, 0], [0, 1], [0, 1], [1, 1]])
    # pairs of items 0, 1, 2: share 1/2, 1/2, 1; item 3 shares nothing: level 1 differs above it
    assert diversity_at(np.array([[0, 1, 2]]), 3, tags) == pytest.approx(
        1 - (1 / 2 + 1 / 2 + 1) / 3
    )
    assert diversity_at(np.array([[1, 3]]), 2, tags) == 1.0
    assert diversity_at(np.array([[1, 2], [1, 3]]), 2, tags) == 1 / 2


def test_diversity_skips_unknown_tags():
    tags = np.array([[0, -1], [0, 3], [-1, 3], [0, 4]])
    assert diversity_at(np.array([[0, 1]]), 2, tags) == 0.0  # only level 0 is known for both
    assert math.isnan(diversity_at(np.array([[0, 2]]), 2, tags))  # no level is
    assert diversity_at(np.array([[1, 2, 3]]), 3, tags) == 1 / 2  # the pair (1, 3) alone


def test_diversity_is_the_same_in_blocks(monkeypatch):
    generator = np.random.default_rng(0)
    ranked, tags = generator.integers(-1, 20, (50, 6)), generator.integers(-1, 3, (20, 3))
    whole = diversity_at(ranked, 6, tags)
    monkeypatch.setattr(metrics, "_PAIRS_PER_BLOCK", 40)
    assert diversity_at(ranked, 6, tags) == pytest.approx(whole)


def test_tag_prefixes_tell_equal_tags_under_other_parents_apart():
    prefixes = tag_prefixes(np.array([[0, 5], [1, 5], [0, 5], [-1, 5]]))
    assert prefixes[:, 1].tolist() == [0, 1, 0, -1]


def test_invalid_rate_by_hand():
    assert invalid_rate(np.array([[0, 9, -1], [3, -7, -1]]), 4) == 2 / 4
    assert invalid_rate(np.array([[0, 3, -1]]), 4) == 0.0


def test_empty_input():
    empty, nobody = np.empty((0, 5), dtype=np.int64), np.empty(0, dtype=np.int64)
    assert target_ranks(empty, nobody).shape == (0,)
    assert recall_at(nobody, 5).shape == (0,)
    assert ndcg_at(nobody, 5).shape == (0,)
    assert coverage_at(empty, 5, 3) == 0.0
    assert invalid_rate(empty, 3) == 0.0
    assert math.isnan(novelty_at(empty, 5, np.ones(3, dtype=int)))
    assert math.isnan(popularity_bias_at(empty, 5, np.ones(3, dtype=int)))
    assert math.isnan(diversity_at(empty, 5, np.zeros((3, 2), dtype=int)))


def test_lists_without_any_item():
    padding = np.full((2, 3), -1)
    assert target_ranks(padding, np.array([0, 1])).tolist() == [0, 0]
    assert target_ranks(np.empty((2, 0), dtype=int), np.array([0, 1])).tolist() == [0, 0]
    assert invalid_rate(padding, 3) == 0.0


def test_wrong_input_is_refused_with_what_was_found():
    with pytest.raises(ShapeError, match=r"ranked list \(3\), found targets of shape \(2,\)"):
        target_ranks(RANKED, np.array([1, 2]))
    with pytest.raises(ShapeError, match=r"found \(3,\)"):
        target_ranks(np.array([1, 2, 3]), np.array([1, 2, 3]))
    with pytest.raises(DataError, match="found float64"):
        target_ranks(RANKED + 0.5, np.array([1, 2, 3]))
    with pytest.raises(ConfigError, match="found 0"):
        recall_at(np.array([1]), 0)
    with pytest.raises(ShapeError, match=r"\(N, L\)"):
        diversity_at(RANKED, 2, np.zeros(9, dtype=int))
    with pytest.raises(DataError, match="at least 1 item"):
        coverage_at(RANKED, 2, 0)
