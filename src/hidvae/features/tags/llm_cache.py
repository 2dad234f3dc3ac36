"""Answers of language models on disk: every answer is kept the moment it arrives.

One SQLite file, ``$HIDVAE_CACHE/llm/answers.sqlite``, shared by all runs of a machine. Several
threads and processes may use it at once, and a killed one loses nothing that it had received.
It holds answers under digests of their prompts: neither prompts nor keys nor addresses.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hidvae.errors import ArtifactError

_SECONDS_TO_WAIT_FOR_OTHERS = 60.0
_KEYS_PER_QUERY = 500
"""SQLite allows at least 999 parameters in a statement."""


@dataclass(frozen=True)
class StoredAnswer:
    """What a model answered, and the tokens it took then."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class AnswerCache:
    """Answers by key; an answer once stored is never changed."""

    def __init__(self, file: Path):
        self.file = file
        self._lock = threading.Lock()  # one connection for all threads
        with self._or_explain():
            file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                file,
                timeout=_SECONDS_TO_WAIT_FOR_OTHERS,
                isolation_level=None,  # every statement is committed by itself
                check_same_thread=False,
            )
            # readers and writers of several processes do not wait for each other
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, text TEXT NOT NULL, "
                "prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL) WITHOUT ROWID"
            )

    def read(self, keys: Iterable[str]) -> dict[str, StoredAnswer]:
        """The answers that are there, by key.

        Raises:
            ArtifactError: If the file is damaged.
        """
        wanted = list(dict.fromkeys(keys))
        found: dict[str, StoredAnswer] = {}
        with self._or_explain(), self._lock:
            for start in range(0, len(wanted), _KEYS_PER_QUERY):
                part = wanted[start : start + _KEYS_PER_QUERY]
                marks = ", ".join("?" * len(part))
                rows = self._connection.execute(
                    "SELECT key, text, prompt_tokens, completion_tokens FROM answers "
                    f"WHERE key IN ({marks})",
                    part,
                )
                found.update({key: StoredAnswer(*values) for key, *values in rows})
        return found

    def store(self, key: str, answer: StoredAnswer) -> StoredAnswer:
        """Keep an answer and return the one that counts: another process may have been first.

        Raises:
            ArtifactError: If the file is damaged or the disk is full.
        """
        with self._or_explain(), self._lock:
            self._connection.execute(
                "INSERT INTO answers VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
                (key, answer.text, answer.prompt_tokens, answer.completion_tokens),
            )
        return self.read([key])[key]

    def close(self) -> None:
        """Close the file; WAL files beside it are merged into it."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _or_explain(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ArtifactError(
                f"{self.file}: expected a writable cache of model answers; found: {error}; free "
                "some space, set $HIDVAE_CACHE to another folder, or delete the file (its "
                "answers must then be asked for again)"
            ) from error
