"""``item_decoder``: a causal transformer over items, and a small decoder over codes.

The beam runs only through the code decoder, whose cost does not depend on the catalogue's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hidvae.retriever.catalogue_tables import Children
from hidvae.retriever.code_loss import next_code_loss
from hidvae.retriever.interface import BeamRetriever, HistoryBatch, gather_beams
from hidvae.retriever.item_transformer import ItemTransformer
from hidvae.training.dropout import Dropout


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
            states: (..., d) of the backbone; of length 1 where all prefixes of a user share it.
            prefix: (..., d), sum of the embeddings of the codes before ``level``.
            level: Which code comes next.
            code_vectors: (K_level, d), the input embeddings of the level's codes, shared.
        """
        mixer = cast(nn.Sequential, self.mixers[level])
        first = cast(nn.Linear, mixer[0])  # reads state and prefix side by side
        of_state, of_prefix = first.weight.chunk(2, dim=1)
        read = F.linear(self.state_norm(states), of_state, first.bias) + F.linear(prefix, of_prefix)
        mixed = mixer[1:](read)
        output = self.output_norm(states + self.dropout(mixed))
        return output @ code_vectors.T + self.output_bias[level]


class BeamState(NamedTuple):
    """What a beam carries: the sum (B, W, d) of its codes' embeddings."""

    prefix: Tensor


class ItemDecoder(ItemTransformer, BeamRetriever):
    """Causal transformer over items with a code decoder at every position."""

    def __init__(self, *args: Any, dropout: float, **settings: Any) -> None:
        """As ``ItemTransformer``."""
        super().__init__(*args, dropout=dropout, **settings)
        self.code_decoder = CodeDecoder(self.tables.level_sizes, self.code_embedding.dim, dropout)
        self.reset_weights()

    def loss(self, batch: HistoryBatch, label_smoothing: float = 0.0) -> Tensor:
        """See ``Retriever.loss``."""
        has_target = batch.targets >= 0
        states = self.states(batch.items, batch.users)[has_target]  # (n, d)
        targets = batch.targets[has_target]  # (n,)
        codes = self.tables.codes[targets]
        code_vectors = self.code_embedding(codes)  # (n, M, d)
        prefix = torch.zeros_like(states)
        total = states.new_zeros(())
        for level in range(self.tables.num_levels):
            nodes = self.tables.nodes_of_items[level, targets]
            # Where the prefix leaves one code, its probability is 1 and there is nothing to learn;
            # deep in the trie that is most positions.
            open_rows = (self.tables.num_warm_children(level, nodes) > 1).nonzero().squeeze(1)
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
        return self.last_states(items, users)

    def begin(self, memory: Tensor) -> BeamState:
        """See ``BeamRetriever.begin``."""
        return BeamState(torch.zeros_like(memory).unsqueeze(1))

    def step(
        self, memory: Tensor, state: BeamState, level: int, children: Children
    ) -> tuple[Tensor, BeamState]:
        """See ``BeamRetriever.step``."""
        logits = self._logits(memory.unsqueeze(1), state.prefix, level)
        return self.child_log_probs(logits, level, children), state

    def advance(
        self, state: BeamState, level: int, parents: Tensor, codes: Tensor, nodes: Tensor
    ) -> BeamState:
        """See ``BeamRetriever.advance``."""
        vectors = self.code_embedding(codes, level)
        return BeamState(gather_beams(state.prefix, parents) + vectors)

    def _logits(self, states: Tensor, prefix: Tensor, level: int) -> Tensor:
        weights = self.code_embedding.output_weights(level)
        logits: Tensor = self.code_decoder(states, prefix, level, weights)
        return logits
