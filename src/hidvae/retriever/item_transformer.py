"""What the architectures that read items share: an item's vector, and a causal transformer.

A history of T items is T positions, not T x M tokens, and every position is trained at once. The
transformer runs once per user.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hidvae.retriever.catalogue_tables import CatalogueTables
from hidvae.retriever.code_embeddings import CodeEmbedding, UserEmbedding
from hidvae.retriever.interface import Retriever
from hidvae.retriever.transformer import Block, init_weights
from hidvae.training.dropout import Dropout


class ItemTransformer(Retriever):
    """A causal transformer over items; how an ID is generated from its states is up to others."""

    content: Tensor | None
    no_cooccurrence: Tensor | None

    def __init__(
        self,
        tables: CatalogueTables,
        code_embedding: CodeEmbedding,
        *,
        content: Tensor | None,
        has_codes: bool,
        has_own_vectors: bool,
        num_layers: int,
        num_heads: int,
        dropout: float,
        max_history: int,
        new_item_dropout: float = 0.0,
        transition_columns: tuple[int, int] = (0, 0),
        no_cooccurrence: Tensor | None = None,
        num_user_buckets: int = 0,
        prefix_normalized: bool = True,
    ) -> None:
        """Build.

        Args:
            tables: Of the catalogue, N items.
            code_embedding: Of width d.
            content: (N, D_in) item embeddings, or None to leave them out of an item's vector.
            has_codes: Whether an item's codes are part of its vector.
            has_own_vectors: Whether a vector is learned for every item.
            num_layers: Of the transformer.
            num_heads: Of the transformer.
            dropout: Of the transformer and of its input.
            max_history: Most items that it reads.
            new_item_dropout: Share of the items that a training step takes for new ones.
            transition_columns: Columns [start, end) of ``content`` that come from transitions.
            no_cooccurrence: (end - start,), what a new item has there.
            num_user_buckets: Rows of the user embedding, 0 for none.
            prefix_normalized: See ``code_log_probs``.
        """
        super().__init__(tables, prefix_normalized)
        dim = code_embedding.dim
        self.code_embedding = code_embedding
        self.has_codes = has_codes
        self.register_buffer("content", content, persistent=False)
        self.content_projection: nn.Linear | None = None
        if content is not None:
            self.content_projection = nn.Linear(content.shape[1], dim, bias=False)
        self.own_vectors = nn.Embedding(tables.num_items, dim) if has_own_vectors else None
        self.new_item_dropout = new_item_dropout
        self.transition_columns = transition_columns
        self.register_buffer("no_cooccurrence", no_cooccurrence, persistent=False)
        self.position = nn.Embedding(max_history, dim)
        self.user = UserEmbedding(num_user_buckets, dim) if num_user_buckets else None
        self.input_norm = nn.LayerNorm(dim, bias=False)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, num_heads, dropout) for _ in range(num_layers))

    def reset_weights(self) -> None:
        """Fresh weights of the whole model; to be called once it is built.

        The own vector of a cold item is 0 and stays so.
        """
        init_weights(self)
        nn.init.normal_(self.position.weight, std=0.02)
        if self.own_vectors is None:
            return
        own = self.own_vectors.weight
        nn.init.normal_(own, std=0.02)
        warm = self.tables.warm_items()
        if warm is not None:
            with torch.no_grad():
                own[~warm] = 0.0

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """Vectors (..., d) of items (...), all N by default: codes', content's and their own."""
        rows = slice(None) if items is None else items  # all of a table without a copy of it
        is_new = self._drawn_as_new((self.tables.num_items,) if items is None else items.shape)
        parts: list[Tensor] = []
        if self.has_codes:
            parts.append(self.code_embedding.summed(self.tables.codes[rows]))
        if self.content_projection is not None and self.content is not None:
            content = self.content[rows]
            if is_new is not None:
                content = self._without_cooccurrence(content, is_new)
            parts.append(self.content_projection(content))
        if self.own_vectors is not None:
            own = self.own_vectors.weight if items is None else self.own_vectors(items)
            parts.append(own if is_new is None else own.masked_fill(is_new, 0.0))
        return sum(parts[1:], start=parts[0])

    def _drawn_as_new(self, shape: Sequence[int]) -> Tensor | None:
        """Which items (..., 1) a training step takes for new ones; None: none of them."""
        if not self.training or self.new_item_dropout == 0:
            return None
        drawn = torch.rand(*shape, 1, device=self.position.weight.device)
        return drawn < self.new_item_dropout

    def _without_cooccurrence(self, content: Tensor, is_new: Tensor) -> Tensor:
        """Content (..., D_in), where items are new as that of an item without transitions."""
        if self.no_cooccurrence is None:
            return content
        start, end = self.transition_columns
        learned = torch.where(is_new, self.no_cooccurrence, content[..., start:end])
        return torch.cat([content[..., :start], learned, content[..., end:]], dim=-1)

    def states(self, items: Tensor, users: Tensor, vectors: Tensor | None = None) -> Tensor:
        """States (B, T, d) of histories (B, T); those at padding mean nothing.

        Padding is on the right, where a causal position never looks, so it needs no mask.

        Args:
            items: (B, T), -1 padded.
            users: (B,).
            vectors: (N, d), the vectors of all items, where they have been made.
        """
        rows = items.clamp_min(0)
        x = self.item_vectors(rows) if vectors is None else vectors[rows]
        x = x + self.position.weight[: items.shape[1]]
        if self.user is not None:
            x = x + self.user(users).unsqueeze(1)
        x = self.dropout(self.input_norm(x))
        for block in self.blocks:
            x = block(x, is_causal=True)
        return x

    def last_states(self, items: Tensor, users: Tensor, vectors: Tensor | None = None) -> Tensor:
        """State (B, d) after the last item of each history; arguments as for ``states``."""
        last = (items >= 0).sum(dim=1) - 1
        rows = torch.arange(items.shape[0], device=items.device)
        return self.states(items, users, vectors)[rows, last]
