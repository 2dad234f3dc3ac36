"""Encode texts once per machine: every text's vector is kept under the model and the text.

The cache is ``embeddings/<model>/`` in ``$HIDVAE_CACHE`` or ``~/.cache/hidvae`` (see
``vector_cache``). It can be deleted at any time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hidvae.features.cached_encoding import content_keys, encode_cached
from hidvae.features.sentence_model import model_key
from hidvae.features.text_encoder import load_text_encoder
from hidvae.store.cache import cache_folder


def encode_texts(
    texts: Sequence[str],
    *,
    text_encoder: str,
    batch_size: int,
    use_cache: bool = True,
    backend: str = "torch",
) -> np.ndarray:
    """Encode texts, each distinct one once, and remember the vectors.

    Args:
        texts: N texts.
        text_encoder: As ``EmbeddingConfig.text_encoder``; loaded only if the cache lacks a text.
        batch_size: As ``EmbeddingConfig.batch_size``.
        use_cache: False neither reads nor writes the cache.
        backend: As ``EmbeddingConfig.text_backend``.

    Returns: (N, dim) float32, rows L2-normalised.
    """
    used_backend = "numpy" if text_encoder == "hashing" else backend
    model_folder = cache_folder() / "embeddings" / model_key(text_encoder, used_backend)
    return encode_cached(
        texts,
        content_keys(text.encode() for text in texts),
        load=lambda: load_text_encoder(text_encoder, batch_size, backend),
        folder=model_folder if use_cache else None,
    )
