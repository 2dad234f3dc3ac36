"""Cross-entropy over the codes that exist."""

from __future__ import annotations

import math

import pytest
import torch

from hidvae.retriever.code_loss import code_log_probs, next_code_loss

LOGITS = torch.tensor([[1.0, 2.0, -1.0, 0.5], [0.0, 3.0, 3.0, 1.0]])
VALID = torch.tensor([[True, False, True, True], [False, True, True, False]])
TARGET = torch.tensor([2, 1])


def naive(row: int, code: int, prefix_normalized: bool) -> float:
    logits, valid = LOGITS[row].tolist(), VALID[row].tolist()
    counted = [x for x, v in zip(logits, valid, strict=True) if v or not prefix_normalized]
    if not valid[code]:
        return -math.inf
    return logits[code] - math.log(sum(math.exp(x) for x in counted))


@pytest.mark.parametrize("prefix_normalized", [True, False])
def test_log_probs_by_hand(prefix_normalized: bool) -> None:
    expected = [[naive(row, code, prefix_normalized) for code in range(4)] for row in range(2)]
    found = code_log_probs(LOGITS, VALID, prefix_normalized)
    torch.testing.assert_close(found, torch.tensor(expected))


def test_probabilities_sum_to_one_only_over_the_codes_they_are_normalised_over() -> None:
    prefix = code_log_probs(LOGITS, VALID, True).exp().sum(dim=1)
    torch.testing.assert_close(prefix, torch.ones(2))
    assert (code_log_probs(LOGITS, VALID, False).exp().sum(dim=1) < 0.99).all()


@pytest.mark.parametrize("prefix_normalized", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_loss_by_hand(prefix_normalized: bool, smoothing: float) -> None:
    expected = []
    for row, target in enumerate(TARGET.tolist()):
        log_probs = [naive(row, code, prefix_normalized) for code in range(4)]
        existing = [p for p in log_probs if p > -math.inf]
        spread = -sum(existing) / len(existing)
        expected.append((1 - smoothing) * -log_probs[target] + smoothing * spread)
    found = next_code_loss(LOGITS, TARGET, VALID, prefix_normalized, smoothing)
    torch.testing.assert_close(found, torch.tensor(expected))


def test_a_prefix_that_can_go_on_in_one_way_costs_nothing() -> None:
    valid = torch.tensor([[False, False, True, False]])
    logits = torch.tensor([[9.0, 1.0, -30.0, 2.0]], requires_grad=True)
    for smoothing in (0.0, 0.3):
        loss = next_code_loss(logits, torch.tensor([2]), valid, True, smoothing)
        assert loss.tolist() == [0.0]
    loss.sum().backward()
    assert logits.grad is not None and (logits.grad == 0).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradient_is_finite_and_leaves_codes_that_do_not_exist_alone(smoothing: float) -> None:
    logits = LOGITS.clone().requires_grad_()
    next_code_loss(logits, TARGET, VALID, True, smoothing).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[~VALID] == 0).all()
    assert (logits.grad[VALID] != 0).all()
