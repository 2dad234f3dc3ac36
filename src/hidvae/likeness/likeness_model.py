"""The model of the learned likeness: from an item's content to a vector of length 1.

Two items are alike as far as the cosine of their vectors says. It is learned from which items
follow each other in training histories, but reads only what an item is: its content vector and its
words. So it knows new items as well as old ones.

Symbols: N items, n items of a batch, D width of the content, V terms, d width of the vectors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy import sparse
from torch import Tensor, nn

from hidvae.errors import ArtifactError
from hidvae.store.artifacts import StageFolder
from hidvae.training.dropout import Dropout

FILE = "likeness.safetensors"
_TERMS, _VECTORS = "terms_of_vocabulary", "item_vectors"

HIDDEN_DIM = 512
"""Of the perceptron that reads the content vector."""
DROPOUT = 0.2
"""Of content, hidden units and words."""
LEAST_ITEMS = 3
"""A term of fewer items links too few of them to learn from."""
_ITEMS_PER_BLOCK = 4096


class Words(nn.Module):
    """The TF-IDF vectors of items, as bags of terms; row = item."""

    start: Tensor
    """(N + 1,) where the terms of each item start."""
    terms: Tensor
    """(E,) term numbers, side by side for each item."""
    weights: Tensor
    """(E,) their TF-IDF weights."""

    def __init__(self, tfidf: sparse.csr_array) -> None:
        """Keep (N, V) TF-IDF vectors."""
        super().__init__()
        for name, array in (
            ("start", tfidf.indptr.astype(np.int64)),
            ("terms", tfidf.indices.astype(np.int64)),
            ("weights", tfidf.data.astype(np.float32)),
        ):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def bags(self, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Terms and weights of n items, side by side, and (n,) where each item's start."""
        first, counts = self.start[items], self.start[items + 1] - self.start[items]
        offsets = counts.cumsum(0) - counts
        places = torch.arange(int(counts.sum()), device=items.device)
        places = places + (first - offsets).repeat_interleave(counts)
        return self.terms[places], self.weights[places], offsets


class LikenessModel(nn.Module):
    """e = unit(MLP(content) + sum of TF-IDF weight x a learned vector per term)."""

    def __init__(self, content_dim: int, num_terms: int, dim: int) -> None:
        """Build; a part of width 0 is left out.

        Args:
            content_dim: D.
            num_terms: V.
            dim: d.
        """
        super().__init__()
        self.dim = dim
        self.perceptron: nn.Sequential | None = None
        if content_dim:
            self.perceptron = nn.Sequential(
                Dropout(DROPOUT),
                nn.Linear(content_dim, HIDDEN_DIM),
                nn.GELU(),
                Dropout(DROPOUT),
                nn.Linear(HIDDEN_DIM, dim),
            )
        self.terms: nn.Embedding | None = None
        if num_terms:
            self.terms = nn.Embedding(num_terms, dim)
            nn.init.normal_(self.terms.weight, std=0.02)

    def forward(self, content: Tensor, words: Words, items: Tensor) -> Tensor:
        """Vectors (n, d) of length 1 of some items; zeros where nothing is known of an item.

        Args:
            content: (N, D).
            words: Of N items.
            items: (n,) rows of both.
        """
        x = content.new_zeros(len(items), self.dim)
        if self.perceptron is not None:
            rows = content[items]
            # Biases alone would make all items without content alike.
            x = x + self.perceptron(rows) * (rows != 0).any(dim=1, keepdim=True)
        if self.terms is not None:
            terms, weights, offsets = words.bags(items)
            if self.training:
                kept = torch.rand_like(weights) >= DROPOUT
                weights = weights * kept / (1 - DROPOUT)
            x = x + F.embedding_bag(
                terms, self.terms.weight, offsets, mode="sum", per_sample_weights=weights
            )
        return F.normalize(x, dim=1)


class ItemLikeness:
    """A trained model, and the terms of the catalogue's TF-IDF vectors that it reads."""

    def __init__(self, model: LikenessModel, terms: npt.NDArray[np.int64]) -> None:
        """Put them together.

        Args:
            model: In evaluation mode, on the CPU.
            terms: (V,) their columns in TF-IDF vectors of the whole vocabulary.
        """
        self.model, self.terms = model, terms

    @torch.no_grad()
    def vectors(self, content: np.ndarray, tfidf: sparse.csr_array) -> npt.NDArray[np.float32]:
        """(n, d) vectors of length 1 of n items; zeros where nothing is known of an item.

        Args:
            content: (n, D).
            tfidf: (n, terms of the vocabulary).
        """
        read = torch.from_numpy(np.array(content, np.float32))
        words = Words(tfidf[:, self.terms])
        found = [np.zeros((0, self.model.dim), np.float32)]
        for start in range(0, len(content), _ITEMS_PER_BLOCK):
            items = torch.arange(start, min(start + _ITEMS_PER_BLOCK, len(content)))
            found.append(self.model(read, words, items).numpy())
        return np.concatenate(found)

    def save(self, folder: Path, vectors: npt.NDArray[np.float32]) -> None:
        """Write what ``load`` and ``load_vectors`` read.

        Args:
            folder: Of the stage.
            vectors: (N, d) of the catalogue.
        """
        save_file(
            {
                **self.model.state_dict(),
                _TERMS: torch.from_numpy(self.terms),
                _VECTORS: torch.from_numpy(vectors),
            },
            folder / FILE,
        )

    @classmethod
    def load(cls, folder: StageFolder) -> ItemLikeness | None:
        """From a stage folder; None where no likeness was learned.

        Raises:
            ArtifactError: If the file is damaged.
        """
        tensors = _read(folder)
        if tensors is None:
            return None
        terms = tensors.pop(_TERMS).numpy()
        del tensors[_VECTORS]
        model = LikenessModel(folder.facts["content_dim"], len(terms), folder.facts["dim"])
        model.load_state_dict(tensors)
        return cls(model.eval(), terms)


def load_vectors(folder: StageFolder) -> npt.NDArray[np.float32] | None:
    """(N, d) vectors of the catalogue; None where no likeness was learned.

    Raises:
        ArtifactError: If the file is damaged.
    """
    tensors = _read(folder)
    return None if tensors is None else tensors[_VECTORS].numpy()


def _read(folder: StageFolder) -> dict[str, Tensor] | None:
    if not folder.facts["is_learned"]:
        return None
    file = folder.path / FILE
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(
            f"{file}: cannot be read ({error}); delete {folder.path} and run `hidvae embed` again"
        ) from error
    return tensors


def terms_to_learn(tfidf: sparse.csr_array) -> npt.NDArray[np.int64]:
    """The terms of at least ``LEAST_ITEMS`` items, as columns of (N, V) TF-IDF vectors."""
    return np.flatnonzero(np.bincount(tfidf.indices, minlength=tfidf.shape[1]) >= LEAST_ITEMS)
