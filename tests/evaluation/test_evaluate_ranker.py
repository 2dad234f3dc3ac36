from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidvae.data.interactions import Sequences
from hidvae.errors import ConfigError, DataError, ShapeError
from hidvae.evaluation.baselines.untrained import Popularity
from hidvae.evaluation.evaluate_ranker import (
    Ranked,
    compare,
    evaluate_ranker,
    format_table,
    score_ranking,
)
from hidvae.evaluation.metrics import both_protocols

NUM_ITEMS = 6
HISTORIES = Sequences.from_lists([[0, 1], [2], [3, 4, 5]])
TARGETS = np.array([2, 2, 0])  # user 1 repeats item 2
POPULARITY = np.array([0, 1, 3, 1, 1, 1])
SETTINGS = {
    "num_items": NUM_ITEMS,
    "cutoffs": (1, 2, 5),
    "popularity": POPULARITY,
    "bootstrap_samples": 50,
}


@dataclass
class FixedOrder:
    """Ranks items 0, 1, 2, … for everybody and remembers what it was asked."""

    name: str = "fixed"
    asked: list = field(default_factory=list)

    def rank(self, histories, k, users=None, allowed=None):
        self.asked.append(users.tolist())
        ranked = np.tile(np.arange(NUM_ITEMS), (histories.num_users, 1))
        return Ranked(ranked, -ranked.astype(np.float32))


@dataclass
class Handing:
    """Hands out given lists."""

    items: np.ndarray
    name: str = "handing"

    def rank(self, histories, k, users=None, allowed=None):
        return Ranked(self.items, np.zeros(self.items.shape))


def test_both_protocols_from_one_pass_by_hand():
    result = evaluate_ranker(FixedOrder(), HISTORIES, TARGETS, **SETTINGS)
    assert result.including_ranks.tolist() == [3, 3, 1]
    assert result.excluding_ranks.tolist() == [1, 0, 1]  # item 2 is in user 1's history
    assert result.including["recall@2"] == 1 / 3
    assert result.excluding["recall@2"] == 2 / 3
    assert result.including["ndcg@5"] == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert result.excluding["num_repeat_targets"] == 1
    assert result.including["invalid_rate"] == result.excluding["invalid_rate"] == 0.0
    assert result.metrics("including") is result.including
    assert result.ranks("excluding") is result.excluding_ranks


def test_list_metrics_and_cold_slice_use_ten_or_the_largest_cutoff():
    including = evaluate_ranker(FixedOrder(), HISTORIES, TARGETS, **SETTINGS).including
    assert including["num_users"] == 3
    assert including["coverage@5"] == 5 / 6
    assert including["cold_num_users"] == 1  # target 0 has no training event
    assert including["cold_recall@5"] == 1.0
    expected = -sum(math.log2((c + 1) / 13) for c in (0, 1, 3, 1, 1)) / 5
    assert including["novelty@5"] == pytest.approx(expected)
    assert "diversity@5" not in including
    with_ten = evaluate_ranker(
        FixedOrder(), HISTORIES, TARGETS, **{**SETTINGS, "cutoffs": (5, 10, 20)}
    ).including
    assert "coverage@10" in with_ten and "coverage@20" not in with_ten


def test_diversity_needs_tags():
    tags = np.array([[0], [1], [0], [0], [0], [-1]])
    including = evaluate_ranker(
        FixedOrder(), HISTORIES, TARGETS, **{**SETTINGS, "cutoffs": (2,)}, tags=tags
    ).including
    assert including["diversity@2"] == 1.0


def test_no_cold_target_has_no_cold_recall():
    settings = {**SETTINGS, "popularity": np.ones(NUM_ITEMS, dtype=int)}
    metrics = evaluate_ranker(FixedOrder(), HISTORIES, TARGETS, **settings).including
    assert (metrics["cold_num_users"], metrics["cold_recall@5"]) == (0, None)


def test_batches_and_order_of_users_change_nothing():
    whole = evaluate_ranker(FixedOrder(), HISTORIES, TARGETS, **SETTINGS)
    batched = evaluate_ranker(FixedOrder(), HISTORIES, TARGETS, **SETTINGS, batch_size=2)
    assert batched.to_json() == whole.to_json()
    order = np.array([2, 0, 1])
    shuffled = evaluate_ranker(FixedOrder(), HISTORIES.take(order), TARGETS[order], **SETTINGS)
    for name, value in whole.excluding.items():
        assert shuffled.excluding[name] == pytest.approx(value), name
    assert (shuffled.excluding_ranks == whole.excluding_ranks[order]).all()


