"""What is known of an item as the next one after a history: the features that the reranker reads.

None of them says how often the item occurs. Symbols: B users, T positions, C candidates, L latest
items, F features, N items, V terms, d width of vectors.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor, nn

from hidvae.data.interactions import Sequences
from hidvae.features.cooccurrence import near_pairs
from hidvae.features.unit_rows import unit_rows
from hidvae.ranking.graph_score import DECAY, NUM_LATEST, NUM_NEIGHBOURS, latest_items
from hidvae.ranking.sparse_rows import SparseRows

MAX_DISTANCE = 3
"""An item follows another in a training history when at most this many steps after it."""
SMOOTHING = 0.01
"""Score of an item that never followed."""
MOST_TERMS = 32
"""Terms of an item that count, those of the largest TF-IDF weights; the others hardly would."""
_WORDS_AT_ONCE = 1 << 24
"""Users times terms, at most (64 MiB of weights)."""


class CandidateFeatures(nn.Module):
    """Features of candidates after a history.

    With q the weights of the latest items (``DECAY`` ** steps back) and D the followers of each
    item (``followers_of``), they are

    - the log-probability of the item's ID and the log of the history's length;
    - log(q D + smoothing) and log(q D' + smoothing), whether the item follows those of the history
      and whether they follow it, and both for the latest item alone;
    - its cosines with the latest items, by learned likeness and by content: q's sum of them, that
      with the latest item and the largest;
    - its cosines with them by the ``MOST_TERMS`` largest weights of their TF-IDF vectors: q's sum
      and that with the latest item.

    A kind that the run does not have is left out.
    """

    recency: Tensor
    """(L,) weight of the latest item, of the one before it, and so on."""
    likeness: Tensor | None
    """(N, d) of length 1."""
    content: Tensor | None
    """(N, d) of length 1."""

    def __init__(
        self,
        followers: sparse.csr_array,
        likeness: npt.NDArray[np.float32] | None,
        content: npt.NDArray[np.floating],
        tfidf: sparse.csr_array,
    ) -> None:
        """Keep what the features are made from.

        Args:
            followers: D, (N, N), from ``followers_of``.
            likeness: (N, d) vectors of the learned likeness, if there are any.
            content: (N, d) of any scale; width 0 where items have none.
            tfidf: (N, V); V = 0 where items have no text.
        """
        super().__init__()
        self.followers = followers
        self._follows = SparseRows(followers)
        self._followed = SparseRows(followers.T.tocsr())
        recency = np.power(DECAY, np.arange(NUM_LATEST)).astype(np.float32)
        self.register_buffer("recency", torch.from_numpy(recency), persistent=False)
        for name, vectors in (("likeness", likeness), ("content", content)):
            unit = None
            if vectors is not None and vectors.shape[1]:
                unit = torch.from_numpy(unit_rows(np.array(vectors, np.float32)))
            self.register_buffer(name, unit, persistent=False)
        self._words = None
        if tfidf.shape[1]:
            self._words = SparseRows(_largest_of_rows(tfidf.astype(np.float32), MOST_TERMS))

    @property
    def num_features(self) -> int:
        """F."""
        return max(group.stop for group in self.groups.values())

    @property
    def groups(self) -> dict[str, slice]:
        """The features by what they come from; the length of the history is none of the item's."""
        widths = {
            "likeness": 0 if self.likeness is None else 3,
            "content": 0 if self.content is None else 3,
            "words": 0 if self._words is None else 2,
        }
        found, start = {"generator": slice(0, 1), "followers": slice(2, 6)}, 6
        for name, width in widths.items():
            if width:
                found[name] = slice(start, start + width)
                start += width
        return found

    def over(
        self,
        likeness: npt.NDArray[np.float32] | None,
        content: npt.NDArray[np.floating],
        tfidf: sparse.csr_array,
    ) -> CandidateFeatures:
        """The same for a catalogue of M items; those beyond N have never followed any."""
        followers = self.followers.copy()
        followers.resize(len(content), len(content))
        other = CandidateFeatures(followers, likeness, content, tfidf)
        return other.to(self.recency.device)

    def forward(self, history: Tensor, items: Tensor, log_probs: Tensor) -> Tensor:
        """(B, C, F) what is known of candidates.

        Args:
            history: (B, T) item_index, oldest first, -1 on the right.
            items: (B, C) item_index, none of them of the history.
            log_probs: (B, C) of their IDs.
        """
        latest, weight = latest_items(history, self.recency)
        is_nothing = (weight == 0).unsqueeze(1)  # (B, 1, L)
        # Two sums over the latest items: with the weights q, and of the latest one alone.
        is_latest = torch.arange(weight.shape[1], device=weight.device) == 0
        queries = torch.stack([weight, weight * is_latest], dim=2)  # (B, L, 2)
        length = (history >= 0).sum(dim=1, keepdim=True).float().log()
        found = [log_probs.unsqueeze(2), length.expand_as(log_probs).unsqueeze(2)]
        of_items = items.unsqueeze(2).expand(-1, -1, 2)
        for rows in (self._follows, self._followed):
            found.append((rows.sums(latest, queries).gather(1, of_items) + SMOOTHING).log())
        for vectors in (self.likeness, self.content):
            if vectors is not None:
                cosines = vectors[items] @ vectors[latest].transpose(1, 2)  # (B, C, L)
                largest = cosines.masked_fill(is_nothing, -1.0).amax(dim=2, keepdim=True)
                found += [cosines @ queries, largest]
        if self._words is not None:
            found.append(self._words_in_common(self._words, latest, queries, items))
        return torch.cat(found, dim=2)

    def _words_in_common(
        self, words: SparseRows, latest: Tensor, queries: Tensor, items: Tensor
    ) -> Tensor:
        """(B, C, 2) sums of the cosines by TF-IDF vectors."""
        if torch.compiler.is_exporting():
            return words.dots(words.sums(latest, queries), items)
        size = max(1, _WORDS_AT_ONCE // (2 * words.num_columns))
        parts = zip(latest.split(size), queries.split(size), items.split(size), strict=True)
        return torch.cat([words.dots(words.sums(rows, of), each) for rows, of, each in parts])


def followers_of(train: Sequences, num_items: int) -> sparse.csr_array:
    """D: (N, N) float32, how often one item follows another in training histories.

    A pair of items d <= ``MAX_DISTANCE`` steps apart adds 1 / d to the entry of the earlier item's
    row; an entry is then divided by the roots of its row's and its column's sum. Of a row, the
    ``NUM_NEIGHBOURS`` largest entries are kept.

    Args:
        train: Training histories, and nothing else.
        num_items: N.
    """
    total = sparse.csr_array((num_items, num_items), dtype=np.float64)
    for distance, before, after in near_pairs(train, MAX_DISTANCE):
        weight = np.full(len(before), 1 / distance)
        total = total + sparse.coo_array((weight, (before, after)), shape=total.shape).tocsr()
    of_rows, of_columns = (np.asarray(total.sum(axis=axis)).ravel() for axis in (1, 0))
    rows, columns = (
        np.divide(1.0, np.sqrt(sums), out=np.zeros_like(sums), where=sums > 0)
        for sums in (of_rows, of_columns)
    )
    scaled = sparse.diags_array(rows) @ total @ sparse.diags_array(columns)
    return _largest_of_rows(scaled.tocsr().astype(np.float32), NUM_NEIGHBOURS)


def _largest_of_rows(matrix: sparse.csr_array, most: int) -> sparse.csr_array:
    """A matrix with no more than so many entries a row, the largest ones; of equal ones the first.

    Columns are ascending.
    """
    matrix.sort_indices()
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort([-matrix.data, row])  # within a row, the largest first
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - matrix.indptr[row[order]]
    kept = place < most
    shape = matrix.shape
    return sparse.coo_array((matrix.data[kept], (row[kept], matrix.indices[kept])), shape).tocsr()
