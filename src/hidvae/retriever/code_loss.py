"""The retriever's loss: minus the log-probability of the next item's codes."""

from __future__ import annotations

import torch
from torch import Tensor


def code_log_probs(logits: Tensor, is_valid: Tensor, prefix_normalized: bool) -> Tensor:
    """Log-probabilities of the next code; minus infinity where the trie has no such code.

    Args:
        logits: (..., K).
        is_valid: (..., K), codes that exist under the prefix.
        prefix_normalized: Normalise over the existing codes, so that the items' probabilities sum
            to 1 over the catalogue; else over all K codes, as TIGER does.
    """
    if prefix_normalized:
        return logits.masked_fill(~is_valid, -torch.inf).log_softmax(dim=-1)
    return logits.log_softmax(dim=-1).masked_fill(~is_valid, -torch.inf)


def next_code_loss(
    logits: Tensor,
    target: Tensor,
    is_valid: Tensor,
    prefix_normalized: bool,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of one level's code.

    Args:
        logits: (n, K).
        target: (n,) the true code.
        is_valid: (n, K), codes that exist under the true prefix.
        prefix_normalized: See ``code_log_probs``.
        label_smoothing: In [0, 1); share of the target spread evenly over the existing codes.

    Returns: (n,).
    """
    log_probs = code_log_probs(logits, is_valid, prefix_normalized)
    loss = -log_probs.gather(1, target.unsqueeze(1)).squeeze(1)
    if label_smoothing == 0:
        return loss
    spread = -log_probs.masked_fill(~is_valid, 0.0).sum(dim=1) / is_valid.sum(dim=1)
    return (1 - label_smoothing) * loss + label_smoothing * spread
