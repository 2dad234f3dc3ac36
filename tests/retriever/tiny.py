"""Tiny catalogues and retrievers with random weights, and slow but obvious references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hidvae.config import RetrieverConfig
from hidvae.data.interactions import Sequences
from hidvae.ranking.search import Asked, Lists, best_items
from hidvae.retriever.build import build_retriever
from hidvae.retriever.interface import HistoryBatch, Retriever
from hidvae.semantic_ids.collisions import disambiguate
from hidvae.semantic_ids.table import SemanticIds

LEVEL_SIZES = (5, 4, 6)
TAG_SIZES = (2, 3, 4)
MAX_HISTORY = 6

CASES: dict[str, dict[str, Any]] = {
    "item_softmax": {"architecture": "item_softmax"},
    "item_softmax, all inputs": {"architecture": "item_softmax", "num_user_buckets": 3},
    "item_softmax, disambiguated": {"architecture": "item_softmax", "disambiguated": True},
    "item_softmax, without codes": {"architecture": "item_softmax", "code_input": False},
    "item_decoder": {},
    "item_decoder, all inputs": {"num_user_buckets": 3},
    "item_decoder, codes alone": {"content_input": False, "item_input": False},
    "item_decoder, disambiguated": {"disambiguated": True},
    "item_decoder, over all codes": {"prefix_normalized": False},
    "encoder_decoder": {"architecture": "encoder_decoder"},
    "encoder_decoder, all inputs": {
        "architecture": "encoder_decoder",
        "num_user_buckets": 3,
        "num_layers": 2,
    },
    "encoder_decoder, disambiguated": {"architecture": "encoder_decoder", "disambiguated": True},
    "encoder_decoder, over all codes": {
        "architecture": "encoder_decoder",
        "prefix_normalized": False,
    },
}
"""Settings of the retrievers that every decoding test goes through."""


def random_ids(seed: int = 0, num_items: int = 32, *, disambiguated: bool = False) -> SemanticIds:
    """Distinct random IDs; the tag of a level is a function of the codes up to it, -1 at times."""
    rng = np.random.default_rng(seed)
    sizes: tuple[int, ...] = LEVEL_SIZES
    if disambiguated:
        base = np.column_stack([rng.integers(0, 3, num_items) for _ in sizes])
        codes, last = disambiguate(base)
        sizes = (*sizes, last)
        assert last > 1
    else:
        rows = rng.choice(int(np.prod(sizes)), num_items, replace=False)
        codes = np.column_stack(np.unravel_index(rows, sizes))
    tag_ids = np.empty((num_items, len(TAG_SIZES)), dtype=np.int64)
    tag_of: dict[tuple[int, ...], int] = {}
    for level, size in enumerate(TAG_SIZES):
        for item, prefix in enumerate(map(tuple, codes[:, : level + 1].tolist())):
            tag_ids[item, level] = tag_of.setdefault(prefix, int(rng.integers(-1, size)))
    confidence = rng.random(tag_ids.shape).astype(np.float32)
    names = [f"item-{index}" for index in range(num_items)]
    return SemanticIds(names, codes, sizes, tag_ids, confidence, disambiguated)


def make_retriever(
    ids: SemanticIds | None = None,
    *,
    disambiguated: bool = False,
    seed: int = 0,
    spread: float = 0.2,
    warm_items: np.ndarray | None = None,
    **settings: Any,
) -> Retriever:
    """A retriever in evaluation mode, its weights stirred so that items' scores differ."""
    ids = ids or random_ids(disambiguated=disambiguated)
    defaults = {"dim": 16, "num_layers": 1, "num_heads": 2, "dropout": 0.0}
    settings = {"architecture": "item_decoder", **settings}
    config = RetrieverConfig(**{**defaults, "max_history": MAX_HISTORY, **settings})
    content = np.random.default_rng(seed).normal(size=(ids.num_items, 7)).astype(np.float32)
    torch.manual_seed(seed)
    model = build_retriever(config, ids, content, warm_items)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=spread)
    return model.eval()


@torch.no_grad()
def ranked(
    model: Retriever,
    items: torch.Tensor,
    users: torch.Tensor,
    k: int,
    *,
    beam_width: int = 0,
    most_apart: int = 0,
    **asked: Any,
) -> Lists:
    """The k best items, by k beams unless told otherwise."""
    return best_items(
        model,
        Asked(model.read(items, users), **asked),
        k,
        most_apart=most_apart,
        beam_width=beam_width or k,
    )


def all_log_probs(model: Retriever, items: torch.Tensor, users: torch.Tensor) -> torch.Tensor:
    """log p(item | history), (B, N): what endlessly wide beams find."""
    found = ranked(model, items, users, model.tables.num_items)
    return torch.empty_like(found.log_probs).scatter_(1, found.items, found.log_probs)


def histories(num_items: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Items (4, T), -1 padded on the right, and users (4,), one of them unknown."""
    rng = np.random.default_rng(5)
    lists = [rng.integers(0, num_items, length) for length in (3, 1, 6, 4)]
    padded = Sequences.from_lists(lists).padded(MAX_HISTORY)
    return torch.from_numpy(padded), torch.tensor([0, 4, -1, 2])


def single_target(items: torch.Tensor, users: torch.Tensor, target: int) -> HistoryBatch:
    """One history (1, T) whose only target stands at its last item."""
    targets = torch.full_like(items, -1)
    targets[0, int((items[0] >= 0).sum()) - 1] = target
    return HistoryBatch(items, targets, users)


@torch.no_grad()
def teacher_forced_scores(
    model: Retriever, items: torch.Tensor, users: torch.Tensor
) -> torch.Tensor:
    """log p(item | history), (B, N), one call of the training loss for each."""
    scores = torch.empty(len(items), model.tables.num_items)
    for row in range(len(items)):
        length = int((items[row] >= 0).sum())
        history, user = items[row : row + 1, :length], users[row : row + 1]
        for item in range(model.tables.num_items):
            scores[row, item] = -model.loss(single_target(history, user, item))
    return scores


def naive_children(codes: np.ndarray) -> dict[tuple[int, ...], list[int]]:
    """Prefix to the codes that may follow it, ascending."""
    children: dict[tuple[int, ...], set[int]] = {}
    for row in codes.tolist():
        for depth in range(len(row)):
            children.setdefault(tuple(row[:depth]), set()).add(row[depth])
    return {prefix: sorted(found) for prefix, found in children.items()}


def rows_of(batches: Sequence[HistoryBatch]) -> list[tuple[list[int], list[int], int]]:
    """(items, targets, user) of every row, padding still in."""
    return [
        (items, targets, user)
        for batch in batches
        for items, targets, user in zip(
            batch.items.tolist(), batch.targets.tolist(), batch.users.tolist(), strict=True
        )
    ]
