"""Encode what the cache lacks, each distinct content once, keeping vectors as they come."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from hidvae.errors import ArtifactError, DataError
from hidvae.store.blobs import BlobStore
from hidvae.store.cache import cache_folder

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_WRITES = 15.0
"""Longest work that a kill can lose, besides the batch under way."""
_SECONDS_BETWEEN_LOG_LINES = 10.0
_ROWS_AT_ONCE = 8192
"""Vectors read, or written, together."""
_FLOAT_BYTES = 4

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


def content_key(content: bytes) -> bytes:
    """SHA-256, by which a content is known in the cache."""
    return hashlib.sha256(content).digest()


def vectors_file(model: str) -> Path:
    """Where the vectors of a model (``sentence_model.model_key``) are kept."""
    return cache_folder() / "vectors" / f"{model}.sqlite"


def encode_cached(
    contents: Sequence[Content],
    keys: Sequence[bytes],
    *,
    load: Callable[[], Encoder[Content]],
    file: Path | None,
) -> np.ndarray:
    """Vectors of contents, from the cache where it has them.

    What is encoded is written every few seconds, whole batches at a time. As the batches that are
    left do not depend on those that are done (``TextEncoder.batches``), an encoding that is killed
    and started again gives the same bits as one that ran through.

    Args:
        contents: N contents.
        keys: N keys (``content_key``); equal keys mean equal contents.
        load: Makes the encoder; called only if something must be encoded.
        file: Where the model's vectors are kept; None neither reads nor writes a cache.

    Returns: (N, dim) float32.

    Raises:
        DataError: If the encoder gives numbers that are not finite, or the cache is of other width.
    """
    cache = _VectorCache(file)
    try:
        vectors, is_found = cache.read(keys)
        if vectors is not None and is_found.all():
            return vectors
        encoder = load()
        if vectors is None:
            vectors = np.empty((len(keys), encoder.dim), np.float32)
        elif vectors.shape[1] != encoder.dim:
            raise DataError(
                f"{file}: expected vectors of {encoder.dim} numbers, as {encoder.name} gives; "
                f"found {vectors.shape[1]}; the model has changed under its name, delete this file"
            )
        missing = np.flatnonzero(~is_found).tolist()
        first: dict[bytes, int] = {}
        for place in missing:
            first.setdefault(keys[place], place)
        distinct = np.array([first[key] for key in sorted(first)], np.int64)
        _encode_into(vectors, distinct, contents, keys, encoder, cache)
        repeats = [place for place in missing if first[keys[place]] != place]
        vectors[repeats] = vectors[[first[keys[place]] for place in repeats]]
        return vectors
    finally:
        cache.close()


def _encode_into(
    vectors: np.ndarray,
    places: np.ndarray,
    contents: Sequence[Content],
    keys: Sequence[bytes],
    encoder: Encoder[Content],
    cache: _VectorCache,
) -> None:
    """Encode the contents at ``places`` into the same rows of ``vectors``, and into the cache."""
    done: list[int] = []  # rows that are not in the cache yet
    num_done = 0
    last_written = last_logged = time.monotonic()

    def keep() -> None:
        cache.add([keys[row] for row in done], vectors[done])
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
            done += rows.tolist()
            num_done += len(rows)
            now = time.monotonic()
            if now - last_logged > _SECONDS_BETWEEN_LOG_LINES:
                last_logged = now
                logger.info("%s: encoded %d of %d", encoder.name, num_done, len(places))
            if now - last_written > _SECONDS_BETWEEN_WRITES or len(done) >= _ROWS_AT_ONCE:
                last_written = now
                keep()
    finally:  # an interruption keeps what is done
        keep()


class _VectorCache:
    """Vectors in a ``BlobStore``; one that cannot be used costs the cache and no more."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._store = None if file is None else BlobStore(file)

    def read(self, keys: Sequence[bytes]) -> tuple[np.ndarray | None, np.ndarray]:
        """Find vectors.

        Returns:
            (N, dim) float32, rows that were not found undefined, and which were found (N,). None in
            place of the vectors where none was.

        Raises:
            DataError: If they are of different widths.
        """
        vectors: np.ndarray | None = None
        is_found = np.zeros(len(keys), bool)
        for start in range(0, len(keys), _ROWS_AT_ONCE):
            block = keys[start : start + _ROWS_AT_ONCE]
            stored: dict[bytes, bytes] = {}
            with self._or_without() as store:
                stored = {} if store is None else store.read(block)
            rows = [row for row, key in enumerate(block) if key in stored]
            if not rows:
                continue
            widths = {len(blob) // _FLOAT_BYTES for blob in stored.values()}
            if vectors is None:
                vectors = np.empty((len(keys), min(widths)), np.float32)
            if widths != {vectors.shape[1]}:
                raise DataError(
                    f"{self._file}: expected vectors of one width; found {sorted(widths)} beside "
                    f"{vectors.shape[1]}; the model has changed under its name, delete this file"
                )
            together = np.frombuffer(b"".join([stored[block[row]] for row in rows]), np.float32)
            vectors[start + np.array(rows)] = together.reshape(len(rows), -1)
            is_found[start + np.array(rows)] = True
        return vectors, is_found

    def add(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Add vectors (n, dim) float32."""
        for start in range(0, len(keys), _ROWS_AT_ONCE):
            block = slice(start, start + _ROWS_AT_ONCE)
            with self._or_without() as store:
                if store is not None:
                    store.add(
                        {
                            key: vector.tobytes()
                            for key, vector in zip(keys[block], vectors[block], strict=True)
                        }
                    )

    def close(self) -> None:
        """Close the file."""
        if self._store is not None:
            self._store.close()

    @contextlib.contextmanager
    def _or_without(self) -> Iterator[BlobStore | None]:
        """The store; from its first error on there is none."""
        try:
            yield self._store
        except ArtifactError as error:
            logger.warning("vectors are not cached: %s", error)
            self.close()
            self._store = None
