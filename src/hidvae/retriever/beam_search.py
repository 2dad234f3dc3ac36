"""Constrained beam search: only prefixes that exist, exact over the trie, deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hidvae.retriever.interface import Retriever
from hidvae.retriever.losses import code_log_probs


class Generated(NamedTuple):
    """Items found by a search, best first."""

    items: Tensor
    """(B, R) item_index, -1 where fewer than R were found."""
    log_probs: Tensor
    """(B, R) log p(ID | history), minus infinity where there is no item."""
    code_log_probs: Tensor
    """(B, R, M) log-probability of each code given the ones before it."""


@torch.no_grad()
def beam_search(
    retriever: Retriever,
    items: Tensor,
    users: Tensor,
    beam_width: int,
    num_results: int | None = None,
    reachable: Sequence[Tensor] | None = None,
) -> Generated:
    """Generate the most probable items after each history.

    Every step keeps the ``beam_width`` best prefixes; the last step keeps ``num_results`` items, so
    that a caller can drop some (those of the history) and still have enough. With a beam at least
    as wide as every depth of the trie, the result is the exact ranking.

    Args:
        retriever: In evaluation mode.
        items: (B, T) histories, -1 padded on the right, at least one item each.
        users: (B,).
        beam_width: W.
        num_results: R; W if None.
        reachable: From ``Trie.reachable``: per depth, which nodes may be entered. Probabilities
            stay those of the whole catalogue.
    """
    tables = retriever.tables
    batch_size, last_level = len(items), tables.num_levels - 1
    num_results = beam_width if num_results is None else num_results
    memory = retriever.read(items, users)
    state = retriever.begin(memory)
    nodes = items.new_zeros(batch_size, 1)  # the root
    scores = torch.zeros(batch_size, 1, device=items.device)
    history = torch.zeros(batch_size, 1, 0, device=items.device)  # log-probs of chosen codes
    for level in range(tables.num_levels):
        logits, state = retriever.step(memory, state, level)  # (B, W, K)
        children = tables.children_of(level, nodes.flatten()).view(*nodes.shape, -1)
        exists = children >= 0
        step_scores = code_log_probs(logits.float(), exists, retriever.prefix_normalized)
        if reachable is not None:
            allowed = exists & reachable[level + 1][children.clamp_min(0)]
            step_scores = step_scores.masked_fill(~allowed, -torch.inf)
        totals = (scores.unsqueeze(2) + step_scores).flatten(1)  # (B, W * K)
        width = beam_width if level < last_level else num_results
        scores, chosen = totals.topk(min(width, totals.shape[1]), dim=1)
        size = children.shape[2]
        parents, codes = chosen // size, chosen % size
        # A dead beam (score -inf) stands on the root of nowhere: node 0, never to score again.
        nodes = children.flatten(1).gather(1, chosen).clamp_min(0)
        newest = step_scores.flatten(1).gather(1, chosen).unsqueeze(2)
        history = torch.cat(
            [history.gather(1, parents.unsqueeze(2).expand(-1, -1, level)), newest], dim=2
        )
        if level < last_level:
            tags = tables.tags_of_nodes(level + 1, nodes)
            state = retriever.advance(state, level, parents, codes, tags)
    found = tables.item_at_leaf[nodes].masked_fill(scores == -torch.inf, -1)
    missing = num_results - scores.shape[1]  # the beams had too few codes to choose from
    return Generated(
        F.pad(found, (0, missing), value=-1),
        F.pad(scores, (0, missing), value=-torch.inf),
        F.pad(history, (0, 0, 0, missing), value=-torch.inf),
    )


@torch.no_grad()
def exhaustive_scores(retriever: Retriever, items: Tensor, users: Tensor) -> Tensor:
    """Log-probability (B, N) of every item: what an endlessly wide beam would rank by."""
    tables = retriever.tables
    generated = beam_search(retriever, items, users, tables.num_items, tables.num_items)
    scores = generated.log_probs.new_full((len(items), tables.num_items), -torch.inf)
    found = generated.items >= 0
    rows = torch.arange(len(items), device=items.device).unsqueeze(1).expand_as(found)
    scores[rows[found], generated.items[found]] = generated.log_probs[found]
    return scores
