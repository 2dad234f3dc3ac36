"""``item_softmax``: a causal transformer over items, and one softmax over all their IDs.

An ID's logit is the inner product of the state with the item's vector, which is the sum of its
codes' vectors, a projection of its content and a vector of its own, the same as at the input. So
items that share codes share what is learned of them, and a cold one is found by
its codes and content. The next code of a prefix then has the exact probability

    p(c | prefix, history) = sum of exp(logit) over the IDs that begin with prefix and c
                           / sum of exp(logit) over those that begin with prefix.

All logits are there, so the best items are found exactly, without a beam search. Against one
softmax per code (``item_decoder``), every item competes with every other; that ranks better
(docs/experiments.md), and costs N d per user.

Symbols: B users, T positions, N items, M codes per ID, K codes per level, d width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hidvae.retriever.full_cross_entropy import full_cross_entropy
from hidvae.retriever.interface import ExactRetriever, HistoryBatch
from hidvae.retriever.item_transformer import ItemTransformer
from hidvae.retriever.negatives import NegativeSampler


class ItemSoftmax(ItemTransformer, ExactRetriever):
    """Causal transformer over items whose states are compared with every item's vector.

    Cold items are ranked by their logits like all others.
    """

    _vectors: Tensor | None

    def __init__(
        self, *args: Any, negatives: NegativeSampler | None = None, **settings: Any
    ) -> None:
        """As ``ItemTransformer``; always normalised over the prefixes that exist.

        With ``negatives`` the loss sets a target against what they draw, and not against all items.
        """
        super().__init__(*args, **settings)
        self.negatives = negatives
        self.output_norm = nn.LayerNorm(self.code_embedding.dim, bias=False)
        self.reset_weights()
        # Of all items, made once while the weights stand still; a buffer, so that it moves along.
        self.register_buffer("_vectors", None, persistent=False)

    def train(self, mode: bool = True) -> ItemSoftmax:
        """See ``nn.Module.train``; whoever changes weights in evaluation mode must switch it."""
        if mode or self.training:
            self._vectors = None
        super().train(mode)
        return self

    def catalogue_changed(self) -> None:
        """See ``Retriever.catalogue_changed``."""
        self._vectors = None

    def load_state_dict(self, *args: Any, **settings: Any) -> Any:
        """See ``nn.Module.load_state_dict``."""
        self._vectors = None
        return super().load_state_dict(*args, **settings)

    def keep_vectors_only(self) -> None:
        """Drop what the items' vectors are made of, for a model that only ranks from now on."""
        self.eval()
        with torch.no_grad():
            self._item_table()
        self.content, self.content_projection, self.own_vectors = None, None, None
        del self.code_embedding

    def loss(self, batch: HistoryBatch, label_smoothing: float = 0.0) -> Tensor:
        """See ``Retriever.loss``; cold items are no alternatives."""
        if self.negatives is not None:
            return self._loss_among_drawn(self.negatives, batch, label_smoothing)
        has_target = batch.targets >= 0
        targets = batch.targets[has_target]  # (n,)
        vectors = self._item_table()
        states = self.states(batch.items, batch.users, vectors)[has_target]  # (n, d)
        warm = self.tables.warm_items()
        if warm is not None:
            targets = (warm.cumsum(0) - 1)[targets]
            vectors = vectors[warm]
        return full_cross_entropy(self.output_norm(states), vectors, targets, label_smoothing)

    def _loss_among_drawn(
        self, negatives: NegativeSampler, batch: HistoryBatch, label_smoothing: float
    ) -> Tensor:
        """The loss among a few items that stand for all; only what the step needs gets a vector."""
        has_target = batch.targets >= 0
        targets = batch.targets[has_target]  # (n,)
        drawn, log_prob_drawn = negatives.draw(targets)  # (C,) each
        history = batch.items.clamp_min(0).flatten()
        needed, place = torch.cat([history, drawn]).unique(return_inverse=True)
        vectors = self.item_vectors(needed)
        place_of_history, place_of_drawn = place.split([len(history), len(drawn)])
        items = place_of_history.view_as(batch.items)
        states = self.states(items, batch.users, vectors)[has_target]  # (n, d)
        return full_cross_entropy(
            self.output_norm(states),
            vectors[place_of_drawn],
            torch.searchsorted(drawn, targets),
            label_smoothing,
            bias=-log_prob_drawn,
        )

    def read(self, items: Tensor, users: Tensor) -> Tensor:
        """See ``Retriever.read``; the memory is ``item_log_probs``."""
        vectors = self._item_table()
        states = self.output_norm(self.last_states(items, users, vectors))  # (B, d)
        return (states @ vectors.T).float().log_softmax(dim=1)

    def item_log_probs(self, memory: Tensor) -> Tensor:
        """See ``ExactRetriever.item_log_probs``."""
        return memory

    def code_log_probs(self, memory: Tensor, items: Tensor) -> Tensor:
        """See ``Retriever.code_log_probs``; sums over what lies below the items' prefixes alone."""
        levels = self.tables.num_levels
        of_prefixes = [torch.zeros_like(items, dtype=memory.dtype)]
        of_prefixes += [self._sums_below(memory, depth, items) for depth in range(1, levels)]
        of_prefixes.append(memory.gather(1, items))
        return torch.stack(of_prefixes, dim=2).diff(dim=2)

    def _sums_below(self, memory: Tensor, depth: int, items: Tensor) -> Tensor:
        """Log p(prefix) (B, R) of the first ``depth`` codes of items (B, R)."""
        tables = self.tables
        first_leaf, num_nodes = tables.first_leaves(depth), tables.num_nodes(depth)
        row = torch.arange(len(items), device=items.device).unsqueeze(1) * num_nodes
        prefixes, place = (row + tables.nodes_of_items[depth, items]).unique(return_inverse=True)
        node = prefixes % num_nodes
        first, count = first_leaf[node], first_leaf[node + 1] - first_leaf[node]
        end = count.cumsum(0)
        leaf = torch.arange(int(end[-1]), device=items.device) + (
            first - end + count
        ).repeat_interleave(count)
        user = (prefixes // num_nodes).repeat_interleave(count)
        below = memory[user, tables.item_at_leaf[leaf]]
        largest = torch.segment_reduce(below, "max", lengths=count)
        shares = (below - largest.repeat_interleave(count)).exp()
        sums = largest + torch.segment_reduce(shares, "sum", lengths=count).log()
        return sums[place]

    def _item_table(self) -> Tensor:
        """Vectors (N, d) of all items."""
        if self._vectors is None or self.training or torch.is_grad_enabled():
            vectors = self.item_vectors()
            if self.training or torch.is_grad_enabled():
                return vectors
            self._vectors = vectors.detach()  # may be the own vectors, which are no buffer
        return self._vectors