def test_ranker_gets_the_rows_of_its_users_and_progress_is_told():
    ranker, told = FixedOrder(), []
    rows = np.array([7, 9, 11])
    evaluate_ranker(
        ranker,
        HISTORIES,
        TARGETS,
        **SETTINGS,
        batch_size=2,
        user_index=rows,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert ranker.asked == [[7, 9], [11]]
    assert told == [(2, 3), (3, 3)]


def test_intervals_hold_the_mean_depend_on_the_seed_only_and_can_be_left_out():
    ranked = np.argsort(np.random.default_rng(0).random((200, 30)), axis=1)[:, :10]
    targets = np.random.default_rng(1).integers(0, 30, size=200)
    settings = {"num_items": 30, "cutoffs": (5, 10), "popularity": np.ones(30, dtype=int)}
    first, _ = score_ranking(ranked, targets, **settings, bootstrap_samples=200, seed=3)
    again, _ = score_ranking(ranked, targets, **settings, bootstrap_samples=200, seed=3)
    assert first == again
    low, high = first["ndcg@10_ci"]
    assert low < first["ndcg@10"] < high
    without, _ = score_ranking(ranked, targets, **settings, bootstrap_samples=0)
    assert not any(name.endswith("_ci") for name in without)


def test_invented_items_are_counted():
    ranked = np.array([[0, 77], [1, -1]])
    metrics, _ = score_ranking(
        ranked, np.array([0, 1]), num_items=6, cutoffs=[2], popularity=POPULARITY
    )
    assert metrics["invalid_rate"] == 1 / 3


def test_metrics_are_json_even_when_nothing_is_returned():
    result = evaluate_ranker(Handing(np.full((3, 6), -1)), HISTORIES, TARGETS, **SETTINGS)
    assert json.loads(json.dumps(result.to_json(), allow_nan=False)) == result.to_json()
    assert result.excluding["novelty@5"] is None
    assert result.excluding["recall@5"] == 0.0


@pytest.mark.parametrize("shape", [(3, 4), (2, 6), (3, 5)])
def test_ranker_whose_lists_are_too_narrow_is_refused(shape):
    with pytest.raises(ShapeError, match=r"shape \(3, 6\) or wider, found"):
        evaluate_ranker(Handing(np.full(shape, -1)), HISTORIES, TARGETS, **SETTINGS)


def test_both_protocols_by_hand():
    histories = Sequences.from_lists([[3, 1], [], [0, 0, 0]])
    ranked = np.array([[1, 2, 3, 0], [1, 2, 3, 0], [0, 4, -1, -1]])
    including, excluding = both_protocols(ranked, histories, 3)
    assert including.tolist() == [[1, 2, 3], [1, 2, 3], [0, 4, -1]]
    assert excluding.tolist() == [[2, 0, -1], [1, 2, 3], [4, -1, -1]]
    including, excluding = both_protocols(np.array([[1, 0]]), Sequences.from_lists([[0]]), 4)
    assert including.tolist() == [[1, 0, -1, -1]]
    assert excluding.tolist() == [[1, -1, -1, -1]]


def test_an_invented_item_is_in_no_history():
    histories = Sequences.from_lists([[0, 2], [1]])
    # 3 of user 0 would have the key of item 0 of user 1, if there were only three items
    _, excluding = both_protocols(np.array([[0, 3, -1], [1, -1, 0]]), histories, 3)
    assert excluding.tolist() == [[3, -1, -1], [0, -1, -1]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_excluding_is_the_full_ranking_without_the_history(seed, k):
    generator = np.random.default_rng(seed)
    lists = [generator.integers(0, 12, size=generator.integers(0, 7)) for _ in range(5)]
    ranked = np.stack([generator.permutation(12) for _ in range(5)])
    including, excluding = both_protocols(ranked, Sequences.from_lists(lists), k)
    for user, history in enumerate(lists):
        without = [item for item in ranked[user].tolist() if item not in history]
        assert including[user].tolist() == ranked[user, :k].tolist()
        assert excluding[user].tolist() == (without + [-1] * k)[:k]


def test_without_users_every_mean_is_none():
    nobody = Sequences.from_lists([])
    result = evaluate_ranker(FixedOrder(), nobody, np.empty(0, dtype=np.int64), **SETTINGS)
    for metrics in (result.including, result.excluding):
        counts = {name: value for name, value in metrics.items() if value is not None}
        assert counts == {"num_users": 0, "cold_num_users": 0, "num_repeat_targets": 0}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"cutoffs": ()}, ConfigError, "cut-offs"),
        ({"cutoffs": (0, 5)}, ConfigError, "cut-offs"),
        ({"batch_size": 0}, ConfigError, "batch_size"),
        ({"num_items": 2}, DataError, r"\[0, 2\), found 2 for user row 0"),
        ({"popularity": np.ones(5, dtype=int)}, ShapeError, "popularity of 6 items, found 5"),
        ({"tags": np.zeros((4, 1), dtype=int)}, ShapeError, "tags of 6 items, found 4"),
        ({"user_index": np.array([1])}, ShapeError, "user_index"),
    ],
)
def test_wrong_input_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        evaluate_ranker(FixedOrder(), HISTORIES, TARGETS, **{**SETTINGS, **change})


