"""Untrained baselines among some items, and the one that knows content alone."""

from __future__ import annotations

import numpy as np
import pytest
from tests.evaluation.protocols import protocols

from hidvae.data.interactions import Sequences
from hidvae.evaluation.baselines.item_to_item import Ease, ItemKnn
from hidvae.evaluation.baselines.untrained import ContentGraph, Popularity, TextSimilarity
from hidvae.ranking.ranker import Ranker

N = 40
RNG = np.random.default_rng(0)
TRAIN = Sequences.from_lists([RNG.integers(0, 30, length) for length in RNG.integers(2, 9, 50)])
CONTENT = RNG.normal(size=(N, 6))
HISTORIES = Sequences.from_lists([[3, 4, 9], [35], [1, 1, 2, 38, 7, 0]])
RANKERS: list[Ranker] = [
    Popularity(TRAIN, N),
    ContentGraph(TRAIN, N, CONTENT),
    TextSimilarity(CONTENT),
    ItemKnn(TRAIN, N),
    Ease(TRAIN, N),
]


@pytest.mark.parametrize("ranker", RANKERS, ids=lambda ranker: ranker.name)
def test_allowed_items_keep_the_order_they_have_among_all_items(ranker: Ranker) -> None:
    allowed = np.arange(N) % 4 == 3
    everything = protocols(ranker, HISTORIES, N)
    found = protocols(ranker, HISTORIES, 12, allowed)
    for user in range(HISTORIES.num_users):
        for whole, part in (
            (everything.including[user], found.including[user]),
            (everything.excluding[user], found.excluding[user]),
        ):
            expected = [item for item in whole if item >= 0 and allowed[item]]
            assert part[part >= 0].tolist() == expected


def test_text_similarity_is_the_cosine_to_the_weighted_history() -> None:
    ranking = protocols(TextSimilarity(CONTENT * 7, num_latest=3, decay=0.5), HISTORIES, N)
    unit = CONTENT / np.linalg.norm(CONTENT, axis=1, keepdims=True)
    profile = 0.25 * unit[38] + 0.5 * unit[7] + unit[0]
    assert ranking.including[2].tolist() == np.argsort(-(unit @ profile)).tolist()


def test_text_similarity_finds_an_item_that_nobody_had() -> None:
    content = CONTENT.copy()
    content[39] = content[9] * 3
    (ranked,) = protocols(
        TextSimilarity(content), Sequences.from_lists([[9]]), 1
    ).excluding.tolist()
    assert ranked == [39]
