"""Slices: every user in one bucket, and the buckets together are the whole."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidvae.errors import DataError, ShapeError
from hidvae.evaluation import slices
from hidvae.evaluation.metrics import ndcg_at, recall_at
from hidvae.evaluation.slices import LENGTH_STARTS, POPULARITY_STARTS, by_bucket, slice_metrics

USERS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 90), st.integers(0, 60)), min_size=1, max_size=40
)


@given(USERS, st.integers(1, 12))
def test_the_weighted_mean_of_the_buckets_is_the_metric(
    users: list[tuple[int, int, int]], k: int
) -> None:
    ranks, popularity, lengths = np.array(users).T
    totals = {f"recall@{k}": recall_at(ranks, k).mean(), f"ndcg@{k}": ndcg_at(ranks, k).mean()}
    sliced = slice_metrics(ranks, popularity, lengths, k)
    assert set(sliced) == {"target_popularity", "history_length"}
    for buckets in sliced.values():
        assert sum(bucket["num_users"] for bucket in buckets) == len(users)
        for name, total in totals.items():
            weighted = sum(b["num_users"] * b[name] for b in buckets if b["num_users"])
            assert weighted / len(users) == pytest.approx(total)


def test_bounds_belong_to_the_bucket_that_names_them() -> None:
    values = np.array([0, 1, 4, 5, 9, 10, 19, 20, 49, 50, 1000])
    buckets = by_bucket(np.ones_like(values), values, POPULARITY_STARTS, k=10)
    assert [(b["bucket"], b["num_users"]) for b in buckets] == [
        ("0", 1), ("1-4", 2), ("5-9", 2), ("10-19", 2), ("20-49", 2), ("50+", 2)
    ]  # fmt: skip
    lengths = by_bucket(np.ones(1, dtype=int), np.array([2]), LENGTH_STARTS, k=10)
    assert [b["bucket"] for b in lengths] == ["0-2", "3-4", "5-9", "10-19", "20+"]


def test_values_by_hand_and_none_where_nobody_is() -> None:
    first, second, third = by_bucket(np.array([3, 0]), np.array([0, 2]), (0, 1, 9), k=5)
    assert first == {"bucket": "0", "num_users": 1, "recall@5": 1.0, "ndcg@5": 0.5}
    assert second == {"bucket": "1-8", "num_users": 1, "recall@5": 0.0, "ndcg@5": 0.0}
    assert third == {"bucket": "9+", "num_users": 0, "recall@5": None, "ndcg@5": None}


def test_other_users_and_values_below_the_first_bucket_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"one value per rank \(2,\), found \(1,\)"):
        by_bucket(np.array([1, 0]), np.array([1]), (0,), k=5)
    with pytest.raises(DataError, match="at least 1, found -3 for user row 1"):
        by_bucket(np.array([1, 0]), np.array([1, -3]), (1,), k=5)


def test_the_example_is_true() -> None:
    result = doctest.testmod(slices)
    assert result.attempted and not result.failed
