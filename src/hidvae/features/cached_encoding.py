"""Encode what the cache lacks, each distinct content once, keeping vectors as they come."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from hidvae.errors import DataError
from hidvae.features.vector_cache import KEY_DTYPE, VectorCache

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_SHARDS = 15.0
"""Longest work that a kill can lose, besides the batch under way."""
_SECONDS_BETWEEN_LOG_LINES = 10.0

Content = TypeVar("Content", contravariant=True)


class Encoder(Protocol[Content]):
    """Contents to vectors, batch by batch; ``TextEncoder`` explains the rule for batches."""

    name: str
    dim: int

    def batches(self, contents: Sequence[Content], /) -> list[list[int]]:
        """Positions of each batch."""
        ...

    def encode(self, contents: Sequence[Content], /) -> np.ndarray:
        """One batch: (n, dim) float32."""
        ...


def content_keys(contents: Iterable[bytes]) -> np.ndarray:
    """SHA-256 of each content: (N,) of KEY_DTYPE."""
    return as_keys(hashlib.sha256(content).digest() for content in contents)


def as_keys(digests: Iterable[bytes]) -> np.ndarray:
    """Digests of 32 bytes as an array: (N,) of KEY_DTYPE."""
    return np.frombuffer(b"".join(digests), KEY_DTYPE)


def encode_cached(
    contents: Sequence[Content],
    keys: np.ndarray,
    *,
    load: Callable[[], Encoder[Content]],
    folder: Path | None,
) -> np.ndarray:
    """Vectors of contents, from the cache where it has them.

    What is encoded is written every few seconds, whole batches at a time. As the batches that are
    left do not depend on those that are done (``TextEncoder.batches``), an encoding that is killed
    and started again gives the same bits as one that ran through.

    Args:
        contents: N contents.
        keys: (N,) of KEY_DTYPE; equal keys mean equal contents.
        load: Makes the encoder; called only if something must be encoded.
        folder: Where the model's vectors are kept; None neither reads nor writes a cache.

    Returns: (N, dim) float32.

    Raises:
        DataError: If the encoder gives numbers that are not finite, or the cache is of other width.
    """
    cache = None if folder is None else VectorCache(folder)
    vectors, is_found = (None, np.zeros(len(keys), bool)) if cache is None else cache.read(keys)
    if vectors is not None and is_found.all():
        return vectors
    encoder = load()
    if vectors is None:
        vectors = np.empty((len(keys), encoder.dim), np.float32)
    elif vectors.shape[1] != encoder.dim:
        raise DataError(
            f"{folder}: expected vectors of {encoder.dim} numbers, as {encoder.name} gives; found "
            f"{vectors.shape[1]}; the model has changed under its name, delete this folder"
        )
    missing = np.flatnonzero(~is_found)
    _, first, inverse = np.unique(keys[missing], return_index=True, return_inverse=True)
    distinct = missing[first]  # sorted by key
    _encode_into(vectors, distinct, contents, keys, encoder, cache)
    source = distinct[inverse]
    is_repeat = source != missing
    vectors[missing[is_repeat]] = vectors[source[is_repeat]]
    return vectors


def _encode_into(
    vectors: np.ndarray,
    places: np.ndarray,
    contents: Sequence[Content],
    keys: np.ndarray,
    encoder: Encoder[Content],
    cache: VectorCache | None,
) -> None:
    """Encode the contents at ``places`` into the same rows of ``vectors``, and into the cache."""
    done: list[np.ndarray] = []  # batches that are not in the cache yet
    num_done = 0
    last_written = last_logged = time.monotonic()

    def keep() -> None:
        if cache is not None and done:
            rows = np.concatenate(done)
            cache.write(keys[rows], vectors[rows])
        done.clear()

    try:
        for batch in encoder.batches([contents[i] for i in places]):
            rows = places[batch]
            vectors[rows] = encoder.encode([contents[i] for i in rows])
            if not np.isfinite(vectors[rows]).all():
                raise DataError(
                    f"{encoder.name}: expected finite vectors; found NaN or infinity for such as "
                    f"{str(contents[rows[0]])[:60]!r}; the model is damaged, choose another"
                )
            done.append(rows)
            num_done += len(rows)
            now = time.monotonic()
            if now - last_logged > _SECONDS_BETWEEN_LOG_LINES:
                last_logged = now
                logger.info("%s: encoded %d of %d", encoder.name, num_done, len(places))
            if now - last_written > _SECONDS_BETWEEN_SHARDS:
                last_written = now
                keep()
    finally:  # an interruption keeps what is done
        keep()
    if cache is not None:
        cache.compact()
