"""The retriever as an ``evaluation.Ranker``."""

from __future__ import annotations

import numpy as np
import pytest
from tests.retriever.tiny import MAX_HISTORY, make_retriever

from hidvae.data.interactions import Sequences
from hidvae.errors import DataError
from hidvae.evaluation.evaluate_ranker import Ranker, evaluate_ranker
from hidvae.ranking.beam_search import exhaustive_scores
from hidvae.ranking.ranker import GenerativeRanker
from hidvae.retriever.interface import Retriever

N = 32
ARCHITECTURES = ["item_softmax", "item_decoder", "encoder_decoder"]


@pytest.fixture(params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> Retriever:
    return make_retriever(architecture=request.param, num_user_buckets=3)


def some_histories(seed: int = 0, longest: int = 20) -> Sequences:
    rng = np.random.default_rng(seed)
    return Sequences.from_lists(
        [rng.permutation(N)[:length] for length in [longest, *rng.integers(1, 12, 20), 1]]
    )


def as_ranker(model: Retriever, **options: int) -> Ranker:
    return GenerativeRanker(model, **{"beam_width": 8, "max_history": MAX_HISTORY, **options})


def test_wide_beams_rank_as_the_scores_of_all_items_do(model: Retriever) -> None:
    histories = some_histories()
    users = np.arange(histories.num_users)
    ranking = as_ranker(model, beam_width=N).rank(histories, N, users)
    for user in users:
        import torch

        items = torch.from_numpy(histories[user][-MAX_HISTORY:].astype(np.int64))[None]
        scores = exhaustive_scores(model, items, torch.tensor([user]))[0].numpy()
        assert sorted(ranking.including[user]) == list(range(N))
        found = scores[ranking.including[user]]
        np.testing.assert_allclose(found, np.sort(scores)[::-1], atol=1e-5)


@pytest.mark.parametrize("beam_width", [1, 5, 40])
@pytest.mark.parametrize("top_k", [1, 5, 10])
def test_lists_are_full_and_leave_the_history_out(
    model: Retriever, beam_width: int, top_k: int
) -> None:
    histories = some_histories()  # of up to 20 of 32 items: at least 12 are left to rank
    ranking = as_ranker(model, beam_width=beam_width).rank(histories, top_k, None)
    assert ranking.including.shape == ranking.excluding.shape == (histories.num_users, top_k)
    for user in range(histories.num_users):
        for ranked in (ranking.including[user], ranking.excluding[user]):
            assert (ranked >= 0).all()
            assert len(set(ranked.tolist())) == top_k
        assert not set(ranking.excluding[user].tolist()) & set(histories[user].tolist())


def test_excluding_is_including_without_the_history(model: Retriever) -> None:
    histories = some_histories()
    ranking = as_ranker(model, beam_width=6).rank(histories, 10, None)
    for user in range(histories.num_users):
        seen = set(histories[user].tolist())
        kept = [item for item in ranking.including[user].tolist() if item not in seen]
        assert ranking.excluding[user, : len(kept)].tolist() == kept


def test_only_when_the_items_run_out_are_lists_short(model: Retriever) -> None:
    histories = Sequences.from_lists([np.arange(30), [3]])
    ranking = as_ranker(model).rank(histories, 10, None)
    assert sorted(ranking.excluding[0].tolist()) == [-1] * 8 + [30, 31]
    assert ranking.excluding[0, 2:].tolist() == [-1] * 8
    assert (ranking.excluding[1] >= 0).all()
    assert (as_ranker(model).rank(histories, 40, None).including >= 0).sum(axis=1).tolist() == [
        N
    ] * 2


def test_neither_batches_nor_company_change_a_ranking(model: Retriever) -> None:
    histories = some_histories()
    users = np.arange(histories.num_users)
    together = as_ranker(model).rank(histories, 5, users)
    split = as_ranker(model, batch_size=3).rank(histories, 5, users)
    order = np.random.default_rng(1).permutation(users)
    shuffled = as_ranker(model).rank(histories.take(order), 5, users[order])
    for protocol in ("including", "excluding"):
        expected = getattr(together, protocol)
        np.testing.assert_array_equal(getattr(split, protocol), expected)
        np.testing.assert_array_equal(getattr(shuffled, protocol), expected[order])
    for user in users:
        alone = as_ranker(model).rank(histories.take([user]), 5, users[[user]])
        np.testing.assert_array_equal(alone.including[0], together.including[user])
        np.testing.assert_array_equal(alone.excluding[0], together.excluding[user])


def test_only_the_latest_items_are_read_but_all_are_left_out(model: Retriever) -> None:
    recent = [3, 9, 27, 4, 11, 30]
    histories = Sequences.from_lists([[1, 2, 8, *recent], recent])
    ranking = as_ranker(model, beam_width=N).rank(histories, 20, None)
    np.testing.assert_array_equal(ranking.including[0], ranking.including[1])
    assert not set(ranking.excluding[0].tolist()) & {1, 2, 8, *recent}


def test_an_empty_history_is_refused(model: Retriever) -> None:
    with pytest.raises(DataError, match="history 1 is empty") as error:
        as_ranker(model).rank(Sequences.from_lists([[3], [], [4]]), 5, None)
    assert "\n" not in str(error.value)


def test_no_users(model: Retriever) -> None:
    ranking = as_ranker(model).rank(Sequences.from_lists([]), 5, None)
    assert ranking.including.shape == ranking.excluding.shape == (0, 5)


@pytest.mark.parametrize("is_training", [True, False])
def test_ranking_is_free_of_dropout_and_leaves_the_mode_as_it_was(is_training: bool) -> None:
    model = make_retriever(dropout=0.5).train(is_training)
    first = as_ranker(model).rank(some_histories(), 5, None)
    again = as_ranker(model).rank(some_histories(), 5, None)
    np.testing.assert_array_equal(first.including, again.including)
    assert model.training is is_training


def test_the_evaluator_accepts_it(model: Retriever) -> None:
    histories = some_histories()
    rng = np.random.default_rng(2)
    result = evaluate_ranker(
        as_ranker(model, beam_width=2),
        histories,
        rng.integers(0, N, histories.num_users),
        num_items=N,
        cutoffs=(1, 5, 10),
        popularity=np.ones(N, dtype=np.int64),
        bootstrap_samples=0,
        batch_size=5,
    )
    for protocol in (result.including, result.excluding):
        assert protocol["invalid_rate"] == 0
        assert protocol["num_users"] == histories.num_users


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_among_candidates_the_order_is_that_of_the_scores_of_all_items(
    model: Retriever, share: float
) -> None:
    import torch

    histories = some_histories()
    candidates = np.random.default_rng(2).random(N) < share
    ranking = as_ranker(model, beam_width=N).rank(histories, N, None, candidates)
    for user in range(histories.num_users):
        items = torch.from_numpy(histories[user][-MAX_HISTORY:].astype(np.int64))[None]
        scores = exhaustive_scores(model, items, torch.tensor([-1]))[0].numpy()
        order = [item for item in np.argsort(-scores) if candidates[item]]
        for ranked, expected in (
            (ranking.including[user], order),
            (ranking.excluding[user], [i for i in order if i not in histories[user]]),
        ):
            assert ranked[: len(expected)].tolist() == expected
            assert (ranked[len(expected) :] == -1).all()


def test_narrow_beams_fill_their_lists_with_candidates(model: Retriever) -> None:
    histories = some_histories(longest=8)
    candidates = np.arange(N) % 2 == 0
    ranking = as_ranker(model, beam_width=1).rank(histories, 4, None, candidates)
    assert candidates[ranking.including].all() and candidates[ranking.excluding].all()
    assert (ranking.including >= 0).all() and (ranking.excluding >= 0).all()
