"""The product of generator and item graph, against scoring every item."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.retriever.tiny import (
    CASES,
    MAX_HISTORY,
    histories,
    make_retriever,
    teacher_forced_scores,
)

from hidvae.data.interactions import Sequences
from hidvae.features.item_graph import ItemGraph
from hidvae.ranking import graph_score as prior_module
from hidvae.ranking.beam_search import beam_search
from hidvae.ranking.graph_score import Bonus, GraphPrior
from hidvae.ranking.ranker import GenerativeRanker

N = 32
TRAIN = Sequences.from_lists([[0, 1, 2, 3], [2, 1, 4], [5, 6, 7, 8, 9], [9, 0, 11]])
KNOWN = np.isin(np.arange(N), TRAIN.items)


def random_bonus(num_users: int, seed: int = 0) -> Bonus:
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(N)[:6] for _ in range(num_users)])
    items[0, 4:] = -1
    values = np.where(items >= 0, rng.uniform(0, 12, items.shape), 0)
    return Bonus(torch.from_numpy(items), torch.from_numpy(values.astype(np.float32)))


def graph() -> ItemGraph:
    content = np.random.default_rng(1).normal(size=(N, 5)).astype(np.float32)
    return ItemGraph(
        TRAIN,
        N,
        content,
        max_distance=5,
        two_hop_weight=1.0,
        content_weight=0.1,
        num_latest=3,
        decay=0.6,
    )


def prior(
    weight: float = 8.0, candidates: int = 10, favours_history: bool = False, neighbours: int = N
) -> GraphPrior:
    return GraphPrior(
        graph().neighbours(neighbours),
        num_latest=3,
        decay=0.6,
        weight=weight,
        smoothing=0.03,
        num_candidates=candidates,
        favours_history=favours_history,
        known_items=KNOWN,
        unknown_factor=2.0,
    )


@pytest.mark.parametrize("table_size", [0, 1 << 20], ids=["searched", "tabled"])
@pytest.mark.parametrize("case", CASES)
def test_a_wide_beam_ranks_by_log_probability_plus_bonus(
    case: str, table_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prior_module, "_TABLE_SIZE", table_size)
    retriever, batch = make_retriever(**CASES[case]), histories()
    bonus = random_bonus(len(batch[0]))
    log_probs = teacher_forced_scores(retriever, *batch)
    gained = torch.zeros_like(log_probs)
    for user in range(len(log_probs)):
        for item, value in zip(bonus.items[user], bonus.values[user], strict=True):
            if item >= 0:
                gained[user, item] = value
    found = beam_search(retriever, *batch, beam_width=N, bonus=bonus)
    expected = log_probs + gained
    torch.testing.assert_close(
        found.scores, expected.sort(dim=1, descending=True).values, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(found.scores, expected.gather(1, found.items), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.log_probs, log_probs.gather(1, found.items))


def test_one_beam_finds_the_item_whose_bonus_comes_at_its_last_code() -> None:
    retriever, batch = make_retriever(), histories()
    worst = teacher_forced_scores(retriever, *batch).argmin(dim=1, keepdim=True)
    bonus = Bonus(worst, torch.full(worst.shape, 100.0))
    found = beam_search(retriever, *batch, beam_width=1, bonus=bonus)
    assert found.items.tolist() == worst.tolist()


def test_without_anything_to_gain_nothing_changes() -> None:
    retriever, batch = make_retriever(), histories()
    nothing = Bonus(torch.full((len(batch[0]), 2), -1), torch.zeros(len(batch[0]), 2))
    plain = beam_search(retriever, *batch, beam_width=5)
    found = beam_search(retriever, *batch, beam_width=5, bonus=nothing)
    assert found.items.tolist() == plain.items.tolist()
    assert torch.equal(found.scores, plain.log_probs)


@pytest.mark.parametrize("neighbours", [4, N])
def test_gains_are_log_ratios_of_the_neighbours_scores(neighbours: int) -> None:
    some = Sequences.from_lists([[5, 2], [0], [4, 1, 1, 0, 7]])
    bonus = prior(weight=3.0, candidates=7, neighbours=neighbours).bonus(some)
    assert bonus.items.shape == (3, 7)
    of_item = graph().neighbours(neighbours).toarray()
    for user in range(3):
        latest = some[user][-3:][::-1]
        scores = sum(0.6**step * of_item[item] for step, item in enumerate(latest))
        unseen = [item for item in range(N) if item not in some[user] and scores[item] > 0]
        best = sorted(unseen, key=lambda item: -scores[item])
        found = [item for item in bonus.items[user].tolist() if item >= 0]
        assert found == best[:7]
        least = scores[best[7]] if len(best) > 7 else 0.0
        expected = np.where(KNOWN[found], 3.0, 6.0) * np.log(
            (scores[found] + 0.03) / (least + 0.03)
        )
        np.testing.assert_allclose(bonus.values[user][: len(found)], expected, rtol=1e-4, atol=1e-5)
        assert not bonus.values[user][len(found) :].any()


def test_neighbours_are_the_best_of_the_whole_row() -> None:
    whole, some = graph().neighbours(N).toarray(), graph().neighbours(5).toarray()
    alone = graph().scores(Sequences.from_lists([[item] for item in range(N)]))
    np.testing.assert_array_equal(whole, np.maximum(alone, 0))
    for row, best in zip(whole, some, strict=True):
        kept = np.argsort(-row)[:5]
        expected = np.zeros(N, np.float32)
        expected[kept] = row[kept]
        np.testing.assert_array_equal(best, expected)


def test_items_of_the_history_gain_only_where_they_may() -> None:
    some = Sequences.from_lists([[1, 2, 3]])
    assert not set(prior().bonus(some).items[0].tolist()) & {1, 2, 3}
    assert set(prior(favours_history=True).bonus(some).items[0].tolist()) & {1, 2, 3}


def test_only_candidates_gain() -> None:
    allowed = np.zeros(N, dtype=bool)
    allowed[[20, 21, 22]] = True
    bonus = prior().bonus(Sequences.from_lists([[1, 2], [9]]), allowed)
    assert all(set(row) - {-1} <= {20, 21, 22} for row in bonus.items.tolist())
    assert bonus.values.max() > 0


def test_a_heavy_prior_ranks_as_the_graph_does() -> None:
    some = Sequences.from_lists([[5], [2, 1], [9, 0]])
    heavy = prior(weight=1e4)
    ranker = GenerativeRanker(make_retriever(), 10, MAX_HISTORY, prior=heavy)
    ranked = ranker.rank(some, 3, None).excluding
    best = heavy.bonus(some)
    assert ranked.tolist() == best.items.gather(1, best.values.topk(3).indices).tolist()


def test_where_nothing_is_left_nothing_gains() -> None:
    bonus = prior().bonus(Sequences.from_lists([list(range(N)), [5]]))
    assert bonus.items[0].tolist() == [-1] * 10
    assert not bonus.values[0].any()
    assert bonus.values[1].any()
