from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidvae.data.interactions import Sequences
from hidvae.errors import ConfigError, ShapeError
from hidvae.ranking.lists import is_in_history, list_width, split_protocols, top_items


def test_split_protocols_by_hand():
    histories = Sequences.from_lists([[3, 1], [], [0, 0, 0]])
    ranked = np.array([[1, 2, 3, 0], [1, 2, 3, 0], [0, 4, -1, -1]])
    ranking = split_protocols(ranked, histories, 3, num_items=5)
    assert ranking.including.tolist() == [[1, 2, 3], [1, 2, 3], [0, 4, -1]]
    assert ranking.excluding.tolist() == [[2, 0, -1], [1, 2, 3], [4, -1, -1]]


def test_lists_are_padded_when_the_catalogue_is_shorter_than_top_k():
    ranking = split_protocols(np.array([[1, 0]]), Sequences.from_lists([[0]]), 4, num_items=2)
    assert ranking.including.tolist() == [[1, 0, -1, -1]]
    assert ranking.excluding.tolist() == [[1, -1, -1, -1]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_excluding_is_the_full_ranking_without_the_history(seed, top_k):
    generator = np.random.default_rng(seed)
    num_items = 12
    lists = [generator.integers(0, num_items, size=generator.integers(0, 7)) for _ in range(5)]
    histories = Sequences.from_lists(lists)
    scores = generator.integers(0, 4, size=(5, num_items)).astype(np.float32)  # many ties
    best = top_items(scores, list_width(histories, top_k, num_items))
    ranking = split_protocols(best, histories, top_k, num_items)
    for user, history in enumerate(lists):
        complete = sorted(range(num_items), key=lambda item: (-scores[user, item], item))  # noqa: B023
        without = [item for item in complete if item not in history]
        padding = [-1] * top_k
        assert ranking.including[user].tolist() == (complete + padding)[:top_k]
        assert ranking.excluding[user].tolist() == (without + padding)[:top_k]


def test_top_items_never_returns_minus_infinity():
    scores = np.array([[-np.inf, 2.0, -np.inf, 5.0]])
    assert top_items(scores, 3).tolist() == [[3, 1, -1]]


def test_padding_and_invalid_ids_are_in_no_history():
    histories = Sequences.from_lists([[0, 2], [1]])
    # 3 of user 0 has the key that item 0 of user 1 would have
    seen = is_in_history(np.array([[0, 3, -1], [1, -1, 0]]), histories, num_items=3)
    assert seen.tolist() == [[True, False, False], [True, False, False]]


def test_no_users():
    nobody = Sequences.from_lists([])
    ranking = split_protocols(np.empty((0, 3), dtype=np.int64), nobody, 3, num_items=5)
    assert ranking.including.shape == ranking.excluding.shape == (0, 3)
    assert top_items(np.empty((0, 5)), 3).shape == (0, 3)


def test_wrong_input_is_refused():
    histories = Sequences.from_lists([[0]])
    with pytest.raises(ShapeError, match=r"per history \(1\), found 2"):
        split_protocols(np.zeros((2, 2), dtype=np.int64), histories, 1, num_items=3)
    with pytest.raises(ConfigError, match="top_k of at least 1, found 0"):
        list_width(histories, 0, 3)


def test_top_items_among_candidates_are_those_of_the_whole_order_that_are_candidates():
    scores = np.random.default_rng(0).integers(0, 4, (5, 20)).astype(np.float32)
    candidates = np.arange(20) % 3 == 0
    everything = top_items(scores, 20)
    expected = [[item for item in row if candidates[item]] for row in everything]
    assert top_items(scores, 7, candidates).tolist() == expected
    assert (top_items(scores, 9, candidates)[:, 7:] == -1).all()
