"""``item_softmax``: a causal transformer over items, and one softmax over all their IDs.

An ID's logit is the inner product of the state with the item's vector, which is the sum of its
codes' vectors, a projection of its content and a vector of its own, the same as at the input. So
items that share codes share what is learned of them, and one that training never saw is found by
its codes and content. The next code of a prefix then has the exact probability

    p(c | prefix, history) = sum of exp(logit) over the IDs that begin with prefix and c
                           / sum of exp(logit) over those that begin with prefix,

which is what a beam search steps through. Against one softmax per code (``item_decoder``), every
item competes with every other; that ranks better (docs/experiments.md), and costs N d per user.

Symbols: B users, T positions, W beams, N items, M codes per ID, K codes per level, d width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hidvae.retriever.catalogue_tables import Children
from hidvae.retriever.full_cross_entropy import full_cross_entropy
from hidvae.retriever.interface import HistoryBatch
from hidvae.retriever.item_transformer import ItemTransformer
from hidvae.retriever.negatives import NegativeSampler


class ItemSoftmax(ItemTransformer):
    """Causal transformer over items whose states are compared with every item's vector.

    The memory of a history is, per depth from 0 to M, the log of the sum of exp(logit) over the IDs
    below each node: (B, nodes). The state of the beams is the node (B, W) that each stands on.
    Items that training never saw are ranked by their logits like all others.
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
        """See ``Retriever.loss``; items that training never saw are no alternatives."""
        if self.negatives is not None:
            return self._loss_among_drawn(self.negatives, batch, label_smoothing)
        has_target = batch.targets >= 0
        targets = batch.targets[has_target]  # (n,)
        vectors = self._item_table()
        states = self.states(batch.items, batch.users, vectors)[has_target]  # (n, d)
        known = self.tables.known_items()
        if known is not None:
            targets = (known.cumsum(0) - 1)[targets]
            vectors = vectors[known]
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

    def read(self, items: Tensor, users: Tensor) -> list[Tensor]:
        """See ``Retriever.read``."""
        tables, vectors = self.tables, self._item_table()
        states = self.output_norm(self.last_states(items, users, vectors))  # (B, d)
        # Logits (N, B) with the leaves in order; what is smaller is reordered, logits or vectors.
        # An exported program is for any B, and cannot ask.
        if torch.compiler.is_exporting() or len(states) < vectors.shape[1]:
            of_depth = [(vectors @ states.T).index_select(0, tables.item_at_leaf)]
        else:
            of_depth = [vectors[tables.item_at_leaf] @ states.T]
        for depth in range(tables.num_levels - 1, 0, -1):
            start, parent = tables.child_starts(depth), tables.parents_of_nodes(depth + 1)
            of_depth.insert(0, _sums_below(of_depth[0], start, parent))
        root = of_depth[0].logsumexp(dim=0, keepdim=True)
        return [sums.T for sums in (root, *of_depth)]

    def begin(self, memory: list[Tensor]) -> Tensor:
        """See ``Retriever.begin``."""
        root = memory[0]
        return torch.zeros_like(root, dtype=torch.long)

    def step(
        self, memory: list[Tensor], state: Tensor, level: int, children: Children
    ) -> tuple[Tensor, Tensor]:
        """See ``Retriever.step``."""
        below = memory[level + 1].gather(1, children.node.flatten(1)).view_as(children.node)
        log_probs = below - memory[level].gather(1, state).unsqueeze(2)
        return log_probs.masked_fill(~children.is_real, -torch.inf), state

    def advance(
        self, state: Tensor, level: int, parents: Tensor, codes: Tensor, nodes: Tensor
    ) -> Tensor:
        """See ``Retriever.advance``."""
        return nodes

    def _item_table(self) -> Tensor:
        """Vectors (N, d) of all items."""
        if self._vectors is None or self.training or torch.is_grad_enabled():
            vectors = self.item_vectors()
            if self.training or torch.is_grad_enabled():
                return vectors
            self._vectors = vectors.detach()  # may be the own vectors, which are no buffer
        return self._vectors


def _sums_below(logits: Tensor, start: Tensor, parent: Tensor) -> Tensor:
    """Log of the sum of exp over the children of each node.

    Args:
        logits: (n, B) of the children, side by side for each node.
        start: (P + 1,), where each node's children start.
        parent: (n,), the node of each.

    Returns: (P, B).
    """
    largest = torch.segment_reduce(logits, "max", offsets=start)
    shares = (logits - largest.index_select(0, parent)).exp_()
    return largest + torch.segment_reduce(shares, "sum", offsets=start).log()