def test_lists_shorter_than_the_largest_cutoff_are_refused():
    with pytest.raises(ShapeError, match="at least 10 positions"):
        score_ranking(
            np.zeros((1, 5), dtype=int),
            np.array([0]),
            num_items=6,
            cutoffs=[10],
            popularity=POPULARITY,
        )


def test_compare_is_paired_and_signed():
    generator = np.random.default_rng(0)
    items = generator.integers(0, NUM_ITEMS, size=(80, 3))
    histories = Sequences.from_lists(items)
    targets = np.where(generator.random(80) < 0.5, 0, 5)
    first = evaluate_ranker(FixedOrder(), histories, targets, **SETTINGS)
    train = Sequences.from_lists([[5, 5, 5, 4]])
    second = evaluate_ranker(Popularity(train, NUM_ITEMS), histories, targets, **SETTINGS)
    found = compare(first, second, k=2, protocol="including", metric="recall")
    assert found.mean == pytest.approx(first.including["recall@2"] - second.including["recall@2"])
    assert compare(first, first).p_value == 1.0
    with pytest.raises(ConfigError, match="metric"):
        compare(first, second, metric="map")


def test_table_is_aligned_and_shows_gaps():
    rows = {
        "popularity": {"num_users": 3, "recall@10": 1 / 3, "recall@10_ci": [0.1, 0.5]},
        "ours": {"recall@10": 2 / 3, "cold_recall@10": None},
    }
    assert format_table(rows).splitlines() == [
        "            num_users  recall@10  cold_recall@10",
        "popularity          3     0.3333               -",
        "ours                -     0.6667               -",
    ]
    chosen = format_table(rows, ["recall@10_ci"]).splitlines()
    assert chosen[1] == "popularity  0.1000..0.5000"


def test_allowed_items_reach_the_ranker_and_bind_it():
    allowed = np.array([True, False, True, True, True, False])
    popular = Popularity(Sequences.from_lists([[2, 2, 1]]), NUM_ITEMS)
    result = evaluate_ranker(popular, HISTORIES, TARGETS, **SETTINGS, allowed=allowed)
    assert result.including_ranks.tolist() == [1, 1, 2]  # among 2, 0, 3, 4
    with pytest.raises(DataError, match="ranker fixed: expected only allowed items .* index 1"):
        evaluate_ranker(FixedOrder(), HISTORIES, TARGETS, **SETTINGS, allowed=allowed)


def test_wrong_allowed_items_are_refused():
    for allowed in (np.ones(NUM_ITEMS + 1, dtype=bool), np.ones(NUM_ITEMS)):
        with pytest.raises(ShapeError, match=r"expected allowed as \(6,\) booleans"):
            evaluate_ranker(FixedOrder(), HISTORIES, TARGETS, **SETTINGS, allowed=allowed)
    with pytest.raises(DataError, match="found item index 0 of user row 2 outside"):
        evaluate_ranker(
            FixedOrder(), HISTORIES, TARGETS, **SETTINGS, allowed=np.arange(NUM_ITEMS) > 0
        )
