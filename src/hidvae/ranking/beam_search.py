"""Constrained beam search: only prefixes that exist, exact over the trie, deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hidvae.ranking.graph_score import Bonus
from hidvae.retriever.interface import Retriever


class Generated(NamedTuple):
    """Items found by a search, best first."""

    items: Tensor
    """(B, R) item_index, -1 where fewer than R were found."""
    scores: Tensor
    """(B, R) what they are ranked by: the log-probability, plus the bonus if there is one."""
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
    bonus: Bonus | None = None,
) -> Generated:
    """Generate the most probable items after each history.

    Every step keeps the ``beam_width`` best prefixes; the last step keeps ``num_results`` items, so
    that a caller can drop some (those of the history) and still have enough. With a beam at least
    as wide as every depth of the trie, the result is the exact ranking.

    A step looks at the children that the beams' prefixes really have, in a table as wide as the
    most that one of them has: deep in the trie that is hardly more than one per beam.

    Args:
        retriever: In evaluation mode.
        items: (B, T) histories, -1 padded on the right, at least one item each.
        users: (B,).
        beam_width: W.
        num_results: R; W if None.
        reachable: From ``Trie.reachable``: per depth, which nodes may be entered. Probabilities
            stay those of the whole catalogue.
        bonus: Added to the log-probabilities. A prefix is kept by what it can still gain, so that
            the search does not lose an item whose bonus comes late.
    """
    tables = retriever.tables
    batch_size, last_level = len(items), tables.num_levels - 1
    num_results = beam_width if num_results is None else num_results
    memory = retriever.read(items, users)
    state = retriever.begin(memory)
    nodes = items.new_zeros(batch_size, 1)  # the root
    sums = torch.zeros(batch_size, 1, device=items.device)  # log-probs of the prefixes
    history = torch.zeros(batch_size, 1, 0, device=items.device)  # log-probs of chosen codes
    for level in range(tables.num_levels):
        children = tables.children_at(level, nodes)  # tables (B, W, C)
        most = children.node.shape[2]
        log_probs, state = retriever.step(memory, state, level, children)
        totals = (sums.unsqueeze(2) + log_probs).flatten(1)  # (B, W * C)
        child = children.node.flatten(1)
        ranked_by = totals
        if bonus is not None:
            ranked_by = totals + bonus.of_nodes(tables, level + 1, child)
        if reachable is not None:
            ranked_by = ranked_by.masked_fill(~reachable[level + 1][child], -torch.inf)
        # A dead beam (sum -inf) stands on some node of no meaning and never scores again.
        width = min(beam_width if level < last_level else num_results, child.shape[1])
        scores, chosen = ranked_by.topk(width, dim=1)
        sums = totals.gather(1, chosen).masked_fill(scores == -torch.inf, -torch.inf)
        parents, nodes = chosen // most, child.gather(1, chosen)
        earlier = history.gather(1, parents.unsqueeze(2).expand(-1, -1, level))
        newest = log_probs.flatten(1).gather(1, chosen)
        history = torch.cat([earlier, newest.unsqueeze(2)], dim=2)
        if level < last_level:
            codes = children.code.flatten(1).gather(1, chosen)
            state = retriever.advance(state, level, parents, codes, nodes)
    found = tables.item_at_leaf[nodes].masked_fill(scores == -torch.inf, -1)
    missing = num_results - scores.shape[1]  # the beams had too few children to choose from
    return Generated(
        F.pad(found, (0, missing), value=-1),
        F.pad(scores, (0, missing), value=-torch.inf),
        F.pad(sums, (0, missing), value=-torch.inf),
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
