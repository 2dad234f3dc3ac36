"""The product of generator and item graph, against scoring every item."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.evaluation.protocols import protocols
from tests.retriever.tiny import (
    CASES,
    MAX_HISTORY,
    histories,
    make_retriever,
    ranked,
    teacher_forced_scores,
)

from hidvae.data.interactions import Sequences
from hidvae.features.item_graph import ItemGraph
from hidvae.ranking.graph_score import Added, GraphScore
from hidvae.ranking.ranker import GenerativeRanker

N = 32
TRAIN = Sequences.from_lists([[0, 1, 2, 3], [2, 1, 4], [5, 6, 7, 8, 9], [9, 0, 11]])
WARM = np.isin(np.arange(N), TRAIN.items)


def random_added(num_users: int, seed: int = 0) -> Added:
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(N)[:6] for _ in range(num_users)])
    values = rng.uniform(0, 12, items.shape)
    values[0, 4:] = 0
    return Added(torch.from_numpy(items), torch.from_numpy(values.astype(np.float32)))


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


def graph_score(
    weight: float = 8.0,
    candidates: int = 10,
    favours_history: bool = False,
    neighbours: int = N,
    likeness: np.ndarray | None = None,
) -> GraphScore:
    return GraphScore(
        graph().neighbours(neighbours),
        num_latest=3,
        decay=0.6,
        weight=weight,
        smoothing=0.03,
        num_candidates=candidates,
        favours_history=favours_history,
        warm_items=WARM if likeness is None else np.ones(N, dtype=bool),
        cold_factor=2.0,
        likeness=likeness,
        likeness_weight=5.0,
    )


def added_by(score: GraphScore, asked: Sequences, allowed: np.ndarray | None = None) -> np.ndarray:
    """(U, N) what every item gains."""
    history = torch.from_numpy(asked.padded(int(asked.lengths.max())))
    items, values = score(history, None if allowed is None else torch.from_numpy(allowed)[None])
    assert (values >= 0).all()
    return torch.zeros(len(history), N).scatter_add_(1, items, values).numpy()


@pytest.mark.parametrize("case", CASES)
def test_a_wide_search_ranks_by_log_probability_plus_gain(case: str) -> None:
    retriever, batch = make_retriever(**CASES[case]), histories()
    added = random_added(len(batch[0]))
    log_probs = teacher_forced_scores(retriever, *batch)
    expected = log_probs.scatter_add(1, *added)
    found = ranked(retriever, *batch, N, added=added)
    torch.testing.assert_close(
        found.scores, expected.sort(dim=1, descending=True).values, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(found.scores, expected.gather(1, found.items), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.log_probs, log_probs.gather(1, found.items))


def test_one_beam_finds_the_item_whose_gain_comes_at_its_last_code() -> None:
    retriever, batch = make_retriever(), histories()
    worst = teacher_forced_scores(retriever, *batch).argmin(dim=1, keepdim=True)
    found = ranked(retriever, *batch, 1, added=Added(worst, torch.full(worst.shape, 100.0)))
    assert found.items.tolist() == worst.tolist()


def test_without_anything_to_gain_nothing_changes() -> None:
    retriever, batch = make_retriever(), histories()
    nothing = Added(torch.zeros(len(batch[0]), 2, dtype=torch.long), torch.zeros(len(batch[0]), 2))
    plain = ranked(retriever, *batch, 5)
    found = ranked(retriever, *batch, 5, added=nothing)
    assert found.items.tolist() == plain.items.tolist()
    assert torch.equal(found.scores, plain.log_probs)


@pytest.mark.parametrize("neighbours", [4, N])
@pytest.mark.parametrize("candidates", [7, N, 50])
def test_gains_are_log_ratios_of_the_neighbours_scores(neighbours: int, candidates: int) -> None:
    some = Sequences.from_lists([[5, 2], [0], [4, 1, 1, 0, 7]])
    score = graph_score(weight=3.0, candidates=candidates, neighbours=neighbours)
    gained = added_by(score, some)
    of_item = graph().neighbours(neighbours).toarray()
    for user in range(3):
        latest = some[user][-3:][::-1]
        scores = sum(0.6**step * of_item[item] for step, item in enumerate(latest))
        scores[some[user]] = 0.0
        least = np.sort(scores)[::-1][candidates] if candidates < N else 0.0
        expected = np.where(WARM, 3.0, 6.0) * np.log((scores + 0.03) / (least + 0.03))
        np.testing.assert_allclose(gained[user], expected.clip(0), rtol=1e-4, atol=1e-5)


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
    assert not added_by(graph_score(), some)[0, 1:4].any()
    assert added_by(graph_score(favours_history=True), some)[0, 1:4].any()


def test_only_allowed_items_gain() -> None:
    allowed = np.isin(np.arange(N), [20, 21, 22])
    gained = added_by(graph_score(), Sequences.from_lists([[1, 2], [9]]), allowed)
    assert gained[:, allowed].any() and not gained[:, ~allowed].any()


def test_a_heavy_weight_ranks_as_the_graph_does() -> None:
    some = Sequences.from_lists([[5], [2, 1], [9, 0]])
    heavy = graph_score(weight=1e4)
    ranker = GenerativeRanker(make_retriever(), 10, MAX_HISTORY, graph=heavy)
    found = protocols(ranker, some, 3).excluding
    assert found.tolist() == np.argsort(-added_by(heavy, some), axis=1)[:, :3].tolist()


def test_where_nothing_is_left_nothing_gains() -> None:
    gained = added_by(graph_score(), Sequences.from_lists([list(range(N)), [5]]))
    assert not gained[0].any() and gained[1].any()


def some_vectors() -> np.ndarray:
    """(N, 6) of length 1."""
    vectors = np.random.default_rng(5).normal(size=(N, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


@pytest.mark.parametrize("favours_history", [False, True])
@pytest.mark.parametrize("candidates", [7, 50])
def test_likeness_adds_its_weighted_cosines(candidates: int, favours_history: bool) -> None:
    vectors = some_vectors()
    score = graph_score(3.0, candidates, favours_history, likeness=vectors)
    some = Sequences.from_lists([[5, 2], [0], [4, 1, 1, 0, 7]])
    gained = added_by(score, some)
    of_item = graph().neighbours(N).toarray()
    for user in range(3):
        latest = some[user][-3:][::-1]
        near = sum(0.6**step * of_item[item] for step, item in enumerate(latest))
        alike = sum(0.6**step * vectors @ vectors[item] for step, item in enumerate(latest))
        total = 3.0 * np.log(near + 0.03) + 5.0 * alike
        if favours_history:  # an item is not recommended for being like itself
            for step, item in enumerate(latest):
                total[item] -= 5.0 * 0.6**step
        else:
            total[some[user]] = total.min()
        least = np.sort(total)[::-1][candidates] if candidates < N else total.min()
        np.testing.assert_allclose(gained[user], (total - least).clip(0), rtol=1e-4, atol=1e-4)


def test_likeness_alone_ranks_without_a_graph() -> None:
    vectors = np.eye(N, dtype=np.float32)
    vectors[9] = vectors[3]
    gained = added_by(
        graph_score(0.0, neighbours=0, likeness=vectors), Sequences.from_lists([[1, 3]])
    )[0]
    assert gained[9] == pytest.approx(5.0) and np.count_nonzero(gained) == 1


def test_only_allowed_items_gain_by_likeness() -> None:
    allowed = np.isin(np.arange(N), [20, 21, 22])
    score = graph_score(likeness=some_vectors())
    gained = added_by(score, Sequences.from_lists([[1, 2], [9]]), allowed)
    assert gained[:, allowed].any() and not gained[:, ~allowed].any()
