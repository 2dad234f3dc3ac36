"""Constrained beam search against scoring every item with the training loss."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from tests.retriever.tiny import (
    CASES,
    histories,
    make_retriever,
    single_target,
    teacher_forced_scores,
)
from torch import Tensor

from hidvae.ranking.beam_search import beam_search, exhaustive_scores
from hidvae.retriever.interface import Retriever

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
    found = beam_search(retriever(case), *histories(), beam_width=N)
    assert found.items.sort(dim=1).values.tolist() == [list(range(N))] * 4
    close(found.log_probs, expected.gather(1, found.items))
    close(found.log_probs, expected.sort(dim=1, descending=True).values)
    close(exhaustive_scores(retriever(case), *histories()), expected)


@every_case
def test_codes_of_an_item_multiply_to_its_probability(case: str) -> None:
    found = beam_search(retriever(case), *histories(), beam_width=N)
    assert found.code_log_probs.shape == (4, N, retriever(case).tables.num_levels)
    assert (found.code_log_probs <= 1e-6).all()
    close(found.code_log_probs.sum(dim=2), found.log_probs)


@every_case
def test_probabilities_over_the_catalogue_sum_to_one_if_normalised_over_prefixes(
    case: str,
) -> None:
    total = beam_search(retriever(case), *histories(), beam_width=N).log_probs.exp().sum(dim=1)
    if CASES[case].get("prefix_normalized", True):
        close(total, torch.ones(4))
    else:
        assert (total < 0.99).all()


@every_case
@pytest.mark.parametrize("width", [1, 3, 10])
def test_a_narrow_beam_finds_real_items_with_their_true_scores(case: str, width: int) -> None:
    found = beam_search(retriever(case), *histories(), beam_width=width)
    assert found.items.shape == (4, width)
    assert (found.items >= 0).all()
    assert_real_and_distinct(found.items)
    close(found.log_probs, true_scores(case).gather(1, found.items))
    assert (found.log_probs.diff(dim=1) <= 0).all()


@every_case
def test_more_results_than_beams_go_on_from_the_same_beams(case: str) -> None:
    few = beam_search(retriever(case), *histories(), beam_width=6)
    many = beam_search(retriever(case), *histories(), beam_width=6, num_results=9)
    assert torch.equal(many.items[:, :6], few.items)
    assert_real_and_distinct(many.items)
    is_item = many.items >= 0
    close(many.log_probs[is_item], true_scores(case).gather(1, many.items.clamp_min(0))[is_item])


@one_of_each
@pytest.mark.parametrize(("width", "results"), [(N, N + 7), (1, 25), (2, 200)])
def test_results_are_padded_where_items_run_out(case: str, width: int, results: int) -> None:
    found = beam_search(retriever(case), *histories(), width, results)
    assert found.items.shape == found.log_probs.shape == (4, results)
    assert found.code_log_probs.shape[:2] == (4, results)
    assert_real_and_distinct(found.items)
    assert torch.equal(found.items < 0, found.log_probs == -torch.inf)
    assert (found.items < 0).any()
    if width == N:
        assert ((found.items >= 0).sum(dim=1) == N).all()


@every_case
def test_neither_order_nor_company_nor_padding_changes_a_row(case: str) -> None:
    items, users = histories()
    together = beam_search(retriever(case), items, users, 5)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = beam_search(retriever(case), items[order], users[order], 5)
    assert torch.equal(shuffled.items, together.items[order])
    close(shuffled.log_probs, together.log_probs[order])
    for row in range(4):
        length = int((items[row] >= 0).sum())
        alone = beam_search(retriever(case), items[row : row + 1, :length], users[row : row + 1], 5)
        assert torch.equal(alone.items[0], together.items[row])
        close(alone.log_probs[0], together.log_probs[row])
        close(alone.code_log_probs[0], together.code_log_probs[row])


@every_case
def test_history_and_its_order_matter(case: str) -> None:
    items, users = histories()
    scores = true_scores(case)
    swapped = items.clone()
    swapped[2] = items[2].flip(0)
    other = exhaustive_scores(retriever(case), swapped, users)
    assert (other[2] - scores[2]).abs().max() > 1e-3
    close(other[0], scores[0])


@one_of_each
def test_the_same_search_twice_gives_the_same_bits(case: str) -> None:
    first = beam_search(retriever(case), *histories(), 7)
    again = beam_search(retriever(case), *histories(), 7)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@every_case
def test_masks_restrict_the_items_and_keep_their_scores(case: str) -> None:
    model = retriever(case)
    allowed = np.random.default_rng(2).random(N) < 0.25
    reachable = [torch.from_numpy(mask) for mask in model.tables.trie.reachable(allowed)]
    count = int(allowed.sum())
    exact = beam_search(model, *histories(), N, N, reachable)
    assert (
        exact.items[:, :count].sort(dim=1).values.tolist() == [np.flatnonzero(allowed).tolist()] * 4
    )
    assert (exact.items[:, count:] == -1).all()
    close(exact.log_probs[:, :count], true_scores(case).gather(1, exact.items[:, :count]))
    narrow = beam_search(model, *histories(), 2, 2, reachable)
    assert allowed[narrow.items.numpy()].all()  # two allowed items: no beam ran into a dead end


@one_of_each
def test_a_mask_that_allows_nothing_finds_nothing(case: str) -> None:
    model = retriever(case)
    masks = model.tables.trie.reachable(np.zeros(N, dtype=bool))
    found = beam_search(model, *histories(), 3, 3, [torch.from_numpy(mask) for mask in masks])
    assert (found.items == -1).all()
    assert (found.log_probs == -torch.inf).all()


@one_of_each
def test_one_item_has_probability_one(case: str) -> None:
    from tests.retriever.tiny import random_ids

    model = make_retriever(random_ids(num_items=1), **CASES[case])
    found = beam_search(model, torch.tensor([[0, 0]]), torch.tensor([-1]), 4)
    assert found.items.tolist() == [[0, -1, -1, -1]]
    close(found.log_probs[0, :1], torch.zeros(1))


@every_case
@torch.no_grad()
def test_stepping_along_many_beams_equals_teacher_forcing(case: str) -> None:
    """``step`` and ``advance`` with beams that fork and swap places, against the loss."""
    model, (items, users) = retriever(case), histories()
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


def test_an_unknown_item_is_as_probable_as_a_typical_sibling() -> None:
    known = np.ones(N, dtype=bool)
    known[[3, 4, 11, 30]] = False
    model = make_retriever(known_items=known)
    tables = model.tables
    items, users = histories()
    state = model.begin(model.read(items, users))
    children = tables.children_at(0, torch.zeros(len(items), 1, dtype=torch.long))
    log_probs, _ = model.step(model.read(items, users), state, 0, children)
    expected = log_probs.squeeze(1)
    code, child = children.code[0, 0], children.node[0, 0]
    is_known = tables.is_known(1, child)
    assert is_known is not None
    means = expected[:, is_known].mean(dim=1, keepdim=True)
    close(expected[:, ~is_known], means.expand(-1, int((~is_known).sum())))
    found = beam_search(model, items, users, beam_width=N)
    of_code = {
        int(tables.codes[item, 0]): prob
        for item, prob in zip(found.items[0], found.code_log_probs[0, :, 0], strict=True)
    }
    for place, first in enumerate(code.tolist()):
        close(of_code[first], expected[0, place])
    close(found.log_probs.exp().sum(dim=1), torch.ones(len(items)))
    siblings = found.code_log_probs[0]
    for rank, item in enumerate(found.items[0].tolist()):
        same = (tables.codes[found.items[0], :2] == tables.codes[item, :2]).all(dim=1)
        if not known[item] and not known[found.items[0][same].numpy()].any():
            close(siblings[rank, 2].exp(), torch.tensor(1 / int(same.sum())))


@torch.no_grad()
def test_item_softmax_ranks_unknown_items_by_their_logits_and_never_teaches_against_them() -> None:
    known = np.ones(N, dtype=bool)
    known[[3, 4, 11, 30]] = False
    model: Any = make_retriever(architecture="item_softmax", known_items=known)
    items, users = histories()
    found = exhaustive_scores(model, items, users)
    states = model.output_norm(model.last_states(items, users))
    close(found, (states @ model.item_vectors(torch.arange(N)).T).log_softmax(dim=1))
    among_known = found[:, known].log_softmax(dim=1)
    places = np.flatnonzero(known)
    for row in range(4):
        length = int((items[row] >= 0).sum())
        for place in (0, 2, 20):
            batch = single_target(
                items[row : row + 1, :length], users[row : row + 1], int(places[place])
            )
            close(model.loss(batch), -among_known[row, place])


@torch.no_grad()
def test_item_softmax_sees_new_weights_once_it_is_switched_or_given_some() -> None:
    model = make_retriever(architecture="item_softmax")
    before = exhaustive_scores(model, *histories())
    close(exhaustive_scores(model, *histories()), before)
    for parameter in model.parameters():
        parameter.mul_(0.5)
    after = exhaustive_scores(model.train().eval(), *histories())
    assert (after - before).abs().max() > 0.1
    weights = {name: value / 2 for name, value in model.state_dict().items()}
    model.load_state_dict(weights)  # while it is in evaluation mode
    assert (exhaustive_scores(model, *histories()) - after).abs().max() > 0.1


@torch.no_grad()
def test_item_softmax_of_own_vectors_alone_keeps_them_as_no_further_weight() -> None:
    model = make_retriever(architecture="item_softmax", code_input=False, content_input=False)
    names = set(model.state_dict())
    before = exhaustive_scores(model, *histories())
    assert set(model.state_dict()) == names
    model.train().eval()
    close(exhaustive_scores(model, *histories()), before)
