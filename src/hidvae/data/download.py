"""Fetch a public dataset into the cache, once: ``fetch_dataset``.

::

    <cache>/datasets/movielens-1m/   the official files, archives unpacked as they are, and
                                     downloads.json: what came from where, sizes, checksums
    <cache>/downloads/               partial downloads, and files that several datasets need

A file appears under its name only when it is whole and its checksum is right. A dataset that is
there is used without any request; only sizes are compared then, not gigabytes of checksums.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.filesize import decimal

from hidvae.data.sources.remote import RemoteDataset, RemoteFile
from hidvae.data.unpack import unpack
from hidvae.errors import DataError
from hidvae.store.artifacts import read_json, write_json
from hidvae.store.cache import CACHE_VARIABLE, cache_folder
from hidvae.store.files import atomic_write

LICENSE_VARIABLE = "HIDVAE_ACCEPT_LICENSE"
"""Environment variable that says: I have read the licence and accept it."""
RECORD = "downloads.json"
"""File in a dataset's folder that lists what was downloaded into it."""

_LOGGER = logging.getLogger("hidvae.download")


def is_downloaded(dataset: RemoteDataset) -> bool:
    """Whether a public dataset is in the cache, whole as far as sizes tell."""
    record = _read_record(_folder(dataset))
    return all(_is_there(file, _folder(dataset), record) for file in dataset.files)


def fetch_dataset(dataset: RemoteDataset) -> Path:
    """Folder of a public dataset in the cache, downloaded if it is not there.

    Args:
        dataset: Which one.

    Raises:
        DataError: If the licence is not accepted, a file cannot be had or is not the published
            one, or the disk is full or not writable.
    """
    folder = _folder(dataset)
    if is_downloaded(dataset):
        return folder
    if dataset.asks_acceptance and not os.environ.get(LICENSE_VARIABLE):
        raise DataError(
            f"{dataset.name} is not on this machine, and its licence asks you to accept terms "
            f"({dataset.license}): read {dataset.license_url}, then set {LICENSE_VARIABLE}=1 in "
            "the environment, or put the files by hand into a folder and name it with "
            "--set DatasetConfig.folder=PATH"
        )
    try:
        with _alone(folder):
            record = _read_record(folder)  # another run may have fetched it meanwhile
            missing = [file for file in dataset.files if not _is_there(file, folder, record)]
            _announce(dataset, missing)
            for file in missing:
                record[file.name] = _provide(file, dataset)
                write_json(folder / RECORD, record)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}); free some space or choose "
            f"another cache with ${CACHE_VARIABLE}, then run the same command again (what has "
            "arrived is kept)"
        ) from error
    return folder


