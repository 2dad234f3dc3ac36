"""Catalogues, histories and retrievers with random contents, for the benchmarks.

Random IDs fill the codebooks evenly. Trained ones do not, which leaves some prefixes more children
and others fewer; the number of items is the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hidvae.config import RetrieverConfig
from hidvae.ranking.search import Asked, Lists, best_items
from hidvae.retriever.build import build_retriever
from hidvae.retriever.interface import Retriever
from hidvae.semantic_ids.table import SemanticIds


def distinct_codes(
    num_items: int, num_levels: int, codebook_size: int, seed: int = 0
) -> np.ndarray:
    """Random codes (N, M) int64, no two rows alike; N at most K^M."""
    generator = np.random.default_rng(seed)
    capacity = codebook_size**num_levels
    numbers = np.empty(0, np.int64)
    while len(numbers) < num_items:
        drawn = generator.integers(capacity, size=num_items + num_items // 16 + 16)
        numbers = np.unique(np.concatenate([numbers, drawn]))
    numbers = generator.permutation(numbers)[:num_items]
    return np.stack(np.unravel_index(numbers, (codebook_size,) * num_levels), axis=1)


def semantic_ids(codes: np.ndarray, codebook_size: int) -> SemanticIds:
    """The table of codes (N, M), without tags."""
    names = [str(number) for number in range(len(codes))]
    return SemanticIds.without_tags(names, codes, [codebook_size] * codes.shape[1])


def random_retriever(ids: SemanticIds, content_dim: int, **settings: Any) -> Retriever:
    """An untrained retriever in evaluation mode.

    Args:
        ids: Of the catalogue.
        content_dim: Width of the items' random content, in rows of length 1.
        settings: Of ``RetrieverConfig``.
    """
    generator = np.random.default_rng(0)
    content = generator.standard_normal((ids.num_items, content_dim), np.float32)
    content /= np.maximum(np.linalg.norm(content, axis=1, keepdims=True), 1e-12)
    torch.manual_seed(0)
    return build_retriever(RetrieverConfig(**settings), ids, content).eval()


@torch.no_grad()
def rank(
    model: Retriever,
    items: torch.Tensor,
    users: torch.Tensor,
    beams: int,
    allowed: torch.Tensor | None = None,
) -> Lists:
    """A search for as many items as it has beams."""
    asked = Asked(model.read(items, users), allowed=allowed)
    return best_items(model, asked, beams, beam_width=beams)


def random_histories(num_users: int, length: int, num_items: int) -> tuple[torch.Tensor, ...]:
    """Items (B, T) and users (B,), all of them unknown."""
    generator = torch.Generator().manual_seed(0)
    items = torch.randint(num_items, (num_users, length), generator=generator)
    return items, torch.full((num_users,), -1)
