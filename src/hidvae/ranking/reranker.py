"""The learned last step: puts the best items of a search in a better order.

The search ranks by a sum that weighs all users and items alike. A small network learns from
validation users (``train_reranker.py``) what is worth how much to whom; it reads the features of
``CandidateFeatures``.

Symbols: B users, T positions, C candidates, R places of a list, F features, N items.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy import sparse
from torch import Tensor, nn

from hidvae.errors import ArtifactError
from hidvae.features.csr import csr_from_tensors, csr_to_tensors
from hidvae.ranking.candidate_features import CandidateFeatures
from hidvae.ranking.graph_score import contained
from hidvae.store.artifacts import StageFolder

WEIGHTS = "reranker.safetensors"
_FOLLOWERS = "followers"

NUM_CANDIDATES = 200
"""Best items of a search that change places."""
HIDDEN_DIM = 32
"""Of both hidden layers."""


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
    """Reads what is known of candidates, and puts them in order."""

    def __init__(self, network: RerankerNetwork, features: CandidateFeatures) -> None:
        """Put together what reads and what is read."""
        super().__init__()
        self.network, self.features = network, features

    @torch.no_grad()
    def influences(
        self,
        history: npt.NDArray[np.integer],
        items: npt.NDArray[np.integer],
        log_probs: npt.NDArray[np.floating],
    ) -> dict[str, npt.NDArray[np.float64]]:
        """By group of features, how much higher some items score than with average ones there.

        Args:
            history: (T,) item_index, oldest first, at least one.
            items: (k,) item_index.
            log_probs: (k,) of their IDs.

        Returns: (k,) for each of ``CandidateFeatures.groups``.
        """
        device = self.network.mean.device
        given = (history.astype(np.int64), items.astype(np.int64), log_probs.astype(np.float32))
        read = self.features(*(torch.from_numpy(each)[None].to(device) for each in given))
        scores = self.network(read)
        found = {}
        for name, group in self.features.groups.items():
            other = read.clone()
            other[:, :, group] = self.network.mean[group]
            difference = (scores - self.network(other))[0]
            found[name] = difference.double().cpu().numpy()
        return found

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
        num_items = self.features.followers.shape[0]
        is_read = contained(history, num_items).gather(1, items.clamp_min(0))
        is_free = (items >= 0) & ~is_read
        # Places of free items first, in their order; then the others'.
        places = (~is_free).to(torch.int8).argsort(dim=1, stable=True)[:, :NUM_CANDIDATES]
        is_free = is_free.gather(1, places)
        candidates = items.gather(1, places).clamp_min(0)
        known = log_probs.gather(1, places).where(is_free, 0.0)
        learned = self.network(self.features(history, candidates, known))
        learned = learned.masked_fill(~is_free, -torch.inf)
        by_learned = learned.argsort(dim=1, descending=True, stable=True)  # others stay behind
        stays = torch.arange(items.shape[1], device=items.device).expand_as(items)
        return stays.scatter(1, places, places.gather(1, by_learned))


def save_reranker(reranker: Reranker, folder: Path) -> None:
    """Write what ``load_reranker`` reads into a stage's folder."""
    weights = reranker.network.state_dict()
    save_file(
        {
            **{name: value.cpu() for name, value in weights.items()},
            **{
                name: torch.from_numpy(array)
                for name, array in csr_to_tensors(_FOLLOWERS, reranker.features.followers).items()
            },
        },
        folder / WEIGHTS,
    )


def load_reranker(
    folder: StageFolder,
    likeness: npt.NDArray[np.float32] | None,
    content: npt.NDArray[np.floating],
    tfidf: sparse.csr_array,
) -> Reranker | None:
    """The run's reranker, on the CPU; None where it has none.

    Args:
        folder: The stage ``reranker``.
        likeness: (N, d) vectors of the learned likeness, if there are any.
        content: (N, d); see ``ItemEmbeddings.content``.
        tfidf: (N, V).

    Raises:
        ArtifactError: If its file is damaged.
    """
    if not folder.facts["is_used"]:
        return None
    file = folder.path / WEIGHTS
    try:
        tensors = load_file(file)
        arrays = {
            name: tensors.pop(name).numpy() for name in list(tensors) if name.startswith(_FOLLOWERS)
        }
        followers = csr_from_tensors(_FOLLOWERS, arrays, (len(content), len(content)))
        features = CandidateFeatures(followers, likeness, content, tfidf)
        network = RerankerNetwork(features.num_features)
        network.load_state_dict(tensors)
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{file}: cannot be read ({error}); delete {folder.path} and run `hidvae train` again"
        ) from error
    return Reranker(network.eval().requires_grad_(False), features)
