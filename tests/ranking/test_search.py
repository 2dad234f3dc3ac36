"""The search against brute force: the training loss of every item, the graph, every mask."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from tests.retriever.tiny import (
    CASES,
    MAX_HISTORY,
    all_log_probs,
    histories,
    make_retriever,
    random_ids,
    ranked,
    single_target,
    teacher_forced_scores,
)
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hidvae.data.interactions import Sequences
from hidvae.errors import ConfigError, DataError, SearchTimeout
from hidvae.ranking import search as search_module
from hidvae.ranking.filters import TagLimit
from hidvae.ranking.graph_score import GraphScore
from hidvae.ranking.search import Found, search, top, top_items
from hidvae.retriever.interface import BeamRetriever, ExactRetriever, Retriever
from hidvae.semantic_ids.table import SemanticIds

N = 32
every_case = pytest.mark.parametrize("case", CASES)
one_of_each = pytest.mark.parametrize(
    "case", ["item_softmax", "item_decoder, all inputs", "encoder_decoder"]
)


@cache
def retriever(case: str) -> Retriever:
    return make_retriever(**CASES[case])


@cache
def true_scores(case: str) -> Tensor:
    """(B, N) by teacher forcing, for the histories of ``histories()``."""
    return teacher_forced_scores(retriever(case), *histories())


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def assert_real_and_distinct(items: Tensor) -> None:
    for row in items.tolist():
        real = [item for item in row if item >= 0]
        assert len(set(real)) == len(real)
        assert all(item < N for item in real)
        assert row == real + [-1] * (len(row) - len(real))  # padding stands at the end


@every_case
def test_a_wide_beam_equals_exhaustive_scoring(case: str) -> None:
    expected = true_scores(case)
    assert expected.std() > 0.3  # the stirred weights do tell items apart
    found = ranked(retriever(case), *histories(), N)
    assert found.items.sort(dim=1).values.tolist() == [list(range(N))] * 4
    close(found.log_probs, expected.gather(1, found.items))
    close(found.log_probs, expected.sort(dim=1, descending=True).values)
    close(all_log_probs(retriever(case), *histories()), expected)


@every_case
@torch.no_grad()
def test_codes_of_an_item_multiply_to_its_probability(case: str) -> None:
    model = retriever(case)
    memory = model.read(*histories())
    items = torch.from_numpy(np.random.default_rng(4).integers(0, N, (4, 50)))
    found = model.code_log_probs(memory, items)
    assert found.shape == (4, 50, model.tables.num_levels)
    assert (found <= 1e-6).all()
    close(found.sum(dim=2), true_scores(case).gather(1, items))


@every_case
@torch.no_grad()
def test_codes_of_siblings_share_the_prefix_and_sum_to_its_probability(case: str) -> None:
    model = retriever(case)
    if not CASES[case].get("prefix_normalized", True):
        return
    every = torch.arange(N).expand(4, -1)
    of_codes = model.code_log_probs(model.read(*histories()), every)
    codes = model.tables.codes
    for depth in range(1, codes.shape[1]):
        prefix = of_codes[:, :, :depth].sum(dim=2)
        for item in range(N):
            below = (codes[:, :depth] == codes[item, :depth]).all(dim=1)
            close(prefix[:, item], true_scores(case)[:, below].logsumexp(dim=1))


@every_case
def test_probabilities_over_the_catalogue_sum_to_one_if_normalised_over_prefixes(
    case: str,
) -> None:
    total = ranked(retriever(case), *histories(), N).log_probs.exp().sum(dim=1)
    if CASES[case].get("prefix_normalized", True):
        close(total, torch.ones(4))
    else:
        assert (total < 0.99).all()


@every_case
@pytest.mark.parametrize("width", [1, 3, 10])
def test_a_narrow_beam_finds_real_items_with_their_true_scores(case: str, width: int) -> None:
    found = ranked(retriever(case), *histories(), width)
    assert found.items.shape == (4, width)
    assert (found.items >= 0).all()
    assert_real_and_distinct(found.items)
    close(found.log_probs, true_scores(case).gather(1, found.items))
    assert (found.log_probs.diff(dim=1) <= 0).all()


@every_case
@pytest.mark.parametrize("width", [1, 3, 10])
def test_a_narrow_beam_goes_on_with_the_most_probable_prefixes(case: str, width: int) -> None:
    """Level by level, against sums over all items; exact retrievers need no beam."""
    model = retriever(case)
    if isinstance(model, ExactRetriever):
        return
    if not CASES[case].get("prefix_normalized", True):
        return  # there a prefix is not the sum of its items
    probs, codes = true_scores(case).exp(), model.tables.codes
    found = ranked(model, *histories(), width)
    for row, items in zip(probs, found.items.tolist(), strict=True):
        kept: set[tuple[int, ...]] = {()}
        for level in range(1, codes.shape[1] + 1):
            total: dict[tuple[int, ...], float] = {}
            for prob, code in zip(row.tolist(), codes.tolist(), strict=True):
                if tuple(code[: level - 1]) in kept:
                    prefix = tuple(code[:level])
                    total[prefix] = total.get(prefix, 0.0) + prob
            kept = set(sorted(total, key=lambda prefix: -total[prefix])[:width])
        assert {tuple(codes[item].tolist()) for item in items} >= kept


@one_of_each
@pytest.mark.parametrize("k", [N + 7, 200])
def test_lists_are_padded_where_items_run_out(case: str, k: int) -> None:
    found = ranked(retriever(case), *histories(), k)
    assert found.items.shape == found.log_probs.shape == (4, k)
    assert_real_and_distinct(found.items)
    assert torch.equal(found.items < 0, found.log_probs == -torch.inf)
    assert ((found.items >= 0).sum(dim=1) == N).all()


@every_case
def test_neither_order_nor_company_nor_padding_changes_a_row(case: str) -> None:
    items, users = histories()
    together = ranked(retriever(case), items, users, 5)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = ranked(retriever(case), items[order], users[order], 5)
    assert torch.equal(shuffled.items, together.items[order])
    close(shuffled.log_probs, together.log_probs[order])
    for row in range(4):
        length = int((items[row] >= 0).sum())
        alone = ranked(retriever(case), items[row : row + 1, :length], users[row : row + 1], 5)
        assert torch.equal(alone.items[0], together.items[row])
        close(alone.log_probs[0], together.log_probs[row])


@every_case
def test_history_and_its_order_matter(case: str) -> None:
    items, users = histories()
    scores = true_scores(case)
    swapped = items.clone()
    swapped[2] = items[2].flip(0)
    other = all_log_probs(retriever(case), swapped, users)
    assert (other[2] - scores[2]).abs().max() > 1e-3
    close(other[0], scores[0])


@one_of_each
def test_the_same_search_twice_gives_the_same_bits(case: str) -> None:
    first = ranked(retriever(case), *histories(), 7)
    again = ranked(retriever(case), *histories(), 7)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@every_case
def test_masks_restrict_the_items_and_keep_their_scores(case: str) -> None:
    model = retriever(case)
    allowed = torch.from_numpy(np.random.default_rng(2).random((1, N)) < 0.25)
    count = int(allowed.sum())
    exact = ranked(model, *histories(), N, allowed=allowed)
    expected = [allowed[0].nonzero().flatten().tolist()] * 4
    assert exact.items[:, :count].sort(dim=1).values.tolist() == expected
    assert (exact.items[:, count:] == -1).all()
    close(exact.log_probs[:, :count], true_scores(case).gather(1, exact.items[:, :count]))
    narrow = ranked(model, *histories(), 2, allowed=allowed)
    assert allowed[0, narrow.items].all()  # two allowed items: no beam ran into a dead end


@every_case
def test_each_user_may_have_a_mask_of_their_own(case: str) -> None:
    model = retriever(case)
    allowed = torch.from_numpy(np.random.default_rng(3).random((4, N)) < 0.3)
    together = ranked(model, *histories(), 3, allowed=allowed)
    for row in range(4):
        items, users = (part[row : row + 1] for part in histories())
        alone = ranked(model, items, users, 3, allowed=allowed[row : row + 1])
        assert torch.equal(alone.items[0], together.items[row])


@one_of_each
def test_a_mask_that_allows_nothing_finds_nothing(case: str) -> None:
    nothing = torch.zeros(1, N, dtype=torch.bool)
    found = ranked(retriever(case), *histories(), 3, allowed=nothing)
    assert (found.items == -1).all()
    assert (found.log_probs == -torch.inf).all()


@one_of_each
def test_one_item_has_probability_one(case: str) -> None:
    model = make_retriever(random_ids(num_items=1), **CASES[case])
    found = ranked(model, torch.tensor([[0, 0]]), torch.tensor([-1]), 4)
    assert found.items.tolist() == [[0, -1, -1, -1]]
    close(found.log_probs[0, :1], torch.zeros(1))


@pytest.mark.parametrize("case", [case for case in CASES if "softmax" not in case])
@torch.no_grad()
def test_stepping_along_many_beams_equals_teacher_forcing(case: str) -> None:
    """``step`` and ``advance`` with beams that fork and swap places, against the loss."""
    model, (items, users) = retriever(case), histories()
    assert isinstance(model, BeamRetriever)
    tables = model.tables
    rng = np.random.default_rng(0)
    targets = torch.from_numpy(rng.integers(0, N, (4, 5)))  # (B, W), one item per beam
    memory = model.read(items, users)
    state = model.begin(memory)
    total = torch.zeros(4, 5)
    for level in range(tables.num_levels):
        nodes = tables.nodes_of_items[level, targets if level else targets[:, :1]]
        children = tables.children_at(level, nodes)  # level 0 has one beam for all
        log_probs, state = model.step(memory, state, level, children)
        assert (log_probs[~children.is_real] == -torch.inf).all()
        codes = tables.codes[targets][:, :, level]
        is_taken = (children.code == codes.unsqueeze(2)) & children.is_real
        assert (is_taken.sum(dim=2) == 1).all()
        total += log_probs.expand(4, 5, -1).masked_fill(~is_taken, 0).sum(dim=2)
        if level == tables.num_levels - 1:
            break
        if level == 0:
            parents = torch.zeros(4, 5, dtype=torch.long)
        else:  # the beams change places: what each carries must come along
            parents = torch.from_numpy(np.stack([rng.permutation(5) for _ in range(4)]))
            targets, total = targets.gather(1, parents), total.gather(1, parents)
            codes = codes.gather(1, parents)
        nodes = tables.nodes_of_items[level + 1, targets]
        state = model.advance(state, level, parents, codes, nodes)
    close(total, true_scores(case).gather(1, targets))


@torch.no_grad()
def test_a_cold_item_is_as_probable_as_a_typical_sibling() -> None:
    warm = np.ones(N, dtype=bool)
    warm[[3, 4, 11, 30]] = False
    model = make_retriever(warm_items=warm)
    assert isinstance(model, BeamRetriever)
    tables = model.tables
    items, users = histories()
    state = model.begin(model.read(items, users))
    children = tables.children_at(0, torch.zeros(len(items), 1, dtype=torch.long))
    log_probs, _ = model.step(model.read(items, users), state, 0, children)
    expected = log_probs.squeeze(1)
    code, child = children.code[0, 0], children.node[0, 0]
    is_warm = tables.is_warm(1, child)
    assert is_warm is not None
    means = expected[:, is_warm].mean(dim=1, keepdim=True)
    close(expected[:, ~is_warm], means.expand(-1, int((~is_warm).sum())))
    found = ranked(model, items, users, N)
    code_log_probs = model.code_log_probs(model.read(items, users), found.items)
    of_code = {
        int(tables.codes[item, 0]): prob
        for item, prob in zip(found.items[0], code_log_probs[0, :, 0], strict=True)
    }
    for place, first in enumerate(code.tolist()):
        close(of_code[first], expected[0, place])
    close(found.log_probs.exp().sum(dim=1), torch.ones(len(items)))
    siblings = code_log_probs[0]
    for rank, item in enumerate(found.items[0].tolist()):
        same = (tables.codes[found.items[0], :2] == tables.codes[item, :2]).all(dim=1)
        if not warm[item] and not warm[found.items[0][same].numpy()].any():
            close(siblings[rank, 2].exp(), torch.tensor(1 / int(same.sum())))


@torch.no_grad()
def test_item_softmax_ranks_cold_items_by_their_logits_and_never_teaches_against_them() -> None:
    warm = np.ones(N, dtype=bool)
    warm[[3, 4, 11, 30]] = False
    model: Any = make_retriever(architecture="item_softmax", warm_items=warm)
    items, users = histories()
    found = all_log_probs(model, items, users)
    states = model.output_norm(model.last_states(items, users))
    close(found, (states @ model.item_vectors(torch.arange(N)).T).log_softmax(dim=1))
    among_warm = found[:, warm].log_softmax(dim=1)
    places = np.flatnonzero(warm)
    for row in range(4):
        length = int((items[row] >= 0).sum())
        for place in (0, 2, 20):
            batch = single_target(
                items[row : row + 1, :length], users[row : row + 1], int(places[place])
            )
            close(model.loss(batch), -among_warm[row, place])


@torch.no_grad()
def test_item_softmax_sees_new_weights_once_it_is_switched_or_given_some() -> None:
    model = make_retriever(architecture="item_softmax")
    before = all_log_probs(model, *histories())
    close(all_log_probs(model, *histories()), before)
    for parameter in model.parameters():
        parameter.mul_(0.5)
    after = all_log_probs(model.train().eval(), *histories())
    assert (after - before).abs().max() > 0.1
    weights = {name: value / 2 for name, value in model.state_dict().items()}
    model.load_state_dict(weights)  # while it is in evaluation mode
    assert (all_log_probs(model, *histories()) - after).abs().max() > 0.1


@torch.no_grad()
def test_item_softmax_of_own_vectors_alone_keeps_them_as_no_further_weight() -> None:
    model = make_retriever(architecture="item_softmax", code_input=False, content_input=False)
    names = set(model.state_dict())
    before = all_log_probs(model, *histories())
    assert set(model.state_dict()) == names
    model.train().eval()
    close(all_log_probs(model, *histories()), before)


# --- of histories -------------------------------------------------------------------------------


def some_histories(seed: int = 0, longest: int = 20) -> Sequences:
    rng = np.random.default_rng(seed)
    return Sequences.from_lists(
        [rng.permutation(N)[:length] for length in [longest, *rng.integers(1, 12, 20), 1]]
    )


def some_graph(num_items: int = N) -> GraphScore:
    rng = np.random.default_rng(6)
    scores = sparse.random_array((num_items, num_items), density=0.2, rng=rng)
    return GraphScore(
        sparse.csr_array(scores.astype(np.float32)),
        num_latest=4,
        decay=0.7,
        weight=3.0,
        smoothing=0.05,
        num_candidates=12,
        favours_history=False,
        warm_items=rng.random(num_items) > 0.2,
        cold_factor=2.0,
    )


def find(model: Retriever, asked: Sequences, k: int, **options: Any) -> Found:
    return search(model, asked, k, max_history=MAX_HISTORY, **options)


def by_brute_force(
    model: Retriever,
    asked: Sequences,
    k: int,
    *,
    allowed: np.ndarray | None = None,
    denied: Sequences | None = None,
    graph: GraphScore | None = None,
    limit: TagLimit | None = None,
) -> list[list[int]]:
    """Every item scored, sorted, and taken one by one."""
    lists = []
    for user, history in enumerate(asked):
        window = torch.from_numpy(history[-MAX_HISTORY:].astype(np.int64))[None]
        scores = all_log_probs(model, window, torch.tensor([-1]))[0].double().numpy()
        if graph is not None:
            whole = torch.from_numpy(history.astype(np.int64))[None]
            added = graph(whole, None if allowed is None else torch.from_numpy(allowed)[None])
            np.add.at(scores, added.items[0].numpy(), added.values[0].numpy())
        chosen: list[int] = []
        for item in np.lexsort((np.arange(N), -scores)).tolist():
            is_out = (allowed is not None and not allowed[item]) or (
                denied is not None and item in denied[user]
            )
            if limit is not None and limit.tags[item] >= 0:
                is_out |= (limit.tags[chosen] == limit.tags[item]).sum() >= limit.most
            if not is_out and len(chosen) < k:
                chosen.append(item)
        lists.append(chosen)
    return lists


def listed(found: Found) -> list[list[int]]:
    return [[item for item in row if item >= 0] for row in found.items.tolist()]


@one_of_each
@pytest.mark.parametrize("share", [1.0, 0.6, 0.2])
@pytest.mark.parametrize("has_graph", [True, False], ids=["graph", "alone"])
@pytest.mark.parametrize("most", [0, 1, 2])
def test_wide_searches_are_brute_force_with_every_mask(
    case: str, share: float, has_graph: bool, most: int
) -> None:
    rng = np.random.default_rng(7)
    asked = some_histories()
    options: dict[str, Any] = {
        "allowed": None if share == 1 else rng.random(N) < share,
        "graph": some_graph() if has_graph else None,
        "denied": asked,
        "limit": TagLimit(rng.integers(-1, 5, N), most) if most else None,
    }
    found = find(retriever(case), asked, 8, beam_width=N, batch_size=5, **options)
    assert listed(found) == by_brute_force(retriever(case), asked, 8, **options)


def test_exact_lists_do_not_depend_on_beams() -> None:
    model, asked = retriever("item_softmax"), some_histories()
    assert isinstance(model, ExactRetriever)
    found = find(model, asked, 5, beam_width=5, denied=asked)
    assert listed(found) == by_brute_force(model, asked, 5, denied=asked)


@one_of_each
@pytest.mark.parametrize("beam_width", [1, 5, 40])
@pytest.mark.parametrize("k", [1, 5, 10])
def test_lists_are_full_whatever_is_denied(case: str, beam_width: int, k: int) -> None:
    asked = some_histories()  # of up to 20 of 32 items: at least 12 are left
    found = find(retriever(case), asked, k, beam_width=beam_width, denied=asked)
    assert found.items.shape == (asked.num_users, k)
    besides = find(retriever(case), asked, k, beam_width=beam_width, besides=asked)
    assert besides.items.shape == (asked.num_users, k + 20)
    for user, row in enumerate(listed(found)):
        assert len(set(row)) == k and not set(row) & set(asked[user].tolist())
        others = [item for item in listed(besides)[user] if item not in asked[user]]
        assert len(others) >= k
        assert others[:k] == row


@one_of_each
def test_only_when_the_items_run_out_are_lists_short(case: str) -> None:
    asked = Sequences.from_lists([np.arange(30), [3]])
    found = find(retriever(case), asked, 10, beam_width=10, denied=asked)
    assert sorted(found.items[0].tolist()) == [-1] * 8 + [30, 31]
    assert (found.items[0, 2:] == -1).all() and (found.scores[0, 2:] == -np.inf).all()
    assert (found.items[1] >= 0).all()


@one_of_each
def test_neither_batches_nor_company_change_a_list(case: str) -> None:
    asked = some_histories()
    users = np.arange(asked.num_users)
    options: dict[str, Any] = {"graph": some_graph(), "beam_width": 8}
    together = find(retriever(case), asked, 5, users=users, denied=asked, **options)
    split = find(retriever(case), asked, 5, users=users, denied=asked, batch_size=3, **options)
    np.testing.assert_array_equal(split.items, together.items)
    order = np.random.default_rng(1).permutation(users)
    mixed = asked.take(order)
    shuffled = find(retriever(case), mixed, 5, users=users[order], denied=mixed, **options)
    np.testing.assert_array_equal(shuffled.items, together.items[order])
    for user in users:
        one = asked.take([user])
        alone = find(retriever(case), one, 5, users=users[[user]], denied=one, **options)
        np.testing.assert_array_equal(alone.items[0], together.items[user])
        np.testing.assert_allclose(alone.scores[0], together.scores[user], atol=1e-5)


@one_of_each
def test_a_limit_by_narrow_beams_is_kept_and_lists_are_as_long_as_can_be(case: str) -> None:
    asked = some_histories(longest=8)
    tags = np.arange(N) % 4
    found = find(retriever(case), asked, 6, beam_width=6, denied=asked, limit=TagLimit(tags, 1))
    for row in listed(found):
        assert sorted(tags[row]) == [0, 1, 2, 3]


@one_of_each
def test_only_the_latest_items_are_read_but_all_are_left_out(case: str) -> None:
    recent = [3, 9, 27, 4, 11, 30]
    asked = Sequences.from_lists([[1, 2, 8, *recent], recent])
    found = find(retriever(case), asked, N, beam_width=N)
    np.testing.assert_array_equal(found.items[0], found.items[1])
    found = find(retriever(case), asked, N, beam_width=N, denied=asked)
    assert not set(found.items[0].tolist()) & {1, 2, 8, *recent}


@one_of_each
def test_codes_are_given_if_asked_for(case: str) -> None:
    asked = Sequences.from_lists([[1, 2], [5]])
    found = find(retriever(case), asked, 40, beam_width=40, with_code_log_probs=True)
    assert found.code_log_probs is not None
    is_item = found.items >= 0
    total = found.code_log_probs.sum(axis=2)
    np.testing.assert_allclose(total[is_item], found.log_probs[is_item], atol=1e-5)
    assert not found.code_log_probs[~is_item].any()
    assert find(retriever(case), asked, 3).code_log_probs is None


@one_of_each
def test_equal_scores_are_listed_by_item_index(case: str) -> None:
    settings = {name: value for name, value in CASES[case].items() if name == "architecture"}
    model = make_retriever(**settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    found = find(model.train().eval(), Sequences.from_lists([[9, 4], [0]]), 7, beam_width=N)
    if isinstance(model, ExactRetriever):  # a code's probability depends on its siblings
        assert found.items.tolist() == [list(range(7))] * 2
    for items, scores in zip(found.items, found.scores, strict=True):
        for place in range(6):
            assert scores[place] > scores[place + 1] or items[place] < items[place + 1]


@pytest.mark.parametrize("count", [1, 3, 19, 20, 25])
def test_top_is_a_stable_sort(count: int) -> None:
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.integers(-2, 3, (40, 20)).astype(np.float32) / 3)
    scores[rng.random((40, 20)) < 0.2] = -torch.inf
    scores[0, :2] = torch.tensor([-0.0, 0.0])
    best, columns = top(scores, count)
    expected = scores.sort(dim=1, descending=True, stable=True)
    assert torch.equal(best, expected.values[:, :count])
    is_real = best > -torch.inf
    assert torch.equal(columns[is_real], expected.indices[:, :count][is_real])


def test_top_items_are_allowed_and_never_of_minus_infinity() -> None:
    items, scores = top_items(
        np.array([[-np.inf, 2.0, 7.0, 5.0]], np.float32), 5, np.arange(4) != 2
    )
    assert items.tolist() == [[3, 1, -1, -1, -1]]
    assert scores.tolist() == [[5.0, 2.0, *[-np.inf] * 3]]
    assert top_items(np.empty((0, 5), np.float32), 3)[0].shape == (0, 3)


@pytest.mark.parametrize("is_training", [True, False])
def test_a_search_is_free_of_dropout_and_leaves_the_mode_as_it_was(is_training: bool) -> None:
    model = make_retriever(dropout=0.5).train(is_training)
    first, again = (find(model, some_histories(), 5) for _ in range(2))
    np.testing.assert_array_equal(first.items, again.items)
    assert model.training is is_training


@one_of_each
def test_nobody_and_nothing(case: str) -> None:
    nobody = Sequences.from_lists([])
    assert find(retriever(case), nobody, 5, denied=nobody).items.shape == (0, 5)
    with pytest.raises(DataError, match="history 1 is empty") as error:
        find(retriever(case), Sequences.from_lists([[3], [], [4]]), 5)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="k: expected at least 1"):
        find(retriever(case), nobody, 0)


# --- how much work ------------------------------------------------------------------------------


@one_of_each
def test_a_deadline_ends_the_work_between_its_steps(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(search_module.time, "monotonic", lambda: next(clock))
    model, asked = retriever(case), some_histories()
    reads = []
    read = model.read
    monkeypatch.setattr(model, "read", lambda *args: reads.append(1) or read(*args))
    with pytest.raises(SearchTimeout, match="deadline"):
        find(model, asked, 5, batch_size=1, deadline=8.5)
    assert 1 <= len(reads) < asked.num_users
    done = find(model, asked, 5, deadline=2000.0)
    np.testing.assert_array_equal(done.items, find(model, asked, 5).items)


@pytest.mark.parametrize("architecture", ["item_softmax", "item_decoder"])
def test_a_list_that_cannot_fill_costs_a_few_times_a_normal_one(architecture: str) -> None:
    """Six tags, one item of each, a hundred asked for: nobody searches the whole catalogue."""
    rng = np.random.default_rng(0)
    num_items = 20_000
    codes = np.stack(
        np.unravel_index(rng.choice(64**3, num_items, replace=False), (64,) * 3), axis=1
    )
    names = [str(item) for item in range(num_items)]
    ids = SemanticIds.without_tags(names, codes, [64] * 3)
    model = make_retriever(ids, architecture=architecture, content_input=False)
    asked = Sequences.from_lists(rng.integers(0, num_items, (64, 5)))
    limit = TagLimit(rng.integers(0, 6, num_items), 1)

    def work(**options: Any) -> tuple[float, int]:
        """Processor seconds, and the most scores that were looked at at once."""
        largest = 0

        class Watching(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
                nonlocal largest
                result = func(*args, **(kwargs or {}))
                if isinstance(result, Tensor):
                    largest = max(largest, result.numel())
                return result

        started = time.process_time()
        with Watching():
            find(model, asked, 100, denied=asked, **options)
        return time.process_time() - started, largest

    work()
    normal, limited = work(), work(limit=limit)
    assert limited[0] < 6 * normal[0]
    assert limited[1] <= 2 * normal[1]
