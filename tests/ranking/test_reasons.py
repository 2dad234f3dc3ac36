"""What lifts an item, against numbers made by hand and against the scores themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from hidvae.ranking.graph_score import GraphScore
from hidvae.ranking.reasons import KINDS, Reasons

NEIGHBOURS = np.zeros((4, 4), dtype=np.float32)
NEIGHBOURS[1, 2], NEIGHBOURS[0, 2], NEIGHBOURS[2, 1] = 0.4, 0.2, 0.7
LIKENESS = np.array([[-1, 0], [0.6, 0.8], [1, 0], [0, -1]], dtype=np.float32)
CONTENT = np.array([[0, 3], [2, 0], [5, 0], [-1, 0]], dtype=np.float32)
WORDS = sparse.csr_array(
    np.array([[0, 0, 1], [1, 0, 0], [0.5, math.sqrt(0.75), 0], [0, 0, 0]], dtype=np.float32)
)


def graph_score(neighbours: np.ndarray = NEIGHBOURS, **changes: Any) -> GraphScore:
    plain = {
        "num_latest": 2,
        "decay": 0.5,
        "weight": 2.0,
        "smoothing": 0.1,
        "num_candidates": 2,
        "favours_history": False,
        "warm_items": np.ones(len(neighbours), dtype=bool),
        "cold_factor": 3.0,
        "likeness": LIKENESS,
        "likeness_weight": 3.0,
    }
    return GraphScore(sparse.csr_array(neighbours), **(plain | changes))


def shares(
    graph: GraphScore | None, history: list[int], item: int, **content: Any
) -> dict[int, dict[str, float]]:
    known = {"content": CONTENT, "tfidf": WORDS} | content
    found = Reasons(graph, **known).shares(np.array(history), np.array([item]))
    return {
        source: dict(zip(KINDS, row, strict=True))
        for source, row in zip(found.sources.tolist(), found.of_gain[0].tolist(), strict=True)
    }


def test_shares_are_those_made_by_hand() -> None:
    # q weighs item 1 by 1 and item 0 by .5, so (q S) of item 2 is .4 + .1, and log(1 + .5 / .1)
    # is shared 4 : 1. The contents of 1 and 2 are alike (cosine 1) and so are their words (.5):
    # .1 * 1 + .2 * .5 of the .4, the other .2 is co-occurrence. By likeness 1 lifts by 3 * .6, and
    # 0 holds back.
    found = shares(graph_score(), [0, 1], 2)
    total = 2 * math.log(6) + 1.8
    of_one = 2 * math.log(6) * 0.8
    assert found[1] == pytest.approx(
        {
            "likeness": 1.8 / total,
            "co_occurrence": of_one * 0.5 / total,
            "content": of_one * 0.25 / total,
            "words": of_one * 0.25 / total,
        },
        abs=1e-6,
    )
    nothing = {"likeness": 0.0, "content": 0.0, "words": 0.0}
    assert found[0] == pytest.approx(
        {**nothing, "co_occurrence": 2 * math.log(6) * 0.2 / total}, abs=1e-6
    )
    assert list(found) == [1, 0]
    assert sum(sum(kinds.values()) for kinds in found.values()) == pytest.approx(1)


def test_the_latest_count_most_and_older_ones_not_at_all() -> None:
    lifts = graph_score().lifts(np.array([3, 1, 0]), np.array([2]))
    assert lifts.sources.tolist() == [0, 1]
    found = 0.2 + 0.5 * 0.4
    assert lifts.by_graph[0] == pytest.approx(2 * math.log(1 + found / 0.1) * np.array([0.5, 0.5]))
    assert lifts.by_likeness[0] == pytest.approx([-3.0, 0.5 * 1.8], abs=1e-6)


def test_an_item_that_was_taken_twice_is_named_once_with_both_weights() -> None:
    lifts = graph_score(num_latest=3).lifts(np.array([1, 0, 1]), np.array([2]))
    assert lifts.sources.tolist() == [1, 0]
    assert lifts.by_likeness[0] == pytest.approx([1.25 * 1.8, -1.5], abs=1e-6)
    assert lifts.by_graph[0, 0] / lifts.by_graph[0, 1] == pytest.approx(1.25 * 0.4 / (0.5 * 0.2))


def test_no_item_is_lifted_by_being_like_itself() -> None:
    score = graph_score(favours_history=True)
    lifts = score.lifts(np.array([0, 1]), np.array([1]))
    assert lifts.by_likeness[0].tolist() == pytest.approx([0.0, -0.9], abs=1e-6)


def test_content_that_holds_back_leaves_the_rest_its_score() -> None:
    contents = CONTENT.copy()
    contents[2] = [-5, 0]  # cosine -1 with item 1: -.1 and .1 of words leave .4 to co-occurrence
    found = shares(graph_score(likeness=None), [1], 2, content=contents)[1]
    assert found == pytest.approx(
        {"likeness": 0.0, "co_occurrence": 0.8, "content": 0.0, "words": 0.2}, abs=1e-6
    )


def test_what_is_not_there_has_no_share() -> None:
    assert shares(None, [0, 1], 2) == {}
    by_likeness = shares(graph_score(weight=0.0), [1], 2)[1]
    assert by_likeness == pytest.approx(dict.fromkeys(KINDS, 0.0) | {"likeness": 1.0})
    by_graph = shares(graph_score(likeness=None), [1], 2)[1]
    assert by_graph["likeness"] == 0 and sum(by_graph.values()) == pytest.approx(1)
    no_words = sparse.csr_array((4, 0), dtype=np.float32)
    bare = shares(graph_score(likeness=None), [1], 2, content=CONTENT[:, :0], tfidf=no_words)[1]
    assert bare == pytest.approx(dict.fromkeys(KINDS, 0.0) | {"co_occurrence": 1.0})
    assert shares(graph_score(), [1], 3)[1] == dict.fromkeys(KINDS, 0.0)  # unlike, no neighbour


def test_rounding_is_no_cooccurrence() -> None:
    rng = np.random.default_rng(0)
    content = rng.normal(size=(4, 30)).astype(np.float32)
    unit = content / np.linalg.norm(content, axis=1, keepdims=True)
    near = np.maximum(0.1 * unit @ unit.T + 0.2 * (WORDS @ WORDS.T).toarray(), 0)
    found = Reasons(graph_score(near.astype(np.float32), likeness=None), content, WORDS).shares(
        np.array([0, 1]), np.arange(4)
    )
    assert (found.of_gain[:, :, 1] == 0).all() and found.of_gain.sum() > 1


@pytest.mark.parametrize("favours_history", [True, False])
def test_lifts_differ_as_gains_do(favours_history: bool) -> None:
    rng = np.random.default_rng(1)
    size = 30
    neighbours = rng.random((size, size)) * (rng.random((size, size)) < 0.4)
    vectors = rng.normal(size=(size, 6))
    score = graph_score(
        neighbours.astype(np.float32),
        num_latest=5,
        num_candidates=12,
        favours_history=favours_history,
        likeness=(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
    )
    history = np.array([7, 3, 9, 9, 4, 7, 1])
    added = score(torch.from_numpy(history)[None])
    gaining = added.values[0] > 0
    items, gains = added.items[0][gaining].numpy(), added.values[0][gaining].numpy()
    assert len(items) == 12
    lifts = score.lifts(history, items)
    total = (lifts.by_graph + lifts.by_likeness).sum(axis=1)
    np.testing.assert_allclose(total - total[0], gains - gains[0], atol=1e-4)


def test_a_cold_item_is_lifted_more_by_the_graph() -> None:
    warm = np.array([True, True, False, True])
    as_cold = graph_score(warm_items=warm).lifts(np.array([0, 1]), np.array([2]))
    as_warm = graph_score().lifts(np.array([0, 1]), np.array([2]))
    np.testing.assert_allclose(as_cold.by_graph, 3 * as_warm.by_graph)
    np.testing.assert_allclose(as_cold.by_likeness, as_warm.by_likeness)


def test_no_items_have_no_shares() -> None:
    found = Reasons(graph_score(), CONTENT, WORDS).shares(np.array([0]), np.zeros(0, np.int64))
    assert found.of_gain.shape == (0, 0, 4)
