"""The one search: from histories to ranked items, for every caller.

An ``ExactRetriever`` has the log-probability of every item; its best items are found exactly. The
others are searched by beams over the trie. Either way an item is ranked by log p(ID | history) plus
what the item graph adds, items that may not be listed are left out inside the search, and equal
scores are listed by item_index, the lower one first.

``search`` reads histories and gives arrays. ``best_items`` is its core on tensors, which an
exported program traces.

Symbols: B users, T positions, N items, M codes per ID, W beams, C children, R results.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from hidvae.data.interactions import Sequences
from hidvae.errors import ConfigError, DataError, SearchTimeout
from hidvae.ranking.filters import TagLimit, within_limit
from hidvae.ranking.graph_score import Added, GraphScore, contained
from hidvae.ranking.reranker import NUM_CANDIDATES, Reranker
from hidvae.retriever.batches import reading_batches
from hidvae.retriever.interface import BeamRetriever, ExactRetriever, Retriever

PADDING = -1
BEAM_WIDTH = 50
"""Of a search, unless its caller says otherwise."""
_SCORES_AT_ONCE = 1 << 26
"""Users of a batch times items, at most (256 MiB of scores)."""

BoolArray = npt.NDArray[np.bool_]


class Found(NamedTuple):
    """Ranked items of U users, best first."""

    items: npt.NDArray[np.int64]
    """(U, R) item_index, -1 where a list is shorter."""
    scores: npt.NDArray[np.float32]
    """(U, R) what they are ranked by, minus infinity where a list is shorter."""
    log_probs: npt.NDArray[np.float32]
    """(U, R) log p(ID | history), minus infinity where a list is shorter."""
    gains: npt.NDArray[np.float32]
    """(U, R) what the item graph adds to that, 0 where a list is shorter."""
    code_log_probs: npt.NDArray[np.float32] | None
    """(U, R, M) of each code given the codes before it, if asked for; 0 where there is no item."""


@torch.no_grad()
def search(
    retriever: Retriever,
    histories: Sequences,
    k: int,
    *,
    max_history: int,
    allowed: BoolArray | None = None,
    denied: Sequences | None = None,
    besides: Sequences | None = None,
    limit: TagLimit | None = None,
    graph: GraphScore | None = None,
    reranker: Reranker | None = None,
    beam_width: int = BEAM_WIDTH,
    batch_size: int = 256,
    users: npt.NDArray[np.integer] | None = None,
    deadline: float | None = None,
    with_code_log_probs: bool = False,
) -> Found:
    """The k best items of each of U histories.

    Args:
        retriever: Ranks; nothing is dropped out here, whatever mode it is in.
        histories: U of them, of at least one item each, oldest first.
        k: Length of the lists, at least 1; shorter only where the items run out.
        max_history: Most items of a history that the retriever reads.
        allowed: (N,), the items that may be listed; None means all. Probabilities stay those of the
            whole catalogue; the graph score is set against allowed items alone.
        denied: U times items that are not listed.
        besides: In place of ``denied``, U times items that are listed on top of the k others: a
            list goes on until it has k items besides these.
        limit: Most items of one tag in a list.
        graph: Adds to the log-probabilities.
        reranker: Puts the best items in order; of an ``ExactRetriever``.
        beam_width: W, at least k; for a ``BeamRetriever``, and doubled for users whose lists are
            short of k items, which k + denied items (or as many besides) always end.
        batch_size: Users that are ranked at once; fewer in a large catalogue.
        users: (U,) the users' rows in the dataset; None where nobody knows them.
        deadline: Of ``time.monotonic()``; the work ends soon after it.
        with_code_log_probs: Whether the codes' probabilities are wanted, too.

    Returns: Lists of R = k items; with ``besides`` of k more than the longest of these.

    Raises:
        DataError: If a history is empty.
        ConfigError: If k is below 1.
        SearchTimeout: If the deadline has passed.
    """
    if k < 1:
        raise ConfigError(f"k: expected at least 1; found {k}")
    if histories.num_users and histories.lengths.min() == 0:
        raise DataError(
            f"history {int(histories.lengths.argmin())} is empty; the retriever needs at least one "
            "item of the catalogue to start from"
        )
    tables = retriever.tables
    device, num_items = tables.codes.device, tables.num_items
    apart = denied if denied is not None else besides
    most_apart = 0 if apart is None else int(apart.lengths.max(initial=0))
    shape = (histories.num_users, k + (most_apart if besides is not None else 0))
    found = Found(
        np.full(shape, PADDING),
        np.full(shape, -np.inf, np.float32),
        np.full(shape, -np.inf, np.float32),
        np.zeros(shape, np.float32),
        np.zeros((*shape, tables.num_levels), np.float32) if with_code_log_probs else None,
    )
    check = partial(_check_deadline, deadline)
    may_list = None if allowed is None else torch.from_numpy(allowed).to(device)[None]
    batch_size = min(batch_size, max(1, _SCORES_AT_ONCE // num_items))
    with _evaluation_mode(retriever):
        for rows, window, user in reading_batches(histories, max_history, batch_size, users):
            check()
            own = None if apart is None else _padded(apart.take(rows), device)
            history = None
            if graph is not None or reranker is not None:
                history = _padded(histories.take(rows), device)
            is_apart = None if own is None else contained(own, num_items)
            asked = Asked(
                retriever.read(window.to(device), user.to(device)),
                None if graph is None else graph(history, may_list),
                may_list,
                is_apart if denied is not None else None,
                is_apart if denied is None else None,
                history,
            )
            of_batch = partial(
                best_items,
                retriever,
                k=k,
                reranker=reranker,
                most_apart=0 if own is None else own.shape[1],
                beam_width=beam_width,
                check=check,
            )
            lists = of_batch(asked) if limit is None else _limited(of_batch, asked, limit, check)
            width = lists.items.shape[1]
            found.items[rows, :width] = lists.items.cpu().numpy()
            found.scores[rows, :width] = lists.scores.cpu().numpy()
            found.log_probs[rows, :width] = lists.log_probs.cpu().numpy()
            found.gains[rows, :width] = lists.gains.cpu().numpy()
            if found.code_log_probs is not None:
                is_item = lists.items >= 0
                codes = retriever.code_log_probs(asked.memory, lists.items.clamp_min(0))
                codes = codes.masked_fill(~is_item.unsqueeze(2), 0.0)
                found.code_log_probs[rows, :width] = codes.cpu().numpy()
    return found


class Asked(NamedTuple):
    """What is asked for B users; where the first size is 1, it is the same for all of them."""

    memory: Any
    """From ``Retriever.read``."""
    added: Added | None = None
    """From the item graph."""
    allowed: Tensor | None = None
    """(1, N) or (B, N), the items that may be listed; beams do not enter prefixes of others."""
    denied: Tensor | None = None
    """(B, N), items that are not listed, though their prefixes may be entered."""
    besides: Tensor | None = None
    """(B, N), items that are listed without counting to the k."""
    history: Tensor | None = None
    """(B, T) item_index, oldest first, -1 on the right; for the reranker."""


class Lists(NamedTuple):
    """Ranked items of B users; see ``Found``."""

    items: Tensor
    scores: Tensor
    log_probs: Tensor
    gains: Tensor


def best_items(
    retriever: Retriever,
    asked: Asked,
    k: int,
    *,
    reranker: Reranker | None = None,
    most_apart: int = 0,
    beam_width: int = BEAM_WIDTH,
    check: Callable[[], None] = lambda: None,
) -> Lists:
    """The k best items of B users, or k besides those that do not count.

    Args:
        retriever: In evaluation mode.
        asked: By whom.
        k: At least 1.
        reranker: See ``search``.
        most_apart: Most items that are denied to one user, or listed besides.
        beam_width: W; beams are doubled for users whose lists are short.
        check: Called between the steps; raises where the search is to end.
    """
    width = k + (0 if asked.besides is None else most_apart)
    if isinstance(retriever, ExactRetriever):
        return _exact(retriever, asked, width, reranker, most_apart)
    assert isinstance(retriever, BeamRetriever)
    beams = max(beam_width, k)
    find = partial(_by_beams, retriever, width=width, check=check)
    found = find(asked, beams=beams)
    num_items = retriever.tables.num_items
    # W beams always find W items that may be listed (or all of them).
    enough = found.items.new_full((found.items.shape[0],), k)
    apart = asked.besides if asked.denied is None else asked.denied
    if apart is not None:
        enough = enough + apart.sum(dim=1)
    if asked.allowed is not None:
        enough = torch.minimum(enough, asked.allowed.sum(dim=1))
    while beams < min(k + most_apart, num_items):
        counts = found.items >= 0
        if asked.besides is not None:
            counts = counts & ~asked.besides.gather(1, found.items.clamp_min(0))
        is_short = (counts.sum(dim=1) < k) & (enough > beams)
        beams *= 2
        found = _replaced(partial(find, beams=beams), is_short, asked, found)
    return found


def _exact(
    retriever: ExactRetriever,
    asked: Asked,
    width: int,
    reranker: Reranker | None,
    most_apart: int,
) -> Lists:
    """The best of all items."""
    log_probs = retriever.item_log_probs(asked.memory)
    scores = log_probs
    if asked.added is not None:
        scores = scores.scatter_add(1, *asked.added)
    own_scores = scores
    for mask, is_out in ((asked.allowed, False), (asked.denied, True)):
        if mask is not None:
            scores = scores.masked_fill(mask if is_out else ~mask, -torch.inf)
    if reranker is None:
        best, items = top(scores, width)
    else:
        assert asked.history is not None
        # As many candidates, whether items of the history are listed or not.
        longest = most_apart if torch.compiler.is_exporting() else asked.history.shape[1]
        best, items = top(scores, max(width, NUM_CANDIDATES + longest))
        is_item = best > -torch.inf
        order = reranker.reordered(
            asked.history, items.where(is_item, PADDING), log_probs.gather(1, items)
        )
        # The scores stay where they are: the item that is now first has the best one.
        items, best = items.gather(1, order[:, :width]), best[:, :width]
    of_items = log_probs.gather(1, items)
    return _lists(items, best, of_items, own_scores.gather(1, items) - of_items, width)


def _by_beams(
    retriever: BeamRetriever, asked: Asked, *, width: int, beams: int, check: Callable[[], None]
) -> Lists:
    """Constrained beam search: only prefixes that exist.

    Every step keeps the best prefixes, judged by what the graph may still add below them, so that
    an item is not lost whose gain comes late; the last step keeps ``width`` items. A step looks at
    the children that the beams' prefixes really have, in a table as wide as the most that one of
    them has: deep in the trie that is hardly more than one per beam. With as many beams as the
    widest depth of the trie has nodes, the ranking is exact.
    """
    tables, last_level = retriever.tables, retriever.tables.num_levels - 1
    state = retriever.begin(asked.memory)
    batch_size = pytree.tree_leaves(asked.memory)[0].shape[0]
    nodes = torch.zeros(batch_size, 1, dtype=torch.long, device=tables.codes.device)  # the root
    sums = torch.zeros(batch_size, 1, device=nodes.device)  # log-probs of the prefixes
    reachable = None if asked.allowed is None else tables.reachable(asked.allowed)
    for level in range(tables.num_levels):
        check()
        children = tables.children_at(level, nodes)  # tables (B, W, C)
        most = children.node.shape[2]
        log_probs, state = retriever.step(asked.memory, state, level, children)
        totals = (sums.unsqueeze(2) + log_probs).flatten(1)  # (B, W * C)
        child = children.node.flatten(1)
        ranked_by = totals
        if asked.added is not None:
            ranked_by = totals + _largest_below(retriever, level + 1, asked.added).gather(1, child)
        if reachable is not None:
            is_dead = ~reachable[level + 1].expand(batch_size, -1).gather(1, child)
            ranked_by = ranked_by.masked_fill(is_dead, -torch.inf)
        # A dead beam (sum -inf) stands on some node of no meaning and never scores again.
        if level < last_level:
            scores, chosen = ranked_by.topk(min(beams, child.shape[1]), dim=1)
        else:
            item = tables.item_at_leaf[child].long()
            if asked.denied is not None:
                ranked_by = ranked_by.masked_fill(asked.denied.gather(1, item), -torch.inf)
            scores, chosen = top(ranked_by, width, item)
        sums = totals.gather(1, chosen).masked_fill(scores == -torch.inf, -torch.inf)
        parents, nodes = chosen // most, child.gather(1, chosen)
        if level < last_level:
            codes = children.code.flatten(1).gather(1, chosen)
            state = retriever.advance(state, level, parents, codes, nodes)
    return _lists(item.gather(1, chosen), scores, sums, scores - sums, width)


def _largest_below(retriever: Retriever, depth: int, added: Added) -> Tensor:
    """The largest gain (B, nodes) below each node, which is what a prefix can still gain."""
    node = retriever.tables.nodes_of_items[depth].long()[added.items]
    table = added.values.new_zeros(node.shape[0], retriever.tables.num_nodes(depth))
    return table.scatter_reduce(1, node, added.values, "amax")


def _lists(items: Tensor, scores: Tensor, log_probs: Tensor, gains: Tensor, width: int) -> Lists:
    """Lists of a width, without what scored minus infinity."""
    is_item = scores > -torch.inf
    missing = width - items.shape[1]
    return Lists(
        F.pad(items.where(is_item, PADDING), (0, missing), value=PADDING),
        F.pad(scores, (0, missing), value=-torch.inf),
        F.pad(log_probs.where(is_item, -torch.inf), (0, missing), value=-torch.inf),
        F.pad(gains.where(is_item, 0.0), (0, missing)),
    )


def _limited(
    find: Callable[[Asked], Lists], asked: Asked, limit: TagLimit, check: Callable[[], None]
) -> Lists:
    """Lists in which no tag has more items than it may.

    Where a list has too much of a tag, the tag is full: all its items but the first few are left
    out, and the list is found again, until nothing is too much. Each time a tag more of the k items
    is full, so that k bounds the work, however large the catalogue is.
    """
    found = find(asked)
    tags = torch.from_numpy(np.append(limit.tags, -1)).to(found.items.device)  # (N + 1,)
    while True:
        keeps = torch.from_numpy(within_limit(tags[found.items].cpu().numpy(), limit.most)).to(
            tags.device
        )
        is_over = (~keeps).any(dim=1)
        if not is_over.any():
            return found
        check()
        num_users, num_items = len(is_over), len(tags) - 1
        full = torch.zeros(num_users, int(limit.tags.max()) + 2, dtype=torch.bool).to(tags.device)
        full.scatter_(1, tags[found.items].where(~keeps, -1) + 1, True)
        full[:, 0] = False  # no tag
        allowed = ~full[:, tags[:-1] + 1]  # (B, N)
        kept = F.pad(allowed, (0, 1)).scatter_(
            1, found.items.where(keeps & (found.items >= 0), num_items), True
        )
        allowed = kept[:, :-1]
        asked = asked._replace(
            allowed=allowed if asked.allowed is None else allowed & asked.allowed
        )
        found = _replaced(find, is_over, asked, found)


def _replaced(
    find: Callable[[Asked], Lists], is_asked: Tensor, asked: Asked, found: Lists
) -> Lists:
    """The lists of some users (B,) found again.

    An exported program, whose shapes may not depend on how many they are, searches for all.
    """
    leaves, structure = pytree.tree_flatten(asked)
    if not torch.compiler.is_exporting():
        rows = is_asked.nonzero().squeeze(1)
        if not len(rows):
            return found
        taken = (
            leaf if leaf is None or len(leaf) < len(is_asked) else leaf[rows] for leaf in leaves
        )
        again = find(pytree.tree_unflatten(taken, structure))
        return Lists(*(old.index_copy(0, rows, new) for old, new in zip(found, again, strict=True)))
    is_tensor = [leaf is not None for leaf in leaves]

    def search_again(is_asked: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        tensors = iter(given[4:])
        parts = [next(tensors) if is_there else None for is_there in is_tensor]
        again = find(pytree.tree_unflatten(parts, structure))
        return tuple(new.where(is_asked, old) for new, old in zip(again, given[:4], strict=True))

    def keep(is_asked: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        return tuple(old.clone() for old in given[:4])  # a branch may not return what it was given

    given = (*found, *(leaf for leaf in leaves if leaf is not None))
    return Lists(*torch.cond(is_asked.any(), search_again, keep, (is_asked.unsqueeze(1), *given)))


def top(scores: Tensor, count: int, number: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The largest scores of each row, best first; of equal ones the lower number comes first.

    Args:
        scores: (B, n) float32.
        count: How many; all if there are fewer.
        number: (B, n) integers of at least 0 below 2^31; the column by default.

    Returns: Scores and columns, (B, min(count, n)).
    """
    size = scores.shape[1]
    count = min(count, size)
    best, columns = scores.topk(min(count + 1, size), dim=1)
    if number is None:
        number = torch.arange(size, device=scores.device).expand_as(scores)
    # An exported program cannot ask whether there are ties, and takes them for granted.
    if not torch.compiler.is_exporting():
        is_tied = (best[:, 1:] == best[:, :-1]) & (best[:, 1:] > -torch.inf)
        if not is_tied.any():
            return best[:, :count], columns[:, :count]
    # By score and number at once, in one integer; it takes six times as long.
    bits = (scores + 0.0).view(torch.int32)  # + 0.0, as -0.0 equals it
    rising = bits.where(bits >= 0, bits ^ 0x7FFFFFFF).long()  # in the order of the scores
    columns = ((rising << 32) | ((1 << 31) - 1 - number)).topk(count, dim=1).indices
    return scores.gather(1, columns), columns


