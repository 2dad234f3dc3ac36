"""Tag confidences that can be believed: one temperature per level, fitted on held-out items.

On the items that it learned from, a classifier is right more often than on new ones, and so it is
too sure. Source: temperature scaling, arXiv:1706.04599.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

from hidvae.evaluation.calibration import calibration_error_by_chance, expected_calibration_error
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


class Judged(NamedTuple):
    """Predicted tags of one level on items that the tokenizer never saw, where the tag is known."""

    before: np.ndarray
    """(n,) confidences without temperatures."""
    after: np.ndarray
    """(n,) with temperatures that other items gave."""
    is_right: np.ndarray
    """(n,) booleans."""


def judge(
    model: HiDVAE, codes: np.ndarray, true_tags: np.ndarray, is_held_out: np.ndarray
) -> list[Judged]:
    """Predicted tags against known ones, per level; n may be 0.

    "After" is cross-fitted: each half of the held-out items is judged with temperatures of the
    other half, so no item is judged by what was fitted on it.

    Args:
        model: Trained.
        codes: (N, L) as the tokenizer gave them.
        true_tags: (N, L), -1 where unknown.
        is_held_out: (N,).
    """
    rows = np.flatnonzero(is_held_out)
    num_levels = min(true_tags.shape[1], codes.shape[1])
    heads = model.tag_heads
    if heads is None or not model.predicts_tags or not rows.size:
        nothing = np.empty(0, np.float32)
        return [Judged(nothing, nothing, nothing.astype(bool))] * num_levels
    vectors = model.quantizer.vectors_of(torch.from_numpy(codes[rows])).detach()
    truth = torch.from_numpy(true_tags[rows])
    predicted, before = heads.predict(vectors, torch.ones(heads.num_levels))
    after = before.clone()
    for half in (slice(0, None, 2), slice(1, None, 2)):
        other = slice(1 - half.start, None, 2)
        temperatures = fit_temperatures(heads, vectors[other], truth[other])
        after[half] = heads.predict(vectors[half], temperatures)[1]
    levels = []
    for level in range(num_levels):
        is_judged = (predicted[:, level] >= 0) & (truth[:, level] != UNKNOWN_TAG)
        is_right = predicted[is_judged, level] == truth[is_judged, level]
        confidences = (before[is_judged, level].numpy(), after[is_judged, level].numpy())
        levels.append(Judged(*confidences, is_right.numpy()))
    return levels


def calibration_errors(judged: Sequence[Judged]) -> dict[str, list[float | None]]:
    """Expected calibration error of the predicted tags, per level; None where none is judged.

    Returns: Before and after temperatures, and what confidences that are all true would show.
    """
    rows: list[tuple[float | None, ...]] = [
        (
            expected_calibration_error(level.before, level.is_right),
            expected_calibration_error(level.after, level.is_right),
            calibration_error_by_chance(level.after),
        )
        if level.is_right.size
        else (None, None, None)
        for level in judged
    ]
    return {
        "tag_calibration_error_before": [row[0] for row in rows],
        "tag_calibration_error": [row[1] for row in rows],
        "tag_calibration_error_by_chance": [row[2] for row in rows],
    }
