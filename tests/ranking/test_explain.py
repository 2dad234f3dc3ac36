"""Reasons of a recommendation, against what the tables say."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hidvae.data.catalogue import Catalogue
from hidvae.features.tags.vocabulary import TagVocabulary
from hidvae.ranking.explain import Explainer, HistoryMatch, Recommendation
from hidvae.semantic_ids.table import SemanticIds

N, M = 24, 3


def explainer(seed: int = 0) -> tuple[Explainer, SemanticIds]:
    rng = np.random.default_rng(seed)
    rows = rng.choice(3**M, N, replace=False)
    names = [f"id-{index}" for index in range(N)]
    ids = SemanticIds(
        names,
        np.column_stack(np.unravel_index(rows, (3,) * M)),
        (3,) * M,
        rng.integers(-1, 2, (N, 2)),
        rng.random((N, 2)).astype(np.float32),
    )
    tags = TagVocabulary(
        names=[["Hair", "Skin"], ["Shampoo", "Cream"]],
        paths=[["Hair", "Skin"], ["Hair > Shampoo", "Skin > Cream"]],
        parents=[np.array([-1, -1]), np.array([0, 1])],
        counts=[np.ones(2, np.int64), np.ones(2, np.int64)],
    )
    frame = pl.DataFrame({"item_id": names, "title": [f"Title {index}" for index in range(N)]})
    return Explainer(Catalogue(frame), ids, tags), ids


def shared_prefix(first: list[int], second: list[int]) -> int:
    length = 0
    while length < len(first) and first[length] == second[length]:
        length += 1
    return length


@given(
    st.integers(0, 5),
    st.integers(0, N - 1),
    st.lists(st.integers(0, N - 1), min_size=1, max_size=12),
    st.integers(1, 4),
)
@settings(max_examples=80, deadline=None)
def test_matches_are_the_longest_then_latest_shared_prefixes(seed, item, history, most) -> None:
    made, ids = explainer(seed)
    codes = ids.codes.tolist()
    last_seen = {index: place for place, index in enumerate(history)}
    naive = sorted(
        (-shared_prefix(codes[index], codes[item]), -place, index)
        for index, place in last_seen.items()
        if shared_prefix(codes[index], codes[item])
    )
    expected = tuple(
        HistoryMatch(f"id-{index}", f"Title {index}", -shared) for shared, _, index in naive[:most]
    )
    assert made.matches(item, history, most) == expected


def test_at_most_three_items_are_named_by_default() -> None:
    made, _ = explainer()
    assert len(made.matches(0, list(range(N)))) == 3
    assert made.matches(0, list(range(N)))[0] == HistoryMatch("id-0", "Title 0", M)


def test_a_shared_code_after_a_different_one_is_no_match() -> None:
    made, ids = explainer()
    codes = ids.codes
    strangers = np.flatnonzero((codes[:, 0] != codes[5, 0]) & (codes[:, 1] == codes[5, 1]))
    assert len(strangers)
    assert made.matches(5, strangers.tolist()) == ()


def test_tag_path_ends_where_no_tag_is_known() -> None:
    made, ids = explainer()
    names = [["Hair", "Skin"], ["Shampoo", "Cream"]]
    lengths = set()
    for item in range(N):
        path, confidences = made.tag_path(item)
        known = ids.tag_ids[item].tolist()
        known = known[: known.index(-1)] if -1 in known else known
        assert path == tuple(names[level][tag] for level, tag in enumerate(known))
        assert confidences == tuple(ids.tag_confidence[item, : len(known)].tolist())
        lengths.add(len(path))
    assert lengths == {0, 1, 2}


def test_a_recommendation_holds_plain_values() -> None:
    made, ids = explainer()
    found = made.explain(
        7, [7, 3], np.float32(math.log(0.25)), np.float32(1.5), np.log([0.5, 0.5, 1.0])
    )
    assert (found.item_id, found.title) == ("id-7", "Title 7")
    assert found.codes == tuple(ids.strings(7))
    assert found.codes[0] == f"<a_{ids.codes[7, 0]}>"
    assert found.prob == pytest.approx(0.25)
    assert found.code_probs == pytest.approx((0.5, 0.5, 1.0))
    values = (found.log_prob, found.prob, *found.code_probs, *found.tag_confidences)
    assert {type(value) for value in values} == {float}
    assert found.because[0].shared_levels == M
    assert type(found.because[0].shared_levels) is int


def recommendation(**changes: Any) -> Recommendation:
    made, _ = explainer()
    plain = made.explain(0, [0], -1.0, -1.0, [-0.2, -0.3, -0.5])
    return dataclasses.replace(plain, **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"because": (HistoryMatch("a", "Rose soap", 2),)},
            "Shares 2 of 3 levels with 'Rose soap' of the history; Skin > Cream (sure: 91%, 40%)",
        ),
        ({"because": ()}, "Likely next: Skin > Cream (sure: 91%, 40%)"),
        (
            {"because": (HistoryMatch("a", "Rose soap", 1),), "tag_path": ()},
            "Shares 1 of 3 levels with 'Rose soap' of the history",
        ),
        ({"because": (), "tag_path": ()}, "Likely next after this history"),
    ],
)
def test_the_reason_is_a_sentence_of_what_is_known(changes: dict[str, Any], reason: str) -> None:
    tags = {"tag_path": ("Skin", "Cream"), "tag_confidences": (0.911, 0.4)}
    assert recommendation(**{**tags, **changes}).reason == reason
