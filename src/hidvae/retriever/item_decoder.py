"""``item_decoder``: a causal transformer over items, and a small decoder over codes.

A history of T items is T positions, not T x M tokens, and every position is trained at once. The
backbone runs once per user; the beam runs only through the code decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hidvae.retriever.catalogue_tables import CatalogueTables
from hidvae.retriever.interface import HistoryBatch, Retriever, gather_beams
from hidvae.retriever.losses import next_code_loss
from hidvae.retriever.transformer import Block, init_weights
from hidvae.retriever.vocabulary import CodeEmbedding, UserEmbedding
from hidvae.training.dropout import Dropout


class ItemInput(nn.Module):
    """Input vector of an item beside its codes: its content, and a learned vector of its own."""

    content: Tensor | None

    def __init__(
        self, num_items: int, dim: int, content: Tensor | None, has_item_vectors: bool
    ) -> None:
        """Build.

        Args:
            num_items: N.
            dim: Width d.
            content: (N, D_in) item embeddings, or None to leave them out.
            has_item_vectors: Learn one vector per item.
        """
        super().__init__()
        self.register_buffer("content", content, persistent=False)
        self.projection: nn.Linear | None = None
        if content is not None:
            self.projection = nn.Linear(content.shape[1], dim, bias=False)
        self.item_vectors = nn.Embedding(num_items, dim) if has_item_vectors else None

    def forward(self, items: Tensor, code_vectors: Tensor) -> Tensor:
        """Vectors (..., d) of items (...), given the sum (..., d) of their codes' embeddings."""
        vectors = code_vectors
        if self.projection is not None and self.content is not None:
            vectors = vectors + self.projection(self.content[items])
        if self.item_vectors is not None:
            vectors = vectors + self.item_vectors(items)
        return vectors


class CodeDecoder(nn.Module):
    """Logits of an ID's next code from the backbone's state and the codes chosen so far.

    The prefix enters as the sum of its codes' embeddings; the levels have their own weights, so a
    position needs no attention over at most M - 1 codes.
    """

    def __init__(self, level_sizes: Sequence[int], dim: int, dropout: float) -> None:
        super().__init__()
        self.state_norm = nn.LayerNorm(dim, bias=False)
        self.mixers = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
            for _ in level_sizes
        )
        self.output_norm = nn.LayerNorm(dim, bias=False)
        self.output_bias = nn.ParameterList(torch.zeros(size) for size in level_sizes)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, prefix: Tensor, level: int, code_vectors: Tensor) -> Tensor:
        """Logits (..., K_level).

        Args:
            states: (..., d) of the backbone.
            prefix: (..., d), sum of the embeddings of the codes before ``level``.
            level: Which code comes next.
            code_vectors: (K_level, d), the input embeddings of the level's codes, shared.
        """
        normed = self.state_norm(states)
        mixed = self.mixers[level](torch.cat([normed, prefix], dim=-1))
        output = self.output_norm(states + self.dropout(mixed))
        return output @ code_vectors.T + self.output_bias[level]


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
        self.code_embedding = code_embedding
        self.item_input = ItemInput(tables.num_items, dim, content, has_item_vectors)
        self.position = nn.Embedding(max_history, dim)
        self.user = UserEmbedding(num_user_buckets, dim) if num_user_buckets else None
        self.input_norm = nn.LayerNorm(dim, bias=False)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, num_heads, dropout) for _ in range(num_layers))
        self.code_decoder = CodeDecoder(tables.level_sizes, dim, dropout)
        init_weights(self)
        for table in (self.position, self.item_input.item_vectors):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)

    def states(self, items: Tensor, users: Tensor) -> Tensor:
        """Backbone states (B, T, d) of histories (B, T); those at padding mean nothing.

        Padding is on the right, where a causal position never looks, so it needs no mask.
        """
        rows = items.clamp_min(0)
        code_vectors = self.code_embedding(self.tables.codes[rows], self.tables.tag_ids[rows])
        x = self.item_input(rows, code_vectors.sum(dim=-2))
        x = x + self.position.weight[: items.shape[1]]
        if self.user is not None:
            x = x + self.user(users).unsqueeze(1)
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
        code_vectors = self.code_embedding(codes, tags)  # (n, M, d)
        prefix = torch.zeros_like(states)
        total = states.new_zeros(())
        for level in range(self.tables.num_levels):
            nodes = self.tables.nodes_of_items[level, targets]
            # Where the prefix leaves one code, its probability is 1 and there is nothing to learn;
            # deep in the trie that is most positions.
            open_rows = (self.tables.num_known_children(level, nodes) > 1).nonzero().squeeze(1)
            rows = (
                open_rows
                if self.prefix_normalized
                else torch.arange(len(nodes), device=nodes.device)
            )
            logits = self._logits(states[rows], prefix[rows], level)
            is_valid = self.tables.codes_after(level, nodes[rows])
            loss = next_code_loss(
                logits, codes[rows, level], is_valid, self.prefix_normalized, label_smoothing
            )
            total = total + loss.sum() / len(targets)
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
        return self._logits(states, state.prefix, level), state

    def advance(
        self, state: BeamState, level: int, parents: Tensor, codes: Tensor, tag_ids: Tensor
    ) -> BeamState:
        """See ``Retriever.advance``."""
        vectors = self.code_embedding(codes, tag_ids, level)
        return BeamState(gather_beams(state.prefix, parents) + vectors)

    def _logits(self, states: Tensor, prefix: Tensor, level: int) -> Tensor:
        weights = self.code_embedding.output_weights(level)
        logits: Tensor = self.code_decoder(states, prefix, level, weights)
        return logits
