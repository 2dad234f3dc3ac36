"""One writer per run: whoever comes second is told who writes, and since when."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from hidvae.errors import ArtifactError
from hidvae.store.artifacts import read_json, write_json

_LOCK, _HOLDER = ".lock", ".lock.json"


@contextlib.contextmanager
def writing(run: Path) -> Iterator[None]:
    """Hold the lock of a run within the block; the system frees it when the process ends.

    Args:
        run: Its folder, made if it is not there; a block that writes nothing leaves none.

    Raises:
        ArtifactError: If another process holds it, or the folder cannot be written.
    """
    is_new = not run.exists()
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run / _LOCK, blocking=False)
        lock.acquire()
    except Timeout:
        raise ArtifactError(
            f"{run}: expected no other command that changes it; found {_holder(run)}; wait for it, "
            "stop it, or choose another --output"
        ) from None
    except OSError as error:
        raise ArtifactError(
            f"could not write {run}: {error.strerror or error}; choose another --output"
        ) from error
    try:
        with contextlib.suppress(OSError):  # only for the message above
            write_json(
                run / _HOLDER,
                {
                    "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
                    "process": os.getpid(),
                    "host": socket.gethostname(),
                    "since": datetime.now().isoformat(" ", "seconds"),
                },
            )
        yield
    finally:
        try:
            (run / _HOLDER).unlink(missing_ok=True)
            if is_new and [entry.name for entry in run.iterdir()] == [_LOCK]:
                (run / _LOCK).unlink()
                run.rmdir()
        finally:
            lock.release()


def _holder(run: Path) -> str:
    try:
        holder = read_json(run / _HOLDER)
        return (
            f"`{holder['command']}`, process {holder['process']} on {holder['host']}, since "
            f"{holder['since']}"
        )
    except (ArtifactError, KeyError, TypeError):
        return "another process"
