"""Codes as the transformer sees them: one table for all levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CodeEmbedding(nn.Module):
    """Embedding of a code: of itself, plus one of its level.

    The paper concatenates the two and applies a linear map; a linear map of a concatenation is the
    sum of one map per part, which is how it is computed here.

    Source: HiD-VAE (arXiv:2508.04618), stage 2, token representation. Differs: without the text of
    the code's tag.
    """

    def __init__(self, level_sizes: Sequence[int], dim: int) -> None:
        """Build the tables.

        Args:
            level_sizes: Number of codes of each of the M levels.
            dim: Width d.
        """
        super().__init__()
        self.level_sizes = tuple(level_sizes)
        self.dim = dim
        offsets = np.concatenate([[0], np.cumsum(level_sizes)[:-1]])
        self.register_buffer("offsets", torch.as_tensor(offsets, dtype=torch.long), False)
        self.table = nn.Embedding(sum(level_sizes), dim)
        nn.init.normal_(self.table.weight, std=0.02)
        self.level_type = nn.Parameter(torch.zeros(len(level_sizes), dim))

    def forward(self, codes: Tensor, level: int | None = None) -> Tensor:
        """Embed codes (..., M), or (...) of one level: (..., M, d) or (..., d)."""
        if level is None:
            vectors: Tensor = self.table(codes + self.offsets)  # type: ignore[operator]
            return vectors + self.level_type
        offset: Tensor = self.offsets[level]  # type: ignore[index]
        of_level: Tensor = self.table(codes + offset)
        return of_level + self.level_type[level]

    def summed(self, codes: Tensor) -> Tensor:
        """The sum (..., d) of the vectors of items' codes (..., M), which are never held apart."""
        tokens = (codes + self.offsets).flatten(0, -2)  # type: ignore[operator]
        total = F.embedding_bag(tokens, self.table.weight, mode="sum")
        return total.view(*codes.shape[:-1], self.dim) + self.level_type.sum(dim=0)

    def output_weights(self, level: int) -> Tensor:
        """Table (K_l, d) of a level's codes, shared with the output layer."""
        start = sum(self.level_sizes[:level])
        return self.table.weight[start : start + self.level_sizes[level]]


class UserEmbedding(nn.Module):
    """A vector per bucket of users; several users share a bucket, as in TIGER."""

    def __init__(self, num_buckets: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_buckets, dim)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, users: Tensor) -> Tensor:
        """Vectors (B, d) of users (B,); zero for an unknown user (-1)."""
        vectors: Tensor = self.table(users.clamp_min(0) % self.table.num_embeddings)
        return vectors * (users >= 0).unsqueeze(1)
