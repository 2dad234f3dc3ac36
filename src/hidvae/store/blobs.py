"""Bytes by key in one SQLite file: what is costly to make, kept for all runs of a machine.

Vectors, answers of language models and downloaded images lie in such files below ``$HIDVAE_CACHE``.
Several threads and processes may use one at once, and one that is killed loses nothing that was
added. A file can be deleted at any time; its place is on a local disk, as SQLite's locks and shared
memory do not work on every network file system.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hidvae.errors import ArtifactError

logger = logging.getLogger(__name__)

_SECONDS_TO_WAIT = 60.0
"""Longest wait for other processes."""
_KEYS_PER_QUERY = 900
"""SQLite allows at least 999 parameters in a statement."""
_PAGE_BYTES = 16384
"""Holds ten vectors of 384 numbers; pages of 4 KiB hold two, and take twice as long to write."""
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
"""The last: the file has other tables than ours, as the statements themselves are right."""
_LOWEST_BYTE = 0xFF
"""Of SQLite's error codes, the kind; the rest is detail."""

T = TypeVar("T")


class BlobStore:
    """The blobs of one file, which is made when the first is added.

    A blob, once added, is never changed. Each is kept with a checksum: one that reads differently
    is not found, and a file that SQLite finds damaged is made anew; both with a line in the log.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.RLock()  # one connection for all threads
        self._connection: sqlite3.Connection | None = None
        self._file_number = 0

    def __enter__(self) -> BlobStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def read(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The blobs that are there, by key.

        Raises:
            ArtifactError: If the file cannot be opened, or others hold it for too long.
        """
        wanted = list(dict.fromkeys(keys))
        if self._connection is None and not self.file.exists():
            return {}
        return self._retried(lambda connection: self._read(connection, wanted))

    def known(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of the keys whose blobs are there, without reading them.

        Raises:
            ArtifactError: As ``read``.
        """
        wanted = list(dict.fromkeys(keys))
        if self._connection is None and not self.file.exists():
            return set()
        return self._retried(lambda c: {key for (key,) in _select(c, "key", wanted)})

    def add(self, blobs: Mapping[bytes, bytes]) -> None:
        """Add all blobs or none; those whose key is there already are passed over.

        Raises:
            ArtifactError: If the disk is full, the file cannot be written, or others hold it for
                too long.
        """
        rows = [(key, _checksum(key, blob), blob) for key, blob in blobs.items()]

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")

        self._retried(insert)

    def close(self) -> None:
        """Close the file; the last one to do so merges the log beside it."""
        with self._lock:
            if self._connection is not None:
                with contextlib.suppress(sqlite3.Error):  # a full disk, a deleted folder
                    self._connection.close()
            self._connection = None

    def _read(self, connection: sqlite3.Connection, keys: list[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for key, checksum, blob in _select(connection, "key, checksum, blob", keys):
            if checksum == _checksum(key, blob):
                found[key] = blob
            else:
                logger.warning("%s: an entry is damaged and will be made again", self.file)
                connection.execute("DELETE FROM blobs WHERE key = ?", [key])
        return found

    def _retried(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """Do it, once more where the file was damaged or has been deleted."""
        with self._lock:
            try:
                try:
                    return action(self._opened())
                except sqlite3.Error as error:
                    self._undo()
                    if not self._is_mended(error):
                        raise
                    return action(self._opened())
            except (sqlite3.Error, OSError) as error:
                self._undo()
                raise ArtifactError(
                    f"{self.file}: expected a writable cache; found: {error}; free some "
                    "space, set $HIDVAE_CACHE to another folder, or delete the file (its contents "
                    "are then made again)"
                ) from error

    def _undo(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _is_mended(self, error: sqlite3.Error) -> bool:
        """Whether there is a whole file again, or none."""
        kind = getattr(error, "sqlite_errorcode", 0) & _LOWEST_BYTE
        if kind in _DAMAGE:
            if self._number_on_disk() == self._file_number:  # else another process has done it
                logger.warning("%s: damaged (%s), and will be made again", self.file, error)
                for ending in ("", "-wal", "-shm"):
                    self.file.with_name(self.file.name + ending).unlink(missing_ok=True)
        elif self.file.exists():
            return False
        self.close()
        return True

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        self.file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self.file,
            timeout=_SECONDS_TO_WAIT,
            isolation_level=None,  # transactions begin and end where the code says so
            check_same_thread=False,
        )
        self._connection, self._file_number = connection, self._number_on_disk()
        deadline = time.monotonic() + _SECONDS_TO_WAIT
        while True:
            try:
                connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                # readers and writers of several processes do not wait for each other
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS blobs "
                    "(key BLOB PRIMARY KEY, checksum INTEGER NOT NULL, blob BLOB NOT NULL)"
                )
                return connection
            except sqlite3.OperationalError as error:
                # two that make the file at once are told so without waiting
                is_busy = error.sqlite_errorcode & _LOWEST_BYTE == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _number_on_disk(self) -> int:
        """The inode of the file, 0 if there is none."""
        try:
            return self.file.stat().st_ino
        except FileNotFoundError:
            return 0


def _select(
    connection: sqlite3.Connection, columns: str, keys: list[bytes]
) -> Iterator[tuple[Any, ...]]:
    """The rows of the keys that are there."""
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        part = keys[start : start + _KEYS_PER_QUERY]
        marks = ", ".join("?" * len(part))
        yield from connection.execute(
            f"SELECT {columns} FROM blobs WHERE key IN ({marks})", part
        ).fetchall()


def _checksum(key: bytes, blob: bytes) -> int:
    return zlib.crc32(blob, zlib.crc32(key))
