"""The tokenizer's losses, each a plain function; weights are applied once, by the caller.

Source of all: HiD-VAE (arXiv:2508.04618), equations as listed in docs/paper-to-code.md.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from hidvae.errors import ShapeError

UNKNOWN_TAG = -1
_MOST_PAIRS = 64
"""Pairs per row (whose ID is shared) to compare one by one; alike items make millions of pairs."""


def tag_alignment_loss(
    quantized: Tensor, class_vectors: Tensor, tag_ids: Tensor, temperature: float
) -> Tensor:
    """Pull each item's quantized vector to the projection of its tag, away from other tags'.

    Args:
        quantized: (B, H), what the level's tag heads read.
        class_vectors: (C, H), projection of every tag of the level.
        tag_ids: (B,) in [-1, C); -1 is unknown and costs nothing.
        temperature: Above 0.

    Returns: Scalar, mean over items with a known tag; exactly 0.0 when there are none.
    Source: HiD-VAE, L_align. Differs from the paper: its in-batch negatives count a class once per
        item, so that an item's own class is among its negatives; here each class of the batch
        counts once, and items of one class share their positive (supervised contrastive).
    """
    known = tag_ids != UNKNOWN_TAG
    if not bool(known.any()):
        return quantized.new_zeros(())
    classes, target = tag_ids[known].unique(return_inverse=True)
    similarity = F.normalize(quantized[known], dim=1) @ F.normalize(class_vectors[classes], dim=1).T
    return F.cross_entropy(similarity / temperature, target)


def tag_prediction_loss(logits: Tensor, tag_ids: Tensor, focal_gamma: float = 0.0) -> Tensor:
    """Cross-entropy of the tag classifier, focused on items it gets wrong.

    Args:
        logits: (B, C).
        tag_ids: (B,) in [-1, C); -1 is unknown and costs nothing.
        focal_gamma: At least 0; an item's loss is scaled by (1 - p_true)^gamma. 0 scales nothing.

    Returns: Scalar, mean over items with a known tag; exactly 0.0 when there are none.
    Source: HiD-VAE, L_pred; focal loss of arXiv:1708.02002.
    """
    known = tag_ids != UNKNOWN_TAG
    if not bool(known.any()):
        return logits.new_zeros(())
    logits, target = logits[known], tag_ids[known]
    loss = F.cross_entropy(logits, target, reduction="none")
    if focal_gamma > 0:
        prob_true = logits.detach().softmax(dim=1).gather(1, target.unsqueeze(1)).squeeze(1)
        loss = (1 - prob_true) ** focal_gamma * loss
    return loss.mean()


def uniqueness_loss(latents: Tensor, codes: Tensor, item_index: Tensor, margin: float) -> Tensor:
    """Push apart the latents of different items that received the same semantic ID.

    Args:
        latents: (B, D), before quantization.
        codes: (B, L), integers in [0, K).
        item_index: (B,); equal entries are the same item and cost nothing.
        margin: Cosine similarity in [-1, 1] below which a pair costs nothing.

    Returns: Scalar, mean over colliding pairs; exactly 0.0 when there are none.
    Raises: ShapeError if the inputs disagree on B.
    Source: HiD-VAE, L_unique: mean over pairs with equal IDs of max(0, cos(z_i, z_j) - m).
    """
    sizes = {latents.shape[0], codes.shape[0], item_index.shape[0]}
    if len(sizes) != 1:
        raise ShapeError(
            "uniqueness_loss: latents, codes and item_index must agree on the batch size; found "
            f"{latents.shape[0]}, {codes.shape[0]} and {item_index.shape[0]}"
        )
    _, group, size = codes.unique(dim=0, return_inverse=True, return_counts=True)
    shared = (size[group] > 1).nonzero().squeeze(1)  # (C,), rows whose ID another row has too
    latents, group, item_index = latents[shared], group[shared], item_index[shared]
    is_pair = (group.unsqueeze(0) == group.unsqueeze(1)).triu(diagonal=1)  # (C, C)
    is_pair &= item_index.unsqueeze(0) != item_index.unsqueeze(1)
    num_pairs = int(is_pair.sum())
    if num_pairs == 0:
        return latents.new_zeros(())
    if num_pairs > _MOST_PAIRS * len(latents):  # a table of all is smaller than the pairs' latents
        unit = F.normalize(latents, dim=1)
        return F.relu(unit @ unit.T - margin).masked_fill(~is_pair, 0.0).sum() / num_pairs
    first, second = is_pair.nonzero(as_tuple=True)
    similarity = F.cosine_similarity(latents[first], latents[second], dim=1)
    return F.relu(similarity - margin).mean()
