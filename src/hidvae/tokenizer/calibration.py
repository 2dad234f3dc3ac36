"""Tag confidences that can be believed: one temperature per level, fitted on held-out items.

On the items that it learned from, a classifier is right more often than on new ones, and so it is
too sure. Source: temperature scaling, arXiv:1706.04599.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

from hidvae.evaluation.calibration import expected_calibration_error
from hidvae.tokenizer.losses import UNKNOWN_TAG
from hidvae.tokenizer.model import HiDVAE
from hidvae.tokenizer.tag_heads import TagHeads

_FEWEST_ITEMS = 30
"""Held-out items with a known tag below which a level keeps temperature 1."""
_LARGEST = 20.0


@torch.no_grad()
def calibrate(model: HiDVAE, embeddings: Tensor, tag_ids: Tensor) -> None:
    """Set the temperatures of a trained tokenizer's tag heads.

    Args:
        model: Trained, with or without tag heads.
        embeddings: (n, D_in) of items that it never saw.
        tag_ids: (n, L), -1 where unknown.
    """
    if model.tag_heads is None or not model.predicts_tags or not len(embeddings):
        return
    model.eval()
    _, quantized = model.encode(embeddings)
    vectors = model.quantizer.vectors_of(quantized.codes)
    model.tag_heads.temperatures.copy_(fit_temperatures(model.tag_heads, vectors, tag_ids))


@torch.no_grad()
def fit_temperatures(heads: TagHeads, level_vectors: Tensor, tag_ids: Tensor) -> Tensor:
    """Per level (L,) the temperature under which it is likeliest which predictions are right.

    So what is fitted is the confidence that is shown, that of the tag chosen among the children of
    the tag above it, and not the likelihood of the true tag among all.

    Args:
        heads: In evaluation mode.
        level_vectors: (n, L, D) of the items' codes.
        tag_ids: (n, L), -1 where unknown.
    """
    temperatures = torch.ones(heads.num_levels)
    predicted, _ = heads.predict(level_vectors)
    for level, head_input in enumerate(heads.inputs(level_vectors)):
        tags = tag_ids[:, level]
        judged = (predicted[:, level] >= 0) & (tags != UNKNOWN_TAG)
        if int(judged.sum()) < _FEWEST_ITEMS:
            continue
        logits = heads.logits(level, head_input[judged]).double()
        chosen = predicted[judged, level]
        is_right = (chosen == tags[judged]).double()

        def loss(
            log: float,
            logits: Tensor = logits,
            chosen: Tensor = chosen,
            is_right: Tensor = is_right,
        ) -> float:
            probs = (logits / np.exp(log)).softmax(dim=1).gather(1, chosen.unsqueeze(1)).squeeze(1)
            return float(F.binary_cross_entropy(probs.clamp(0, 1), is_right))

        bounds = (-np.log(_LARGEST), np.log(_LARGEST))
        temperatures[level] = float(
            np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)
        )
    return temperatures


def calibration_errors(
    model: HiDVAE, codes: np.ndarray, true_tags: np.ndarray, is_held_out: np.ndarray
) -> dict[str, list[float | None]]:
    """Expected calibration error of the predicted tags, per level, before and after.

    "After" is cross-fitted: each half of the held-out items is judged with temperatures of the
    other half, so no item is judged by what was fitted on it.

    Args:
        model: Trained.
        codes: (N, L) as the tokenizer gave them.
        true_tags: (N, L), -1 where unknown.
        is_held_out: (N,).
    """
    num_levels = min(true_tags.shape[1], codes.shape[1])
    rows = np.flatnonzero(is_held_out)
    names = ("tag_calibration_error_before", "tag_calibration_error")
    heads = model.tag_heads
    if heads is None or not model.predicts_tags or not rows.size:
        return {name: [None] * num_levels for name in names}
    vectors = model.quantizer.vectors_of(torch.from_numpy(codes[rows])).detach()
    truth = torch.from_numpy(true_tags[rows])
    predicted, before = heads.predict(vectors, torch.ones(heads.num_levels))
    after = before.clone()
    for half in (slice(0, None, 2), slice(1, None, 2)):
        other = slice(1 - half.start, None, 2)
        temperatures = fit_temperatures(heads, vectors[other], truth[other])
        after[half] = heads.predict(vectors[half], temperatures)[1]
    return {
        name: [
            _error(confidence[:, level], predicted[:, level], truth[:, level])
            for level in range(num_levels)
        ]
        for name, confidence in zip(names, (before, after), strict=True)
    }


def _error(confidence: Tensor, predicted: Tensor, truth: Tensor) -> Any:
    judged = (predicted >= 0) & (truth != UNKNOWN_TAG)
    if not bool(judged.any()):
        return None
    is_right = predicted[judged] == truth[judged]
    return expected_calibration_error(confidence[judged].numpy(), is_right.numpy())
