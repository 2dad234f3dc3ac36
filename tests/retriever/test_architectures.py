"""What each architecture promises of its own: causality, positions, users, dropout, learning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hidvae.data.interactions import Sequences
from hidvae.retriever.batches import TrainingBatches
from hidvae.retriever.interface import HistoryBatch

from .tiny import MAX_HISTORY, histories, make_retriever, single_target

ARCHITECTURES = ["item_softmax", "item_decoder", "encoder_decoder"]


@torch.no_grad()
def test_a_later_item_leaves_earlier_positions_of_item_decoder_unchanged() -> None:
    model = make_retriever(num_layers=2)
    items, users = histories()
    changed = items.clone()
    changed[2, 4] = (items[2, 4] + 1) % 32
    before, after = model.states(items, users), model.states(changed, users)  # type: ignore[operator]
    torch.testing.assert_close(after[2, :4], before[2, :4])
    for position in (4, 5):
        assert (after[2, position] - before[2, position]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("settings", [{}, {"num_user_buckets": 3}])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_at_every_position_is_the_mean_of_single_positions(settings, smoothing) -> None:
    model = make_retriever(**settings)
    items, users = histories()
    targets = torch.where(items >= 0, (items * 7 + 3) % 32, -1)
    together = model.loss(HistoryBatch(items, targets, users), smoothing)
    single = [
        model.loss(
            single_target(
                items[row : row + 1, : end + 1], users[row : row + 1], int(targets[row, end])
            ),
            smoothing,
        )
        for row in range(4)
        for end in range(int((items[row] >= 0).sum()))
    ]
    assert len(single) == 14
    torch.testing.assert_close(together, torch.stack(single).mean())


@torch.no_grad()
def test_loss_of_encoder_decoder_is_the_mean_over_rows() -> None:
    model = make_retriever(architecture="encoder_decoder", num_user_buckets=2)
    items, users = histories()
    batches = [
        single_target(
            items[row : row + 1, : int((items[row] >= 0).sum())], users[row : row + 1], row
        )
        for row in range(4)
    ]
    targets = torch.full_like(items, -1)
    for row, batch in enumerate(batches):
        targets[row, : batch.targets.shape[1]] = batch.targets[0]
    together = model.loss(HistoryBatch(items, targets, users), 0.1)
    expected = torch.stack([model.loss(batch, 0.1) for batch in batches]).mean()
    torch.testing.assert_close(together, expected)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_users_share_buckets_and_matter(architecture: str) -> None:
    model = make_retriever(architecture=architecture, num_user_buckets=3)
    items = torch.tensor([[4, 9]])
    losses = [
        float(model.loss(single_target(items, torch.tensor([user]), 7))) for user in (0, 3, 1, -1)
    ]
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


@torch.no_grad()
def test_an_unknown_user_adds_nothing_to_item_decoder() -> None:
    model = make_retriever(num_user_buckets=3)
    items, users = histories()
    unknown = model.states(items, torch.full_like(users, -1))  # type: ignore[operator]
    known = model.states(items, users)  # type: ignore[operator]
    model.user = None
    nobody = model.states(items, users)  # type: ignore[operator]
    torch.testing.assert_close(unknown, nobody)
    torch.testing.assert_close(known[2], nobody[2])  # user -1
    assert (known[0, 0] - nobody[0, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dropout_is_drawn_in_training_only(architecture: str) -> None:
    model = make_retriever(architecture=architecture, dropout=0.5)
    batch = single_target(torch.tensor([[1, 2, 3]]), torch.tensor([-1]), 5)
    assert torch.equal(model(batch), model(batch))
    model.train()
    assert not torch.equal(model(batch), model(batch))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_weight_learns(architecture: str) -> None:
    model = make_retriever(architecture=architecture, num_user_buckets=2).train()
    items, _ = histories()
    targets = torch.full_like(items, -1)
    last = (items >= 0).sum(dim=1) - 1
    targets[torch.arange(4), last] = torch.tensor([3, 9, 20, 31])
    model.loss(HistoryBatch(items, targets, torch.tensor([0, 1, 2, 3]))).backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == set()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_batch_can_be_overfitted(architecture: str) -> None:
    model = make_retriever(
        architecture=architecture, spread=0.0, dim=32, num_heads=4, max_history=MAX_HISTORY
    ).train()
    items = np.random.default_rng(3).permutation(32)[:30]  # no history begins like another
    sequences = Sequences.from_lists(items.reshape(10, 3))
    batches = TrainingBatches(sequences, MAX_HISTORY, 1000, architecture != "encoder_decoder")
    (batch,) = batches.epoch(np.random.default_rng(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    first = float(model(batch).detach())
    assert abs(first - np.log(32)) < 1.5  # untrained, every item is about equally probable
    for _ in range(80):
        loss = model(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(loss.detach()) < 0.05
