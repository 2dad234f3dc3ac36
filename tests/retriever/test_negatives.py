"""Items that stand for all in a training step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hidvae.config import RetrieverConfig
from hidvae.data.interactions import Sequences
from hidvae.errors import ConfigError
from hidvae.retriever.build import build_retriever
from hidvae.retriever.interface import HistoryBatch
from hidvae.retriever.negatives import NegativeSampler

from .tiny import random_ids

HISTORIES = Sequences.from_lists([[1, 4, 4, 5], [], [2, 4, 1], [3], [1, 5, 4, 4]])
OCCURRENCES = torch.tensor([0, 3, 1, 1, 5, 2, 0])
TARGETS = torch.tensor([4, 4, 5, 4, 1, 5, 4, 4])


def test_items_are_drawn_as_often_as_they_occur(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each occurrence is drawn once here, so the counts have to be those of the histories."""
    sampler = NegativeSampler(HISTORIES, 7, 1)
    places = iter(range(12))

    def next_place(high: int, size: tuple[int, ...], **_: Any) -> Tensor:
        assert high == 12 and size == (1,)
        return torch.tensor([next(places)])

    monkeypatch.setattr(torch, "randint", next_place)
    drawn = torch.cat([sampler.draw(TARGETS[:0])[0] for _ in range(12)])
    assert torch.equal(torch.bincount(drawn, minlength=7), OCCURRENCES)


def test_places_are_drawn_anew_and_evenly() -> None:
    torch.manual_seed(0)
    sampler = NegativeSampler(Sequences.from_lists([np.arange(20)]), 20, 1)
    drawn = torch.cat([sampler.draw(TARGETS[:0])[0] for _ in range(8000)])
    counts = torch.bincount(drawn, minlength=20)
    # Of a fair draw this sum is 19 on average and below 44 in 999 of 1,000.
    assert float(((counts - 400) ** 2 / 400).sum()) < 44
    assert len(torch.unique(drawn[:-1] * 20 + drawn[1:])) > 390  # of 400 pairs: no cycle


def test_it_says_how_probably_each_was_drawn() -> None:
    """Against all 8^3 choices of targets and 12^2 of draws; the first items are no targets."""
    occurring = torch.repeat_interleave(torch.arange(7), OCCURRENCES)
    chosen = torch.cartesian_prod(TARGETS, TARGETS, TARGETS, occurring, occurring)
    expected = torch.stack([(chosen == item).any(dim=1).double().mean() for item in range(7)])
    sampler = NegativeSampler(HISTORIES, 7, 2)
    said = torch.zeros(7, dtype=torch.double)
    for first in range(1, 6):  # each item among the draws at least once
        for _ in range(20):
            items, log_drawn = sampler.draw(torch.tensor([first, 4, 4]))
            assert torch.equal(items, items.unique()) and {first, 4} <= set(items.tolist())
            said[items] = log_drawn.exp().double()
    torch.testing.assert_close(said, expected, atol=1e-6, rtol=0)


def test_half_precision_draws_the_same() -> None:
    """Fabric casts a model's buffers."""
    histories = Sequences.from_lists([np.arange(100_000), np.arange(100_000)])
    sampler = NegativeSampler(histories, 100_000, 4000)
    torch.manual_seed(0)
    whole = sampler.draw(torch.tensor([5, 99_999]))
    torch.manual_seed(0)
    half = sampler.bfloat16().draw(torch.tensor([5, 99_999]))
    assert len(whole[0]) > 3800
    assert torch.equal(half[0], whole[0]) and torch.equal(half[1], whole[1])


def model_and_batch(count: int) -> tuple[Any, HistoryBatch]:
    ids = random_ids()
    # Every fifth item never occurs.
    histories = Sequences.from_lists([[i] * (i % 5) for i in range(32)] + [[7, 8, 9, 1]])
    known = np.bincount(histories.items, minlength=32) > 0
    config = RetrieverConfig(
        architecture="item_softmax",
        dim=16,
        num_heads=2,
        dropout=0.0,
        num_negatives=count,
    )
    content = np.random.default_rng(0).normal(size=(32, 7)).astype(np.float32)
    torch.manual_seed(0)
    model = build_retriever(config, ids, content, known, histories=histories)
    items = torch.tensor([[1, 2, 4, -1], [8, 6, 3, 9]])
    return model, HistoryBatch(
        items, torch.tensor([[2, 4, 7, -1], [6, 3, 9, 1]]), torch.full((2,), -1)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_among_so_many_that_all_are_drawn_the_loss_is_the_whole_one(smoothing: float) -> None:
    drawing, batch = model_and_batch(20_000)
    whole, _ = model_and_batch(0)
    losses = [model.loss(batch, smoothing) for model in (drawing, whole)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    of_whole = dict(whole.named_parameters())
    for name, weight in drawing.named_parameters():
        torch.testing.assert_close(weight.grad, of_whole[name].grad, msg=name)


def test_the_loss_is_a_softmax_over_what_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = model_and_batch(6)
    items = torch.tensor([1, 2, 3, 4, 6, 7, 9, 11])
    log_drawn = torch.linspace(-3, 0, 8)

    def draw(targets: Tensor) -> tuple[Tensor, Tensor]:
        assert targets.tolist() == [2, 4, 7, 6, 3, 9, 1]
        return items, log_drawn

    monkeypatch.setattr(model.negatives, "draw", draw)
    has_target = batch.targets >= 0
    states = model.output_norm(model.states(batch.items, batch.users))[has_target]
    logits = states @ model.item_vectors(items).T - log_drawn
    targets = torch.searchsorted(items, batch.targets[has_target])
    for smoothing in (0.0, 0.2):
        log_probs = logits.log_softmax(dim=1)
        share = (-log_drawn).exp() / (-log_drawn).exp().sum()  # seldom drawn, so of more items
        expected = (1 - smoothing) * F.nll_loss(log_probs, targets)
        expected -= smoothing * (log_probs @ share).mean()
        torch.testing.assert_close(model.loss(batch, smoothing), expected)


def test_only_what_a_step_needs_gets_a_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = model_and_batch(2)
    asked = []
    made = model.item_vectors
    monkeypatch.setattr(model, "item_vectors", lambda items: asked.append(items) or made(items))
    model.loss(batch)
    (items,) = asked
    assert len(items) == len(items.unique()) <= 12
    assert torch.isin(batch.items[batch.items >= 0], items).all()


@pytest.mark.parametrize("architecture", ["item_decoder", "encoder_decoder"])
def test_a_softmax_per_code_draws_nothing(architecture: Any) -> None:
    with pytest.raises(ConfigError, match=f"num_negatives.* 0 with {architecture}"):
        RetrieverConfig(architecture=architecture, num_negatives=5)
