"""``encoder_decoder``: the published shape, a T5-like pair over flattened codes."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from hidvae.retriever.catalogue_tables import CatalogueTables, Children
from hidvae.retriever.code_embeddings import CodeEmbedding, UserEmbedding
from hidvae.retriever.code_loss import next_code_loss
from hidvae.retriever.interface import BeamRetriever, HistoryBatch, gather_beams
from hidvae.retriever.transformer import Block, init_weights, padding_mask
from hidvae.training.dropout import Dropout

KeysValues = tuple[Tensor, Tensor]


class Memory(NamedTuple):
    """The encoded history, as each decoder layer attends to it; shared by all beams."""

    keys_values: list[KeysValues]
    """Per decoder layer, (B, heads, S, d / heads) each."""
    mask: Tensor
    """(B, 1, 1, S)."""


class BeamState(NamedTuple):
    """What the beams carry between steps."""

    token: Tensor
    """(B, W, d), embedding of the newest code (of BOS at first)."""
    cache: list[KeysValues]
    """Per decoder layer, self-attention keys and values (B, W, heads, t, d / heads)."""


class EncoderDecoder(BeamRetriever):
    """Bidirectional encoder over a history's T x M codes, causal decoder over the next item's M.

    Source: TIGER (arXiv:2305.05065) and HiD-VAE (arXiv:2508.04618), stage 2. Differs: learned
    absolute positions instead of T5's relative ones.
    """

    def __init__(
        self,
        tables: CatalogueTables,
        code_embedding: CodeEmbedding,
        *,
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
        self.position = nn.Embedding(max_history, dim)
        self.user = UserEmbedding(num_user_buckets, dim) if num_user_buckets else None
        self.begin_vector = nn.Parameter(torch.zeros(dim))
        self.decoder_position = nn.Parameter(torch.zeros(tables.num_levels, dim))
        self.dropout = Dropout(dropout)
        self.encoder = nn.ModuleList(Block(dim, num_heads, dropout) for _ in range(num_layers))
        self.decoder = nn.ModuleList(
            Block(dim, num_heads, dropout, has_memory=True) for _ in range(num_layers)
        )
        self.encoder_norm = nn.LayerNorm(dim, bias=False)
        self.decoder_norm = nn.LayerNorm(dim, bias=False)
        self.output_bias = nn.ParameterList(torch.zeros(size) for size in tables.level_sizes)
        init_weights(self)
        for parameter in (self.position.weight, self.begin_vector, self.decoder_position):
            nn.init.normal_(parameter, std=0.02)

    def loss(self, batch: HistoryBatch, label_smoothing: float = 0.0) -> Tensor:
        """See ``Retriever.loss``; each history must have exactly one target."""
        targets = batch.targets.max(dim=1).values  # the one that is not -1
        encoded, mask = self._encode(batch.items, batch.users)
        codes = self.tables.codes[targets]
        code_vectors = self.code_embedding(codes)  # (B, M, d)
        begin = self.begin_vector.expand(len(targets), 1, -1)
        x = torch.cat([begin, code_vectors[:, :-1]], dim=1) + self.decoder_position
        x = self.dropout(x)
        for block in self.decoder:
            x = block(x, is_causal=True, memory=encoded, memory_mask=mask)
        x = self.decoder_norm(x)
        total = x.new_zeros(())
        for level in range(self.tables.num_levels):
            nodes = self.tables.nodes_of_items[level, targets]
            is_valid = self.tables.codes_after(level, nodes)
            logits = self._logits(x[:, level], level)
            total = (
                total
                + next_code_loss(
                    logits, codes[:, level], is_valid, self.prefix_normalized, label_smoothing
                ).mean()
            )
        return total

    def read(self, items: Tensor, users: Tensor) -> Memory:
        """Encode histories; see ``Retriever.read``."""
        encoded, mask = self._encode(items, users)
        return Memory([block.memory_keys_values(encoded) for block in self._decoder_blocks], mask)

    def _encode(self, items: Tensor, users: Tensor) -> tuple[Tensor, Tensor]:
        """Histories as (B, S, d), and which of it may be looked at (B, 1, 1, S)."""
        is_real = items >= 0
        rows = items.clamp_min(0)
        vectors = self.code_embedding(self.tables.codes[rows])
        vectors = vectors + self.position.weight[: items.shape[1]].unsqueeze(1)
        x = vectors.flatten(1, 2)  # (B, T * M, d)
        is_real = is_real.repeat_interleave(self.tables.num_levels, dim=1)
        if self.user is not None:
            x = torch.cat([self.user(users).unsqueeze(1), x], dim=1)
            is_real = torch.cat([(users >= 0).unsqueeze(1), is_real], dim=1)
        mask = padding_mask(is_real)
        x = self.dropout(x)
        for block in self.encoder:
            x = block(x, mask)
        return self.encoder_norm(x), mask

    def begin(self, memory: Memory) -> BeamState:
        """See ``BeamRetriever.begin``."""
        batch_size = memory.mask.shape[0]
        return BeamState(self.begin_vector.expand(batch_size, 1, -1), [])

    def step(
        self, memory: Memory, state: BeamState, level: int, children: Children
    ) -> tuple[Tensor, BeamState]:
        """See ``BeamRetriever.step``."""
        batch_size, width, _ = state.token.shape
        x = state.token + self.decoder_position[level]
        cache: list[KeysValues] = []
        for index, block in enumerate(self._decoder_blocks):
            normed = block.self_norm(x).flatten(0, 1).unsqueeze(1)  # (B * W, 1, d)
            keys, values = (
                part.unflatten(0, (batch_size, width))
                for part in block.self_attention.keys_values(normed)
            )
            if state.cache:
                old_keys, old_values = state.cache[index]
                keys = torch.cat([old_keys, keys], dim=3)
                values = torch.cat([old_values, values], dim=3)
            cache.append((keys, values))
            attended = block.self_attention(normed, (keys.flatten(0, 1), values.flatten(0, 1)))
            x = x + attended.view_as(x)
            # Beams are the queries of one attention call: the history's keys are never copied.
            x = block.attend_memory(x, memory.keys_values[index], memory.mask)
            x = block.feed(x)
        logits = self._logits(self.decoder_norm(x), level)
        return self.child_log_probs(logits, level, children), BeamState(state.token, cache)

    def advance(
        self, state: BeamState, level: int, parents: Tensor, codes: Tensor, nodes: Tensor
    ) -> BeamState:
        """See ``BeamRetriever.advance``."""
        cache = [(gather_beams(k, parents), gather_beams(v, parents)) for k, v in state.cache]
        return BeamState(self.code_embedding(codes, level), cache)

    @property
    def _decoder_blocks(self) -> list[Block]:
        return cast(list[Block], list(self.decoder))

    def _logits(self, x: Tensor, level: int) -> Tensor:
        return x @ self.code_embedding.output_weights(level).T + self.output_bias[level]
