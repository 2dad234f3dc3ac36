"""Vectors on disk, found by the SHA-256 of what they stand for.

One folder per model holds shards (``*.safetensors``: ``keys`` (M, 32) uint8, ``vectors`` (M, dim)
float32, ``checksums`` of blocks of rows). A shard appears whole, under a name of its own, and is
never written to again, so several processes may fill one folder; ``compact`` merges small shards.
Everything in it can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save_file

logger = logging.getLogger(__name__)

KEY_BYTES = 32
KEY_DTYPE = np.dtype(f"S{KEY_BYTES}")
"""Keys compare as byte strings; trailing zero bytes, which NumPy drops, do no
harm as all keys are of one length."""
_BLOCK_ROWS = 8192
_SMALL_SHARD_BYTES = 256 << 20
_LEFTOVER_SECONDS = 24 * 3600.0
_ENDING = ".safetensors"


class DamagedShardError(Exception):
    """A shard that does not hold what was written; its vectors have to be made again."""


class VectorCache:
    """The shards of one folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def read(self, keys: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """Find vectors; damaged shards are deleted with a warning.

        Blocks of rows are copied straight to their places, so that memory is needed for the result
        and little else.

        Args:
            keys: (N,) of KEY_DTYPE, in any order, repeats allowed.

        Returns:
            (N, dim) float32, rows of keys that were not found undefined, and which were found (N,).
            None in place of the vectors where there is no shard at all.
        """
        wanted = _Wanted(keys)
        vectors: np.ndarray | None = None
        is_found = np.zeros(len(keys), bool)
        for file in self._each_shard():
            with _dropped_if_damaged(file), _Shard(file) as shard:
                if vectors is None:
                    vectors = np.empty((len(keys), shard.dim), np.float32)
                if shard.dim != vectors.shape[1]:
                    raise DamagedShardError(f"{shard.dim} columns, not {vectors.shape[1]}")
                is_found |= shard.copy_into(vectors, wanted, is_found)
        return vectors, is_found

    def write(self, keys: np.ndarray, vectors: np.ndarray) -> bool:
        """Add a shard, whole or not at all; a full disk only costs the cache.

        Args:
            keys: (M,) of KEY_DTYPE.
            vectors: (M, dim) float32, finite.

        Returns: Whether it was written.
        """
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}"
        temporary = self.folder / f"{name}.writing"
        raw_keys = _as_bytes(keys)
        vectors = np.ascontiguousarray(vectors, np.float32)
        tensors = {"keys": raw_keys, "vectors": vectors, "checksums": _checksums(raw_keys, vectors)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, temporary)
            os.replace(temporary, self.folder / (name + _ENDING))
        except (OSError, safetensors.SafetensorError) as error:
            logger.warning("%s: cannot be written (%s); vectors are not cached", self.folder, error)
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            return False
        return True

    def compact(self) -> None:
        """Merge small shards into shards of up to 256 MB, so that many of them read as fast as one.

        The merged shard is there before its sources go; whoever reads meanwhile finds one or the
        other, and a kill in between leaves both, which is merely larger.
        """
        self._remove_leftovers()
        group: list[Path] = []
        group_bytes = 0
        for file, num_bytes in self._sizes().items():
            if num_bytes > _SMALL_SHARD_BYTES // 2:
                continue
            if group_bytes + num_bytes > _SMALL_SHARD_BYTES:
                self._merge(group)
                group, group_bytes = [], 0
            group.append(file)
            group_bytes += num_bytes
        self._merge(group)

    def _sizes(self) -> dict[Path, int]:
        sizes = {}
        for file in self._shard_files():
            with contextlib.suppress(FileNotFoundError):  # another process has just merged it
                sizes[file] = file.stat().st_size
        return sizes

    def _remove_leftovers(self) -> None:
        """Half-written files of processes that were killed long ago."""
        for file in self.folder.glob("*.writing"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - file.stat().st_mtime > _LEFTOVER_SECONDS:
                    file.unlink()

    def _merge(self, files: Sequence[Path]) -> None:
        if len(files) < 2:
            return
        keys: list[np.ndarray] = []
        vectors: list[np.ndarray] = []
        merged: list[Path] = []
        for file in files:
            with _dropped_if_damaged(file), _Shard(file) as shard:
                if vectors and shard.dim != vectors[0].shape[1]:
                    raise DamagedShardError(f"{shard.dim} columns, not {vectors[0].shape[1]}")
                rows = shard.all_rows()
                keys.append(shard.keys)
                vectors.append(rows)
                merged.append(file)
        if len(merged) < 2:
            return
        together = np.concatenate(keys)
        first = np.sort(np.unique(together, return_index=True)[1])
        if self.write(together[first], np.concatenate(vectors)[first]):
            for file in merged:
                file.unlink(missing_ok=True)

    def _each_shard(self) -> Iterator[Path]:
        """Every shard once, oldest first, those included that appear while others are read."""
        seen: set[Path] = set()
        while new := [file for file in self._shard_files() if file not in seen]:
            seen.update(new)
            yield from new

    def _shard_files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{_ENDING}"))


class _Shard:
    """One open shard, checked block by block as it is read."""

    def __init__(self, file: Path):
        self._file = file

    def __enter__(self) -> _Shard:
        handle: Any = safetensors.safe_open(self._file, "numpy")
        self._handle = handle.__enter__()
        names = set(handle.keys())
        if names != {"keys", "vectors", "checksums"}:
            raise DamagedShardError(f"tensors {', '.join(sorted(names)) or 'none'}")
        self._raw_keys = handle.get_tensor("keys")
        self._checksums = handle.get_tensor("checksums")
        self._vectors = handle.get_slice("vectors")
        shape = tuple(self._vectors.get_shape())
        num_blocks = -(-len(self._raw_keys) // _BLOCK_ROWS)
        if (
            self._raw_keys.shape != (shape[0], KEY_BYTES)
            or self._raw_keys.dtype != np.uint8
            or len(shape) != 2
            or self._vectors.get_dtype() != "F32"
            or self._checksums.shape != (num_blocks,)
        ):
            raise DamagedShardError(f"keys {self._raw_keys.shape}, vectors {shape}")
        self.dim = int(shape[1])
        self.keys = np.ascontiguousarray(self._raw_keys).view(KEY_DTYPE).ravel()
        return self

    def __exit__(self, *details: Any) -> None:
        self._handle.__exit__(*details)

    def copy_into(self, vectors: np.ndarray, wanted: _Wanted, is_found: np.ndarray) -> np.ndarray:
        """Copy the rows of wanted keys to their places in ``vectors``; returns which (N,).

        Only blocks that hold a wanted row are read. Places in ``is_found`` are left alone.
        """
        is_new = np.zeros(len(is_found), bool)
        for block in range(len(self._checksums)):
            start = block * _BLOCK_ROWS
            source, places = wanted.places_of(self.keys[start : start + _BLOCK_ROWS])
            is_needed = ~is_found[places]
            if is_needed.any():
                source, places = source[is_needed], places[is_needed]
                vectors[places] = self._block(block)[source]
                is_new[places] = True
        return is_new

    def all_rows(self) -> np.ndarray:
        """All vectors: (M, dim)."""
        blocks = [self._block(block) for block in range(len(self._checksums))]
        return np.concatenate(blocks) if blocks else np.zeros((0, self.dim), np.float32)

    def _block(self, block: int) -> np.ndarray:
        start, end = block * _BLOCK_ROWS, min((block + 1) * _BLOCK_ROWS, len(self.keys))
        rows: np.ndarray = self._vectors[start:end]
        if _checksums(self._raw_keys[start:end], rows)[0] != self._checksums[block]:
            raise DamagedShardError(f"other bytes in rows {start} to {end}")
        return rows


class _Wanted:
    """Keys to look for, sorted by their first 8 bytes, which are compared much faster than 32."""

    def __init__(self, keys: np.ndarray):
        self._keys = keys
        prefixes = _prefixes(keys)
        self._order = np.argsort(prefixes, kind="stable")
        self._sorted = prefixes[self._order]

    def places_of(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of ``keys`` and the places in the wanted keys that are equal, pair by pair: (P,)."""
        prefixes = _prefixes(keys)
        first = np.searchsorted(self._sorted, prefixes, "left")
        counts = np.searchsorted(self._sorted, prefixes, "right") - first
        rows = np.repeat(np.arange(len(keys)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = self._order[np.repeat(first, counts) + within]
        is_equal = self._keys[places] == keys[rows]
        return rows[is_equal], places[is_equal]


@contextlib.contextmanager
def _dropped_if_damaged(file: Path) -> Iterator[None]:
    """Delete a damaged shard with a warning; one that another process has merged is passed over."""
    try:
        yield
    except FileNotFoundError:
        logger.debug("%s: merged by another process", file)
    except OSError as error:
        logger.warning("%s: cannot be read (%s); its vectors are made again", file, error)
    except (DamagedShardError, safetensors.SafetensorError) as error:
        logger.warning("%s: damaged (%s); its vectors are made again", file, error)
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def _as_bytes(keys: np.ndarray) -> np.ndarray:
    """(M,) keys as (M, 32) uint8."""
    return np.ascontiguousarray(keys, KEY_DTYPE).view(np.uint8).reshape(len(keys), KEY_BYTES)


def _prefixes(keys: np.ndarray) -> np.ndarray:
    """First 8 bytes of each key as a number: (M,) uint64."""
    return _as_bytes(keys).view(np.uint64)[:, 0].copy()


def _checksums(raw_keys: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """CRC-32 of each block of rows, keys and vectors together: (B,) uint32."""
    blocks = [slice(row, row + _BLOCK_ROWS) for row in range(0, len(vectors), _BLOCK_ROWS)]
    checksums = [
        zlib.crc32(vectors[block].data, zlib.crc32(raw_keys[block].data)) for block in blocks
    ]
    return np.array(checksums, np.uint32)
