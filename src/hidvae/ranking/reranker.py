"""The learned last step: puts the best items of a search in a better order.

The search ranks by a sum that is the same for everybody. How much each term of it is worth depends
on the user and the item; a small network learns that from validation users
(``train_reranker.py``). It reads what is known of an item after a history, and nothing of how often
the item occurs.

Symbols: B users, T positions, C candidates, L latest items, F features, N items.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy import sparse
from torch import Tensor, nn

from hidvae.data.interactions import Sequences
from hidvae.errors import ArtifactError
from hidvae.features.cooccurrence import near_pairs
from hidvae.features.csr import csr_from_tensors, csr_to_tensors
from hidvae.ranking.graph_score import (
    DECAY,
    NUM_LATEST,
    NUM_NEIGHBOURS,
    GraphScore,
    contained,
    latest_items,
)
from hidvae.ranking.sparse_rows import SparseRows
from hidvae.store.artifacts import StageFolder

WEIGHTS = "reranker.safetensors"
_FOLLOWERS = "followers"

NUM_CANDIDATES = 200
"""Best items of a search that change places."""
HIDDEN_DIM = 32
"""Of both hidden layers."""
MAX_DISTANCE = 3
"""An item follows another in a training history when at most this many steps after it."""
SMOOTHING = 0.01
"""Score of an item that never followed."""


class RerankerNetwork(nn.Module):
    """From the features of an item to its score; of two items the higher one is to come first."""

    mean: Tensor
    scale: Tensor

    def __init__(self, num_features: int) -> None:
        """Build for F features."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(num_features, HIDDEN_DIM),
            nn.GELU(),
            nn.Linear(HIDDEN_DIM, HIDDEN_DIM),
            nn.GELU(),
            nn.Linear(HIDDEN_DIM, 1),
        )
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))

    def standardize(self, features: Tensor) -> None:
        """From now on, features (n, F) like these are read with mean 0 and deviation 1."""
        self.mean.copy_(features.mean(dim=0))
        self.scale.copy_(1.0 / features.std(dim=0).clamp_min(1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """Scores (...) of features (..., F)."""
        scores: Tensor = self.layers((features - self.mean) * self.scale).squeeze(-1)
        return scores


class Reranker(nn.Module):
    """Reads what is known of candidates, and puts them in order.

    With q the weights of the latest items (as for the item graph) and D the followers of each item
    (``followers_of``), the features of an item are

    - its log-probability,
    - log(q D + smoothing), and the same of the latest item alone,
    - log(q S + smoothing) of the item graph and q E E' of the learned likeness, as far as they
      count in the run (``GraphScore.parts``),
    - the log of the history's length.
    """

    recency: Tensor
    """(L,) weight of the latest item, of the one before it, and so on."""

    def __init__(
        self,
        network: RerankerNetwork,
        followers: sparse.csr_array,
        graph: GraphScore | None,
    ) -> None:
        """Put the parts together.

        Args:
            network: For ``num_features(graph)`` features.
            followers: D, (N, N), from ``followers_of``.
            graph: What adds to the scores that candidates are found by.
        """
        super().__init__()
        self.network, self.graph = network, graph
        self.followers = followers
        self._rows = SparseRows(followers)
        recency = np.power(DECAY, np.arange(NUM_LATEST)).astype(np.float32)
        self.register_buffer("recency", torch.from_numpy(recency), persistent=False)

    def over(self, graph: GraphScore | None, num_items: int) -> Reranker:
        """The same order for a catalogue of M items; those beyond N have never followed any."""
        followers = self.followers.copy()
        followers.resize(num_items, num_items)
        return Reranker(self.network, followers, graph).to(self.recency.device)

    def features(self, history: Tensor, items: Tensor, log_probs: Tensor) -> Tensor:
        """(B, C, F) what is known of candidates.

        Args:
            history: (B, T) item_index, oldest first, -1 on the right.
            items: (B, C) item_index, none of them of the history.
            log_probs: (B, C) of their IDs.
        """
        latest, weight = latest_items(history, self.recency)
        follows = self._rows.sums(latest, weight).gather(1, items)
        follows_latest = self._rows.sums(latest[:, :1], weight[:, :1]).gather(1, items)
        length = (history >= 0).sum(dim=1, keepdim=True).float().log().expand_as(log_probs)
        found = [
            log_probs,
            (follows + SMOOTHING).log(),
            (follows_latest + SMOOTHING).log(),
            length,
        ]
        read = torch.stack(found, dim=2)
        if self.graph is not None:
            read = torch.cat([read, self.graph.parts(history, items)], dim=2)
        return read

    def reordered(self, history: Tensor, items: Tensor, log_probs: Tensor) -> Tensor:
        """(B, R) for each place of ranked lists, the place in them of the item that goes there.

        The first ``NUM_CANDIDATES`` items that are not of the history change places among
        themselves. All others stay, items of the history too: that one follows itself was never
        learned.

        Args:
            history: (B, T) item_index, oldest first, -1 on the right.
            items: (B, R) item_index, best first, -1 where a list is shorter.
            log_probs: (B, R) of their IDs.
        """
        is_free = (items >= 0) & ~contained(history, self._rows.num_columns).gather(
            1, items.clamp_min(0)
        )
        is_free = is_free & (is_free.cumsum(dim=1) <= NUM_CANDIDATES)
        read = self.features(history, items.clamp_min(0), log_probs.where(is_free, 0.0))
        learned = self.network(read).masked_fill(~is_free, -torch.inf)
        # The free items by what was learned, then the others; the free places, then the others.
        by_learned = learned.argsort(dim=1, descending=True, stable=True)
        places = (~is_free).to(torch.int8).argsort(dim=1, stable=True)
        return torch.zeros_like(places).scatter(1, places, by_learned)


def num_features(graph: GraphScore | None) -> int:
    """F."""
    return 4 + (0 if graph is None else graph.num_parts)


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
    row, column = (np.asarray(total.sum(axis=axis)).ravel() for axis in (1, 0))
    scale_rows, scale_columns = (
        np.divide(1.0, np.sqrt(sums), out=np.zeros_like(sums), where=sums > 0)
        for sums in (row, column)
    )
    scaled = sparse.diags_array(scale_rows) @ total @ sparse.diags_array(scale_columns)
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


def save_reranker(reranker: Reranker, folder: Path) -> None:
    """Write what ``load_reranker`` reads into a stage's folder."""
    weights = reranker.network.state_dict()
    save_file(
        {
            **{name: value.cpu() for name, value in weights.items()},
            **{
                name: torch.from_numpy(array)
                for name, array in csr_to_tensors(_FOLLOWERS, reranker.followers).items()
            },
        },
        folder / WEIGHTS,
    )


def load_reranker(folder: StageFolder, num_items: int, graph: GraphScore | None) -> Reranker | None:
    """The run's reranker, on the CPU; None where it has none.

    Args:
        folder: The stage ``reranker``.
        num_items: N.
        graph: Of the run.

    Raises:
        ArtifactError: If its file is damaged.
    """
    if not folder.facts["is_used"]:
        return None
    file = folder.path / WEIGHTS
    network = RerankerNetwork(num_features(graph))
    try:
        tensors = load_file(file)
        arrays = {
            name: tensors.pop(name).numpy() for name in list(tensors) if name.startswith(_FOLLOWERS)
        }
        followers = csr_from_tensors(_FOLLOWERS, arrays, (num_items, num_items))
        network.load_state_dict(tensors)
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{file}: cannot be read ({error}); delete {folder.path} and run `hidvae train` again"
        ) from error
    network.eval().requires_grad_(False)
    return Reranker(network, followers, graph)
