"""Reasons of a recommendation, against what the tables say."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from hidvae.data.catalogue import Catalogue
from hidvae.features.tags.vocabulary import TagVocabulary
from hidvae.ranking.explain import Cause, CauseParts, Explainer, Recommendation, ScoreParts
from hidvae.ranking.graph_score import GraphScore
from hidvae.ranking.reasons import Reasons
from hidvae.semantic_ids.table import SemanticIds

N, M = 24, 3


def explainer(graph: GraphScore | None = None) -> tuple[Explainer, SemanticIds]:
    rng = np.random.default_rng(0)
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
    return Explainer(Catalogue(frame), ids, tags, Reasons(graph)), ids


def shared_prefix(first: list[int], second: list[int]) -> int:
    length = 0
    while length < len(first) and first[length] == second[length]:
        length += 1
    return length


def graph_score(near: dict[tuple[int, int], float], likeness: np.ndarray | None) -> GraphScore:
    neighbours = np.zeros((N, N), dtype=np.float32)
    for pair, score in near.items():
        neighbours[pair] = score
    return GraphScore(
        sparse.csr_array(neighbours),
        num_latest=10,
        decay=1.0,
        weight=1.0,
        smoothing=1.0,
        num_candidates=5,
        favours_history=False,
        warm_items=np.ones(N, dtype=bool),
        cold_factor=1.0,
        likeness=likeness,
        likeness_weight=1.0,
    )


def explained(
    graph: GraphScore | None, history: list[int], item: int, gain: float, **further: Any
) -> Recommendation:
    made, _ = explainer(graph)
    (found,) = made.explain(
        np.array([item]),
        np.array(history),
        np.array([-4.0], np.float32),
        np.array([gain - 4.0], np.float32),
        np.log([[0.5, 0.5, 1.0]]),
        **further,
    )
    return found


def test_causes_are_named_by_share_three_at_most() -> None:
    near = {(1, 9): 0.1, (2, 9): 0.5, (3, 9): 0.2, (4, 9): 0.2, (5, 9): 0.0, (6, 9): 0.001}
    found = explained(graph_score(near, None), [1, 4, 2, 3, 5, 6], 9, gain=3.0)
    # Of equal shares, the latest comes first; the weights do not decay here.
    assert [cause.item_id for cause in found.because] == ["id-2", "id-3", "id-4"]
    assert [cause.share for cause in found.because] == pytest.approx(
        [0.5 / 1.001, 0.2 / 1.001, 0.2 / 1.001]
    )
    for cause in found.because:
        assert sum(cause.parts) == cause.parts.co_occurrence == pytest.approx(cause.share)
    found = explained(graph_score(near, None), [6, 2], 9, gain=3.0)
    assert [cause.item_id for cause in found.because] == ["id-2"]  # the other has 0.2 %


def test_the_parts_of_a_score_add_up_to_it() -> None:
    likeness = np.zeros((N, 2), np.float32)
    likeness[2], likeness[9] = [0.5, 0], [1, 0]
    graph = graph_score({(1, 9): math.e - 1}, likeness)  # which lifts by 1, the likeness by .5
    found = explained(graph, [1, 2], 9, gain=3.0)
    assert found.score_parts == pytest.approx(ScoreParts(-4.0, 2.0, 1.0, 0.0))
    assert [cause.share for cause in found.because] == pytest.approx([2 / 3, 1 / 3])
    assert found.because[1].parts == pytest.approx(CauseParts(likeness=1 / 3))
    later = explained(graph, [1, 2], 9, gain=3.0, gains=np.array([2.4]))
    assert later.score_parts == pytest.approx(ScoreParts(-4.0, 1.6, 0.8, 0.6))
    assert sum(later.score_parts) == pytest.approx(later.score)
    assert later.because == found.because


def test_what_gains_nothing_has_no_causes() -> None:
    graph = graph_score({(1, 9): 1.0}, None)
    for found in (explained(graph, [1], 9, gain=0.0), explained(None, [1], 9, gain=0.0)):
        assert found.because == () and found.score_parts == ScoreParts(-4.0, 0.0, 0.0, 0.0)
        assert found.reason.startswith("The generator expects it, no item of the history lifts it")


def test_what_is_only_less_unlike_the_history_has_no_cause() -> None:
    likeness = np.zeros((N, 2), np.float32)
    likeness[2], likeness[9] = [-0.5, 0], [1, 0]
    found = explained(graph_score({}, likeness), [2], 9, gain=0.25)
    assert found.because == () and found.score_parts == ScoreParts(-4.0, 0.0, 0.25, 0.0)


def test_levels_in_common_are_those_of_the_prefix() -> None:
    _, ids = explainer()
    codes = ids.codes.tolist()
    history = [index for index in range(N) if index != 5]
    lengths = set()
    for source in history:
        found = explained(graph_score({(source, 5): 1.0}, None), [source], 5, gain=1.0)
        length = shared_prefix(codes[source], codes[5])
        assert found.because[0].shared_levels == length
        lengths.add(length)
    assert lengths == {0, 1, 2}
    assert any(row[0] != codes[5][0] and row[1] == codes[5][1] for row in codes)


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
    made, ids = explainer(graph_score({(7, 7): 1.0, (3, 7): 1.0}, None))
    (found,) = made.explain(
        np.array([7]),
        np.array([7, 3]),
        np.array([math.log(0.25)], np.float32),
        np.array([1.5], np.float32),
        np.log(np.array([[0.5, 0.5, 1.0]], np.float32)),
    )
    assert (found.item_id, found.title) == ("id-7", "Title 7")
    assert found.codes == tuple(ids.strings(7))
    assert found.codes[0] == f"<a_{ids.codes[7, 0]}>"
    assert found.prob == pytest.approx(0.25)
    assert found.code_probs == pytest.approx((0.5, 0.5, 1.0))
    cause = found.because[1]
    numbers = (found.log_prob, found.prob, *found.code_probs, *found.tag_confidences)
    numbers = (*numbers, *found.score_parts, cause.share, *cause.parts)
    assert {type(value) for value in numbers} == {float}
    assert cause.item_id == "id-7" and cause.shared_levels == M
    assert type(cause.shared_levels) is int
    assert hash(found) == hash(dataclasses.replace(found))
    assert json.loads(json.dumps(found.to_json()))["because"][1] == {
        "item_id": "id-7",
        "title": "Title 7",
        "share": 0.5,
        "parts": {"likeness": 0.0, "co_occurrence": 0.5, "content": 0.0, "words": 0.0},
        "shared_levels": M,
    }


def cause(title: str, item_id: str = "a", **parts: float) -> Cause:
    return Cause(item_id, title, sum(parts.values()), CauseParts(**parts), 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"because": (cause("Soap", co_occurrence=0.61, words=0.1), cause("Oil", content=0.2))},
            "Users who took 'Soap' often took it too, or what goes with it (61% of what lifts it); "
            "like 'Oil' by content (20%); Skin > Cream (sure: 91%, 40%)",
        ),
        (
            {"because": (cause("Soap", likeness=0.3, words=0.4),)},
            "Shares words with 'Soap' (40% of what lifts it); also by learned likeness (30%)"
            "; Skin > Cream (sure: 91%, 40%)",
        ),
        (
            {"because": (cause("Soap", item_id="id-0", content=0.995, words=0.005),)},
            "It is in the history itself (100% of what lifts it); Skin > Cream (sure: 91%, 40%)",
        ),
        (
            {"because": ()},
            "The generator expects it, no item of the history lifts it; "
            "Skin > Cream (sure: 91%, 40%)",
        ),
        (
            {"because": (cause("Soap", likeness=1.0),), "tag_path": ()},
            "Goes with 'Soap' by learned likeness (100% of what lifts it)",
        ),
        (
            {"because": (), "tag_path": ()},
            "The generator expects it, no item of the history lifts it",
        ),
    ],
)
def test_the_reason_is_a_sentence_of_what_is_known(changes: dict[str, Any], reason: str) -> None:
    tags = {"tag_path": ("Skin", "Cream"), "tag_confidences": (0.911, 0.4)}
    plain = explained(None, [0], 0, gain=0.0)
    assert dataclasses.replace(plain, **{**tags, **changes}).reason == reason
