"""Encode texts once per machine: vectors are kept under the model's name and the texts.

The cache is ``$HIDVAE_CACHE`` or ``~/.cache/hidvae``, one ``embeddings/<key>.safetensors`` per set
of texts. It can be deleted at any time; a damaged file is rebuilt.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

from hidvae.artifacts import fingerprint_file
from hidvae.cache import cache_folder
from hidvae.features.text_encoder import load_text_encoder

logger = logging.getLogger(__name__)

_TENSOR = "embeddings"


def encode_texts(
    texts: Sequence[str], *, text_encoder: str, batch_size: int, use_cache: bool = True
) -> np.ndarray:
    """Encode texts, each distinct one once, and remember the vectors.

    Args:
        texts: N texts.
        text_encoder: As ``EmbeddingConfig.text_encoder``; loaded only if the cache lacks the texts.
        batch_size: Texts per forward pass.
        use_cache: False neither reads nor writes the cache.

    Returns: (N, dim) float32, rows L2-normalised.
    """
    distinct = sorted(set(texts))
    file = cache_folder() / "embeddings" / f"{_cache_key(text_encoder, distinct)}.safetensors"
    vectors = _read(file, len(distinct)) if use_cache else None
    if vectors is None:
        vectors = load_text_encoder(text_encoder, batch_size).encode(distinct)
        if use_cache:
            _write(file, vectors)
    row_of = {text: row for row, text in enumerate(distinct)}
    return vectors[[row_of[text] for text in texts]]


def _cache_key(text_encoder: str, distinct: Sequence[str]) -> str:
    """SHA-256 of the model's name (for a folder: of its weights too) and the texts."""
    digest = hashlib.sha256(text_encoder.encode())
    if Path(text_encoder).is_dir():  # a folder may be trained further under the same name
        for weights in sorted(Path(text_encoder).rglob("*.safetensors")):
            digest.update(fingerprint_file(weights).encode())
    for text in distinct:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def _read(file: Path, num_texts: int) -> np.ndarray | None:
    if not file.is_file():
        return None
    try:
        vectors: np.ndarray | None = load_file(file).get(_TENSOR)
    except (safetensors.SafetensorError, OSError) as error:
        logger.warning("%s: damaged (%s); encoding the texts again", file, error)
        return None
    if (
        vectors is None
        or vectors.ndim != 2
        or vectors.dtype != np.float32
        or len(vectors) != num_texts
        or not np.isfinite(vectors).all()
    ):
        logger.warning("%s: damaged (not %d finite vectors); encoding again", file, num_texts)
        return None
    return vectors


def _write(file: Path, vectors: np.ndarray) -> None:
    """Write under a name of this process, then rename; a full disk only costs the cache."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.writing")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({_TENSOR: vectors}, temporary)
        os.replace(temporary, file)
    except (OSError, safetensors.SafetensorError) as error:
        logger.warning("%s: cannot be written (%s); the vectors are not cached", file, error)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