def fetch_file(file: RemoteFile, folder: Path, *, page: str) -> tuple[Path, dict[str, Any]]:
    """Download one file, from the first of its addresses that has it.

    Without a published checksum, the SHA-256 of the first download is noted beside the file
    (``<name>.json``), and every later download or use of the file has to match it.

    Args:
        file: What to fetch.
        folder: Where the file and its note are kept.
        page: Where a person finds the file, for the error's advice.

    Returns:
        The file and its note: url, bytes, checksum, published (whether the checksum is), date.

    Raises:
        DataError: If no address has it, or what they have does not match the checksum.
        OSError: If the disk is full or not writable.
    """
    path = folder / file.cache_name
    note_file = folder / f"{file.cache_name}.json"
    with _alone(path):
        note: dict[str, Any] = read_json(note_file) if note_file.is_file() else {}
        known = file.checksum or note.get("checksum", "")
        url = note.get("url", "put there by hand")
        if not (path.is_file() and _checksum(path, known) in ("", known)):
            url = _fetch_from_any(file, path, known, page)
        if not known:
            known = _checksum(path, "sha256:")
            _LOGGER.info(
                "%s: its publisher states no checksum to compare with; noted %s for later",
                file.name,
                known,
            )
        note = {
            "url": url,
            "bytes": path.stat().st_size,
            "checksum": known,
            "published": bool(file.checksum),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(note_file, note)
    return path, note


def _fetch_from_any(file: RemoteFile, path: Path, known: str, page: str) -> str:
    """Have the file at ``path``; the address that gave it."""
    # A tenth of a second, which tables of one's own need not wait for.
    from hidvae.data.http_download import Unavailable, download

    part = path.with_name(path.name + ".part")
    reasons: dict[str, list[str]] = {}
    for url in file.urls:
        try:
            download(url, part, file.first_bytes)
            if (found := _checksum(part, known)) == known:
                os.replace(part, path)
                return url
            part.unlink()
            reason = f"expected {known} but got {found}"
            if not file.checksum:
                note_file = path.with_name(path.name + ".json")
                reason += f" (as first downloaded; to accept the new one, delete {note_file})"
        except Unavailable as error:
            reason = str(error)
        _LOGGER.info("%s: %s", url, reason)
        reasons.setdefault(reason, []).append(url)
    why = "; ".join(f"{', '.join(urls)}: {reason}" for reason, urls in reasons.items())
    put = "" if file.first_bytes else f"put it into {path.parent}, or "
    raise DataError(
        f"{file.name}: could not be downloaded ({why}); try again later, or get it by hand from "
        f"{page}: {put}put the dataset's files (archives unpacked) into a folder of yours and name "
        "it with --set DatasetConfig.folder=PATH"
    )


def _checksum(path: Path, like: str) -> str:
    """The checksum of a file by the algorithm of another; empty if that is."""
    algorithm = like.partition(":")[0]
    if not algorithm:
        return ""
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def _provide(file: RemoteFile, dataset: RemoteDataset) -> dict[str, Any]:
    """Fetch a file and put it, or what is in it, into the dataset's folder."""
    folder = _folder(dataset)
    path, note = fetch_file(file, cache_folder() / "downloads", page=dataset.page)
    if file.is_archive:
        _LOGGER.info("unpacking %s", file.name)
        try:
            files = unpack(path, folder, file.members)
        except DataError:  # nobody should meet it again, nor its noted checksum
            path.unlink()
            path.with_name(path.name + ".json").unlink()
            raise
        if not file.is_shared:
            path.unlink()
    else:
        _place(path, folder / file.name, file)
        files = {file.name: (folder / file.name).stat().st_size}
    return {**note, "wanted": _wanted(file), "files": files}


def _place(path: Path, target: Path, file: RemoteFile) -> None:
    """Give a downloaded file its name in the dataset's folder."""
    if file.first_bytes:
        content = path.read_bytes()
        with atomic_write(target) as temporary:
            temporary.write_bytes(content[: content.rindex(b"\n") + 1])
    elif file.is_shared:
        target.unlink(missing_ok=True)
        try:
            os.link(path, target)
        except OSError:  # a file system without hard links, or another one than the cache's
            with atomic_write(target) as temporary:
                shutil.copyfile(path, temporary)
    else:
        os.replace(path, target)


def _folder(dataset: RemoteDataset) -> Path:
    return cache_folder() / "datasets" / dataset.name


def _is_there(file: RemoteFile, folder: Path, record: dict[str, Any]) -> bool:
    """Whether everything of a download is in the folder, by name and size."""
    entry = record.get(file.name)
    if entry is None or entry["wanted"] != _wanted(file):
        return False
    sizes = {folder / name: size for name, size in entry["files"].items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in sizes.items())


def _wanted(file: RemoteFile) -> list[str]:
    """What was asked for; when this changes, the file is fetched again."""
    return [file.checksum, str(file.first_bytes), *file.members]


def _read_record(folder: Path) -> dict[str, Any]:
    return read_json(folder / RECORD) if (folder / RECORD).is_file() else {}


def _announce(dataset: RemoteDataset, missing: list[RemoteFile]) -> None:
    """Say what is coming; refuse early what cannot fit."""
    if not missing:
        return
    folder = _folder(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    known = sum(file.num_bytes for file in missing)
    needed = known + sum(file.unpacked_bytes for file in missing)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: expected {decimal(needed)} of free space for {dataset.name}; found "
            f"{decimal(free)}; free some space or choose another cache with ${CACHE_VARIABLE}"
        )
    _LOGGER.info(
        "downloading %s: %s%s into %s; licence: %s (%s)",
        dataset.name,
        ", ".join(file.name for file in missing),
        f" ({decimal(known)}; {decimal(needed)} when unpacked)" if known else "",
        folder,
        dataset.license,
        dataset.license_url,
    )


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of a path; the system frees it when a process dies, so none goes stale."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _LOGGER.info("%s: another run is fetching it; waiting", path.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
