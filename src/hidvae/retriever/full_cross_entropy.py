"""Cross-entropy over the whole catalogue in bounded memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LOGITS_AT_ONCE = 1 << 21
"""Logits held at a time on a CPU, 8 MiB; more of them are slower, as they leave its caches."""
_LOGITS_AT_ONCE_ON_GPU = 1 << 26
"""256 MiB; fewer leave a GPU waiting for the next block."""


class _FullCrossEntropy(torch.autograd.Function):
    """Sum of the targets' cross-entropies; its gradients are made with it, block by block.

    So no more than a block of logits is ever held, and none is made twice. Matrix products are of
    ``dtype``, all else is float32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weights: Tensor,
        targets: Tensor,
        bias: Tensor | None,
        smoothing: float,
        block: int,
        dtype: torch.dtype,
    ) -> Tensor:
        states_gradient, weights_gradient = torch.empty_like(states), torch.zeros_like(weights)
        factors = weights.to(dtype)
        total = states.new_zeros(())
        for start in range(0, len(states), block):
            rows = slice(start, start + block)
            part, wanted = states[rows].to(dtype), targets[rows].unsqueeze(1)  # (b, d), (b, 1)
            logits = (part @ factors.T).float()  # (b, N)
            if bias is not None:
                logits += bias
            log_probs = logits.log_softmax(dim=1)
            total -= log_probs.gather(1, wanted).sum()
            gradient = log_probs.exp_()  # of the logits, but for what smoothing spreads evenly
            gradient.scatter_(1, wanted, gradient.gather(1, wanted) - (1 - smoothing))
            gradient = gradient.to(dtype)  # last: of a likely target the difference is small
            states_gradient[rows] = gradient @ factors
            if dtype == weights.dtype:
                weights_gradient.addmm_(gradient.T, part)
            else:
                weights_gradient += gradient.T @ part
        if smoothing:
            # The rest is linear in the logits: sums over states and over weights give it.
            spread = torch.zeros_like(weights[:, 0]) if bias is None else bias
            spread = smoothing * spread.softmax(dim=0)  # (N,)
            of_states, of_weights = states.sum(dim=0), spread @ weights  # (d,) each
            total += smoothing * (states * weights[targets]).sum() - of_states @ of_weights
            if bias is not None:
                total += smoothing * bias[targets].sum() - len(states) * (spread @ bias)
            states_gradient -= of_weights
            weights_gradient.addr_(spread, of_states, alpha=-1)
        ctx.save_for_backward(states_gradient, weights_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        states_gradient, weights_gradient = ctx.saved_tensors
        gradients = states_gradient * outer[0], weights_gradient * outer[0]
        return *gradients, None, None, None, None, None


def full_cross_entropy(
    states: Tensor,
    item_vectors: Tensor,
    targets: Tensor,
    label_smoothing: float = 0.0,
    logits_at_once: int | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Mean of -log softmax(W s + bias)[target] over all items, in bounded memory.

    Under autocast the matrix products are of its type, and the softmax of float32.

    Args:
        states: (n, d).
        item_vectors: W, (N, d).
        targets: (n,), rows of W.
        label_smoothing: In [0, 1), share of the target spread over the N items: evenly, or as the
            bias alone would have it.
        logits_at_once: Most logits held at a time, one row of N at least; what suits the device by
            default.
        bias: (N,), a constant, where an item stands for exp(bias) of its like; none by default.
    """
    device = states.device.type
    if logits_at_once is None:
        logits_at_once = LOGITS_AT_ONCE if device == "cpu" else _LOGITS_AT_ONCE_ON_GPU
    block = max(1, logits_at_once // len(item_vectors))
    is_cast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if is_cast else torch.float32
    with torch.autocast(device, enabled=False):
        total: Tensor = _FullCrossEntropy.apply(  # type: ignore[no-untyped-call]
            states.float(), item_vectors.float(), targets, bias, label_smoothing, block, dtype
        )
    return total / len(states)