def top_items(
    scores: npt.NDArray[np.float32], count: int, allowed: BoolArray | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The best items of each row of scores, and their scores; equal ones by item_index.

    Args:
        scores: (U, N), minus infinity means never.
        count: R, items wanted per row.
        allowed: (N,), the items that may be listed; None means all.

    Returns: (U, R) each, best first, -1 and minus infinity where the items run out.
    """
    of_allowed = scores if allowed is None else np.where(allowed, scores, np.float32(-np.inf))
    best, items = top(torch.from_numpy(of_allowed), count)
    lists = _lists(items, best, best, torch.zeros_like(best), count)
    return lists.items.numpy(), lists.scores.numpy()


def _padded(sequences: Sequences, device: torch.device) -> Tensor:
    longest = int(sequences.lengths.max(initial=1))
    return torch.from_numpy(sequences.padded(longest)).to(device)


def _check_deadline(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() > deadline:
        raise SearchTimeout(
            "the search was not done by its deadline and was given up; ask for less at once, or "
            "allow more time"
        )


@contextlib.contextmanager
def _evaluation_mode(retriever: Retriever) -> Iterator[None]:
    """Within the block nothing is dropped out; afterwards the mode is as before."""
    was_training = retriever.training
    retriever.eval()
    try:
        yield
    finally:
        retriever.train(was_training)
