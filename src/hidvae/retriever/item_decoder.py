"""``item_decoder``: a causal transformer over items, and a small decoder over codes.

A history of T items is T positions, not T x M tokens, and every position is trained at once. The
backbone runs once per user; the beam runs only through the code decoder.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hidvae.retriever.catalogue_tables import CatalogueTables
from hidvae.retriever.interface import HistoryBatch, Retriever, gather_beams
from hidvae.retriever.losses import next_code_loss
from hidvae.retriever.transformer import Block, init_weights
from hidvae.retriever.vocabulary import CodeEmbedding
from hidvae.training.dropout import Dropout


class ItemInput(nn.Module):
    """Input vector of an item: its codes, its content, and a learned vector of its own."""

    content: Tensor | None

    def __init__(
        self,
        code_embedding: CodeEmbedding,
        tables: CatalogueTables,
        content: Tensor | None,
        has_item_vectors: bool,
    ) -> None:
        """Build.

        Args:
            code_embedding: Shared with the code decoder.
            tables: Codes and tags of the items.
            content: (N, D_in) item embeddings, or None to leave them out.
            has_item_vectors: Learn one vector per item.
        """
        super().__init__()
        dim = code_embedding.dim
        self.code_embedding = code_embedding
        self.tables = tables
        self.register_buffer("content", content, persistent=False)
        self.content_projection: nn.Linear | None = None
        if content is not None:
            self.content_projection = nn.Linear(content.shape[1], dim, bias=False)
        self.item_vectors: nn.Embedding | None = None
        if has_item_vectors:
            self.item_vectors = nn.Embedding(tables.num_items, dim)

    def forward(self, items: Tensor) -> Tensor:
        """Vectors (..., d) of items (...)."""
        codes, tags = self.tables.codes[items], self.tables.tag_ids[items]
        vectors: Tensor = self.code_embedding(codes, tags).sum(dim=-2)
        if self.content_projection is not None and self.content is not None:
            vectors = vectors + self.content_projection(self.content[items])
        if self.item_vectors is not None:
            vectors = vectors + self.item_vectors(items)
        return vectors


class CodeDecoder(nn.Module):
    """Logits of an ID's next code from the backbone's state and the codes chosen so far.

    The prefix enters as the sum of its codes' embeddings; the levels have their own weights, so a
    position needs no attention over at most M - 1 codes.
    """

    def __init__(self, code_embedding: CodeEmbedding, dropout: float) -> None:
        super().__init__()
        dim = code_embedding.dim
        self.code_embedding = code_embedding
        self.state_norm = nn.LayerNorm(dim, bias=False)
        self.mixers = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
            for _ in code_embedding.level_sizes
        )
        self.output_norm = nn.LayerNorm(dim, bias=False)
        self.output_bias = nn.ParameterList(
            torch.zeros(size) for size in code_embedding.level_sizes
        )
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, prefix: Tensor, level: int) -> Tensor:
        """Logits (..., K_level).

        Args:
            states: (..., d) of the backbone.
            prefix: (..., d), sum of the embeddings of the codes before ``level``.
            level: Which code comes next.
        """
        normed = self.state_norm(states)
        mixed = self.mixers[level](torch.cat([normed, prefix], dim=-1))
        output = self.output_norm(states + self.dropout(mixed))
        return output @ self.code_embedding.output_weights(level).T + self.output_bias[level]


class BeamState(NamedTuple):
    """What a beam carries: the sum (B, W, d) of its codes' embeddings."""

    prefix: Tensor


class ItemDecoder(Retriever):
    """Causal transformer over items with a code decoder at every position."""

    def __init__(
        self,
        tables: CatalogueTables,
        code_embedding: CodeEmbedding,
        *,
        content: Tensor | None,
        has_item_vectors: bool,
        num_layers: int,
        num_heads: int,
        dropout: float,
        max_history: int,
        num_user_buckets: int = 0,
        prefix_normalized: bool = True,
    ) -> None:
        super().__init__(tables, prefix_normalized)
        dim = code_embedding.dim
        self.item_input = ItemInput(code_embedding, tables, content, has_item_vectors)
        self.position = nn.Embedding(max_history, dim)
        self.user = nn.Embedding(num_user_buckets, dim) if num_user_buckets else None
        self.input_norm = nn.LayerNorm(dim, bias=False)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, num_heads, dropout) for _ in range(num_layers))
        self.code_decoder = CodeDecoder(code_embedding, dropout)
        init_weights(self)
        for table in (self.position, self.user, self.item_input.item_vectors):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)

    def states(self, items: Tensor, users: Tensor) -> Tensor:
        """Backbone states (B, T, d) of histories (B, T); those at padding mean nothing.

        Padding is on the right, where a causal position never looks, so it needs no mask.
        """
        vectors = self.item_input(items.clamp_min(0))
        x = vectors + self.position.weight[: items.shape[1]]
        if self.user is not None:
            x = x + self.user(users % self.user.num_embeddings).unsqueeze(1)
        x = self.dropout(self.input_norm(x))
        for block in self.blocks:
            x = block(x, is_causal=True)
        return x

    def loss(self, batch: HistoryBatch, label_smoothing: float = 0.0) -> Tensor:
        """See ``Retriever.loss``."""
        has_target = batch.targets >= 0
        states = self.states(batch.items, batch.users)[has_target]  # (n, d)
        targets = batch.targets[has_target]  # (n,)
        codes, tags = self.tables.codes[targets], self.tables.tag_ids[targets]
        code_vectors = self.code_decoder.code_embedding(codes, tags)  # (n, M, d)
        prefix = torch.zeros_like(states)
        total = states.new_zeros(())
        for level in range(self.tables.num_levels):
            logits = self.code_decoder(states, prefix, level)
            nodes = self.tables.nodes_of_items[level, targets]
            is_valid = self.tables.children_of(level, nodes) >= 0
            total = total + next_code_loss(
                logits, codes[:, level], is_valid, self.prefix_normalized, label_smoothing
            ).mean()
            prefix = prefix + code_vectors[:, level]
        return total

    def read(self, items: Tensor, users: Tensor) -> Tensor:
        """State (B, d) after the last item of each history."""
        last = (items >= 0).sum(dim=1) - 1
        rows = torch.arange(len(items), device=items.device)
        return self.states(items, users)[rows, last]

    def begin(self, memory: Tensor) -> BeamState:
        """See ``Retriever.begin``."""
        return BeamState(torch.zeros_like(memory).unsqueeze(1))

    def step(self, memory: Tensor, state: BeamState, level: int) -> tuple[Tensor, BeamState]:
        """See ``Retriever.step``."""
        states = memory.unsqueeze(1).expand_as(state.prefix)
        logits: Tensor = self.code_decoder(states, state.prefix, level)
        return logits, state

    def advance(
        self, state: BeamState, level: int, parents: Tensor, codes: Tensor, tag_ids: Tensor
    ) -> BeamState:
        """See ``Retriever.advance``."""
        vectors = self.code_decoder.code_embedding(codes, tag_ids, level)
        return BeamState(gather_beams(state.prefix, parents) + vectors)
