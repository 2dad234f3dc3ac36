"""The one way in which a file or a folder takes the place of an older one: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

_ENDING = ".writing"
_SWAP_SECONDS = 2.0
"""Far longer than a writer needs between the two renames of ``replace_folder``."""
_CANNOT_SYNC = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file under a name of its own, and rename it when the block ends without an error.

    A reader sees the old file or the new one, also after a kill or a power cut. Nothing is left
    behind by an error; what a killed process left is removed by the next write of that file.

    Args:
        path: The file; its folder must be there.

    Raises:
        OSError: If the disk is full, or the file cannot be written.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def temporary_name(path: Path) -> Path:
    """A hidden name beside ``path`` that no other process uses; removes what killed ones left."""
    for left in path.parent.glob(f".{glob_escape(path.name)}.*{_ENDING}"):
        if _is_abandoned(left):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return path.parent / f".{path.name}.{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{_ENDING}"


def replace_folder(new: Path, path: Path) -> None:
    """Put the folder ``new`` in the place of ``path``; ``settled`` mends a kill in the middle."""
    for file in sorted(new.rglob("*")):
        sync(file)
    sync(new)
    old = _old(path)
    if old.exists():  # of a killed writer, or held open by readers of a network file system
        left = temporary_name(path)
        os.replace(old, left)
        shutil.rmtree(left, ignore_errors=True)
    while True:
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(new, path)
            break
        except OSError as error:  # a reader has put the old folder back meanwhile
            if error.errno not in _NOT_EMPTY:
                raise
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def settled(path: Path) -> Path:
    """The folder ``path``, put back if its writer was killed between two renames."""
    old = _old(path)
    deadline = time.monotonic() + _SWAP_SECONDS
    while old.exists() and not path.exists():
        if time.monotonic() > deadline:
            with contextlib.suppress(FileNotFoundError):  # another reader was quicker
                os.replace(old, path)
        else:
            time.sleep(0.05)
    return path


def sync(path: Path) -> None:
    """Have the disk keep a file or the names in a folder, before something relies on it."""
    with contextlib.suppress(PermissionError):  # Windows opens no folders
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:  # some network file systems sync no folders
            if error.errno not in _CANNOT_SYNC or not path.is_dir():
                raise
        finally:
            os.close(handle)


def glob_escape(name: str) -> str:
    """A name in which a glob finds only itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _old(path: Path) -> Path:
    return path.parent / f".{path.name}.old"


def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _is_abandoned(temporary: Path) -> bool:
    """Whether a process of this machine began to write it, and is there no more."""
    host, _, rest = temporary.name.removesuffix(_ENDING).rpartition(".")[2].partition("-")
    process = rest.partition("-")[0]
    if host != _host() or not process.isdigit() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
