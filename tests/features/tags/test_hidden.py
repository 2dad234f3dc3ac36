from __future__ import annotations

import math

import numpy as np
import pytest
from tests.features.tags.llm_samples import make_shop

from hidvae.errors import ConfigError
from hidvae.features.tags.hidden import (
    compare_clusters,
    fill_with_majority,
    fill_with_nearest,
    hide_tags,
    score_filled,
)


def test_the_nearest_tag_under_the_one_above_is_taken() -> None:
    shop = make_shop(20)
    left = shop.truth.copy()
    left[::2] = -1
    left[5, 0] = shop.truth[5, 0]
    left[5, 1:] = -1
    np.testing.assert_array_equal(fill_with_nearest(left, shop.candidates), shop.truth)


def test_hidden_items_lose_all_their_tags_and_others_none() -> None:
    ids = np.stack([np.arange(100) % 3 - 1, np.arange(100) % 2], axis=1)
    left, hidden = hide_tags(ids, 0.3, np.random.default_rng(0))
    assert len(hidden) == round(0.3 * (ids[:, 0] >= 0).sum())
    assert (ids[hidden, 0] >= 0).all() and (left[hidden] == -1).all()
    others = np.setdiff1d(np.arange(100), hidden)
    np.testing.assert_array_equal(left[others], ids[others])
    again, _ = hide_tags(ids, 0.3, np.random.default_rng(0))
    np.testing.assert_array_equal(left, again)


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_a_share_that_hides_none_or_all_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="10 items with tags"):
        hide_tags(np.zeros((10, 1), np.int64), share, np.random.default_rng(0))


def test_the_majority_is_the_most_frequent_tag_of_each_level() -> None:
    ids = np.array([[0, 2, -1], [1, 2, -1], [1, 0, -1], [-1, -1, -1]])
    assert fill_with_majority(ids).tolist() == [[0, 2, -1], [1, 2, -1], [1, 0, -1], [1, 2, -1]]
    assert ids[3].tolist() == [-1, -1, -1]


def test_scores_by_hand() -> None:
    truth = np.array([[0, 5], [1, 6], [2, -1], [0, -1]])
    filled = np.array([[0, 6], [1, -1], [0, 3], [-1, -1]])
    assert score_filled(truth, filled) == [
        {
            "num_items": 4,
            "accuracy": 2 / 4,
            "coverage": 3 / 4,
            "precision": 2 / 3,
            "beyond_path": None,
        },
        {
            "num_items": 2,
            "accuracy": 0.0,
            "coverage": 1 / 2,
            "precision": 0.0,
            "beyond_path": 1 / 2,
        },
    ]


def test_scores_of_nothing_filled_are_not_made_up() -> None:
    (score,) = score_filled(np.array([[1]]), np.array([[-1]]))
    assert (score["accuracy"], score["coverage"], score["precision"]) == (0, 0, None)


def test_equal_partitions_agree_whatever_the_names() -> None:
    truth = np.array([0, 0, 1, 1, 2, 2])
    assert compare_clusters(np.array([4, 4, 0, 0, 1, 1]), truth) == pytest.approx(
        {"nmi": 1, "purity": 1}
    )


def test_independent_partitions_do_not_agree() -> None:
    found = compare_clusters(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    assert found == pytest.approx({"nmi": 0, "purity": 1 / 2}, abs=1e-12)


def test_agreement_by_hand_and_unplaced_items_have_no_say() -> None:
    clusters = np.array([0, 0, 0, 1, -1, 0])
    truth = np.array([0, 0, 1, 1, 1, -1])
    information = math.log(2) - (3 / 4) * (math.log(3) - (2 / 3) * math.log(2))
    entropies = -(3 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4)), math.log(2)
    found = compare_clusters(clusters, truth)
    assert found == pytest.approx({"nmi": 2 * information / sum(entropies), "purity": 3 / 4})


def test_a_single_group_on_both_sides_agrees() -> None:
    assert compare_clusters(np.zeros(3, int), np.zeros(3, int)) == {"nmi": 1.0, "purity": 1.0}
