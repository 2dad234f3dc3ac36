"""The one way from texts to vectors, for the catalogue, for new items and for batch jobs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hidvae.config import EmbeddingConfig
from hidvae.features.cached_encoding import content_key, encode_cached, vectors_file
from hidvae.features.sentence_model import model_key
from hidvae.features.text_encoder import TextEncoder, load_text_encoder


def text_vectors(
    texts: Sequence[str], config: EmbeddingConfig, encoder: TextEncoder | None = None
) -> np.ndarray:
    """Vectors of texts, each distinct one encoded once.

    Args:
        texts: N texts, "" for none.
        config: Names the encoder.
        encoder: The same, loaded already; nothing is cached then. By default it is loaded only if
            the cache lacks a text.

    Returns: (N, dim) float32, rows L2-normalised; zeros where a text is empty.

    Raises:
        ConfigError: If the encoder cannot be loaded.
        DataError: If it gives numbers that are not finite, or the cache is of another model.
        MissingExtraError: If its package is not installed.
    """
    name, backend = config.text_encoder, config.text_backend
    file = None
    if encoder is None:
        file = vectors_file(model_key(name, "numpy" if name == "hashing" else backend))
    rows = [row for row, text in enumerate(texts) if text]
    spoken = [texts[row] for row in rows]
    encoded = encode_cached(
        spoken,
        [content_key(text.encode()) for text in spoken],
        load=lambda: encoder or load_text_encoder(name, backend),
        file=file,
    )
    if len(rows) == len(texts):
        return encoded
    vectors = np.zeros((len(texts), encoded.shape[1]), np.float32)
    vectors[rows] = encoded
    return vectors
