"""Codes as the transformer sees them: one token table for all levels, and what each token means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

TagTokens = Literal["none", "concatenated", "interleaved"]


def tag_level_of_token(num_levels: int, num_tag_levels: int, mode: TagTokens) -> tuple[int, ...]:
    """Which tag level describes each of an ID's M tokens; -1 for a disambiguation code.

    Args:
        num_levels: Tokens per ID, M, tag tokens included.
        num_tag_levels: Levels L of the tags.
        mode: How tag tokens were put into the ID.
    """
    num_codes = num_levels if mode == "none" else num_levels - num_tag_levels
    of_code = [level if level < num_tag_levels else -1 for level in range(num_codes)]
    of_tag = list(range(num_tag_levels))
    if mode == "none":
        return tuple(of_code)
    if mode == "concatenated":
        return tuple(of_code + of_tag)
    interleaved: list[int] = []
    for level in range(num_codes):
        interleaved.append(of_code[level])
        if level < num_tag_levels:
            interleaved.append(level)
    return tuple(interleaved)


def code_of_token(num_levels: int, num_tag_levels: int, mode: TagTokens) -> tuple[int, ...]:
    """Which of an ID's codes each of its M tokens belongs to; a tag token to the code before it.

    Args:
        num_levels: As for ``tag_level_of_token``.
        num_tag_levels: As for ``tag_level_of_token``.
        mode: As for ``tag_level_of_token``.
    """
    if mode == "none":
        return tuple(range(num_levels))
    num_codes = num_levels - num_tag_levels
    if mode == "concatenated":
        return (*range(num_codes), *[num_codes - 1] * num_tag_levels)
    return tuple(
        code for code in range(num_codes) for _ in range(2 if code < num_tag_levels else 1)
    )


class CodeEmbedding(nn.Module):
    """Embedding of a code: of itself, plus optionally of its level and of its tag's text.

    The paper concatenates tag text, ID and level-type embeddings and applies a linear map; a linear
    map of a concatenation is the sum of one map per part, which is how it is computed here.

    Source: HiD-VAE (arXiv:2508.04618), stage 2, token representation.
    """

    def __init__(
        self,
        level_sizes: Sequence[int],
        dim: int,
        *,
        level_type: bool = True,
        tag_embeddings: Sequence[Tensor] | None = None,
        tag_levels: Sequence[int] = (),
    ) -> None:
        """Build the tables.

        Args:
            level_sizes: Number of codes of each of the M levels.
            dim: Width d.
            level_type: Add one vector per level.
            tag_embeddings: Per tag level (C_l, D_tag); None leaves tag texts out.
            tag_levels: For each of the M levels, the tag level that describes it, or -1.
        """
        super().__init__()
        self.level_sizes = tuple(level_sizes)
        self.dim = dim
        offsets = np.concatenate([[0], np.cumsum(level_sizes)[:-1]])
        self.register_buffer("offsets", torch.as_tensor(offsets, dtype=torch.long), False)
        self.table = nn.Embedding(sum(level_sizes), dim)
        nn.init.normal_(self.table.weight, std=0.02)
        self.level_type = nn.Parameter(torch.zeros(len(level_sizes), dim)) if level_type else None
        self.tag_levels = tuple(tag_levels)
        self.tag_projection: nn.Linear | None = None
        if tag_embeddings is not None:
            self.tag_projection = nn.Linear(tag_embeddings[0].shape[1], dim, bias=False)
            for level, embeddings in enumerate(tag_embeddings):
                unknown = embeddings.new_zeros(1, embeddings.shape[1])  # row of tag -1
                self.register_buffer(f"tag_text_{level}", torch.cat([embeddings, unknown]), False)

    def forward(self, codes: Tensor, tag_ids: Tensor, level: int | None = None) -> Tensor:
        """Embed codes.

        Args:
            codes: (..., M), or (...) of one level if ``level`` is given.
            tag_ids: (..., L) tags of the item or prefix, -1 unknown; read only with tag texts.
            level: Embed codes of this level only.

        Returns: (..., M, d), or (..., d) for one level.
        """
        if level is not None:
            offset: Tensor = self.offsets[level]  # type: ignore[index]
            vectors: Tensor = self.table(codes + offset)
            if self.level_type is not None:
                vectors = vectors + self.level_type[level]
            return self._add_tag_text(vectors, tag_ids, level)
        vectors = self.table(codes + self.offsets)  # type: ignore[operator]
        if self.level_type is not None:
            vectors = vectors + self.level_type
        if self.tag_projection is None:
            return vectors
        per_level = [
            self._add_tag_text(vectors[..., level, :], tag_ids, level)
            for level in range(len(self.level_sizes))
        ]
        return torch.stack(per_level, dim=-2)

    def summed(self, codes: Tensor, tag_ids: Tensor) -> Tensor:
        """The sum (..., d) of the vectors of items' codes (..., M), which are never held apart."""
        tokens = (codes + self.offsets).flatten(0, -2)  # type: ignore[operator]
        total = F.embedding_bag(tokens, self.table.weight, mode="sum")
        total = total.view(*codes.shape[:-1], self.dim)
        if self.level_type is not None:
            total = total + self.level_type.sum(dim=0)
        for level in range(len(self.level_sizes)):
            total = self._add_tag_text(total, tag_ids, level)
        return total

    def output_weights(self, level: int) -> Tensor:
        """Table (K_l, d) of a level's codes, shared with the output layer."""
        start = sum(self.level_sizes[:level])
        return self.table.weight[start : start + self.level_sizes[level]]

    def _add_tag_text(self, vectors: Tensor, tag_ids: Tensor, level: int) -> Tensor:
        tag_level = self.tag_levels[level] if self.tag_projection is not None else -1
        if tag_level < 0:
            return vectors
        assert self.tag_projection is not None
        projected = self.tag_projection(getattr(self, f"tag_text_{tag_level}"))  # (C + 1, d)
        rows = tag_ids[..., tag_level] % len(projected)  # -1 is the last row
        text: Tensor = projected[rows]
        return vectors + text


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
