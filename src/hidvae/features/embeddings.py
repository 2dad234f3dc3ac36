"""The item embeddings as the next stages see them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save_file
from scipy import sparse

from hidvae.errors import ArtifactError, ConfigError
from hidvae.features.csr import csr_from_tensors, csr_to_tensors
from hidvae.features.mapped import map_tensor
from hidvae.store.artifacts import StageFolder, StageWriter

EMBEDDINGS_FILE = "embeddings.safetensors"
EMBEDDINGS_TENSOR = "item_embeddings"
_ROWS_PER_BLOCK = 65_536


@dataclass(frozen=True)
class ItemEmbeddings:
    """One vector per item, row = item_index."""

    matrix: np.ndarray
    """(N, D) float32; the last ``num_categorical`` columns are 0/1 features."""
    num_categorical: int
    parts: dict[str, tuple[int, int]]
    """Columns [start, end) of the parts that are on, in the order text or file, image,
    cooccurrence, categorical."""
    tfidf: sparse.csr_array
    """(N, V) TF-IDF vectors of the texts, V = 0 where items have no text."""

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.matrix)

    @property
    def dim(self) -> int:
        """D."""
        return int(self.matrix.shape[1])

    def part(self, name: str) -> np.ndarray:
        """Columns of one part: (N, width), width 0 where the part is off."""
        start, end = self.parts.get(name, (0, 0))
        return self.matrix[:, start:end]

    @property
    def content(self) -> np.ndarray:
        """What the items are like, whoever bought them: text (or the user's own matrix) and image.

        Returns: (N, width), a view; width 0 where both are off.
        """
        spans = [self.parts[name] for name in ("text", "file", "image") if name in self.parts]
        if not spans:
            return self.matrix[:, :0]
        return self.matrix[:, spans[0][0] : spans[-1][1]]  # they stand side by side


def load_embeddings(folder: StageFolder) -> ItemEmbeddings:
    """Read the folder that ``hidvae embed`` wrote; the matrix is mapped into memory.

    Raises:
        ArtifactError: If the matrix is damaged or disagrees with the folder's facts.
    """
    file = folder.path / EMBEDDINGS_FILE
    try:
        matrix = map_tensor(file, EMBEDDINGS_TENSOR)
        shape = (len(matrix), int(folder.facts["num_terms"]))
        tfidf = sparse.csr_array(shape, dtype=np.float32)
        if shape[1]:
            with safetensors.safe_open(file, framework="np") as stored:
                names = [name for name in stored.keys() if name != EMBEDDINGS_TENSOR]  # noqa: SIM118
                tensors = {name: stored.get_tensor(name) for name in names}
            tfidf = csr_from_tensors("tfidf", tensors, shape)
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{file}: cannot be read ({error}); delete the folder and run `hidvae embed` again"
        ) from error
    dim = folder.facts["dim"]
    if matrix.ndim != 2 or matrix.shape[1] != dim or not _is_finite(matrix):
        raise ArtifactError(
            f"{file}: expected finite vectors of {dim} numbers; found shape {matrix.shape}; run "
            "`hidvae embed` again"
        )
    parts = {name: (int(start), int(end)) for name, (start, end) in folder.facts["parts"].items()}
    return ItemEmbeddings(matrix, int(folder.facts["num_categorical"]), parts, tfidf)


def _is_finite(matrix: np.ndarray) -> bool:
    blocks = range(0, len(matrix), _ROWS_PER_BLOCK)
    return all(np.isfinite(matrix[start : start + _ROWS_PER_BLOCK]).all() for start in blocks)


def save_embeddings(matrix: np.ndarray, tfidf: sparse.csr_array, folder: Path) -> None:
    """Write what ``load_embeddings`` reads, ``embeddings.safetensors``.

    Args:
        matrix: (N, D) float32.
        tfidf: (N, V); the stage's facts must say V as ``num_terms``.
        folder: Where to.
    """
    tensors = {EMBEDDINGS_TENSOR: np.ascontiguousarray(matrix)}
    if tfidf.shape[1]:
        tensors |= csr_to_tensors("tfidf", tfidf)
    save_file(tensors, folder / EMBEDDINGS_FILE)


def write_content(embeddings: StageFolder, stage: StageWriter) -> None:
    """A stage like that of ``hidvae embed`` with the content alone, for models that know no more.

    Args:
        embeddings: From ``hidvae embed``.
        stage: What to write.

    Raises:
        ConfigError: If there is no content: neither text (or the user's own matrix) nor image.
    """
    content = load_embeddings(embeddings).content
    if not content.shape[1]:
        raise ConfigError(
            f"{embeddings.path}: expected a text, file or image part, found the parts "
            f"{', '.join(embeddings.facts['parts'])}; the baseline tiger reads content "
            "only; leave it out or set EmbeddingConfig.text_encoder"
        )
    save_embeddings(content, sparse.csr_array((len(content), 0)), stage.path)
    stage.facts |= {
        "dim": content.shape[1],
        "parts": {"file": [0, content.shape[1]]},
        "num_categorical": 0,
        "num_terms": 0,
    }
