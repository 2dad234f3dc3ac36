"""Unpack zip and tar archives: whole or not at all, and never outside of the folder."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from hidvae.errors import DataError

_BLOCK_BYTES = 1 << 20
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)


def unpack(archive: Path, folder: Path, members: tuple[str, ...] = ()) -> dict[str, int]:
    """Unpack an archive into a folder, with the paths that it has inside.

    The files are unpacked beside their place and renamed when all are there; what had the same
    name in the folder is replaced.

    Args:
        archive: A zip or (compressed) tar file.
        folder: Where to.
        members: Endings of the paths to unpack, whole path parts; empty takes everything.

    Returns:
        Size in bytes of each unpacked file, by its path in the folder.

    Raises:
        DataError: If the archive is damaged, lacks a member, or would write outside of the folder.
    """
    temporary = folder / f".{archive.name}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        names = _extract(archive, temporary, members)
        missing = [end for end in members if not any(_ends_with(name, end) for name in names)]
        if missing or not names:
            raise DataError(
                f"{archive}: expected {', '.join(missing) or 'files'} in it; found none; it is "
                "another archive than expected and was not used; run the command again to fetch it"
            )
        for entry in sorted(temporary.iterdir()):
            _replace(entry, folder / entry.name)
    except _DAMAGED as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{archive}: expected a whole archive; it is damaged ({reason}) and was not used; run "
            "the command again to fetch it"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {name: (folder / name).stat().st_size for name in sorted(names)}


def _extract(archive: Path, folder: Path, members: tuple[str, ...]) -> list[str]:
    """Copy the wanted files out; only their bytes, no owners, modes or links. Returns paths."""
    extracted = []
    reader = _from_zip if zipfile.is_zipfile(archive) else _from_tar
    for name, content in reader(archive, members):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(content, file, _BLOCK_BYTES)
        extracted.append(str(PurePosixPath(name)))
    return extracted


def _from_zip(archive: Path, members: tuple[str, ...]) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            _check_inside(archive, member.filename)
            if not member.is_dir() and _is_wanted(member.filename, members):
                with file.open(member) as content:
                    yield member.filename, content


def _from_tar(archive: Path, members: tuple[str, ...]) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive) as file:
        for member in file:
            _check_inside(archive, member.name)
            if member.isdir() or not _is_wanted(member.name, members):
                continue
            content = file.extractfile(member) if member.isfile() else None
            if content is None:  # a link, which may lead anywhere, or a device
                raise _outside(archive, member.name)
            yield member.name, content
        while file.fileobj and file.fileobj.read(_BLOCK_BYTES):
            pass  # to the very end, where the checksum of the compression stands


def _is_wanted(name: str, members: tuple[str, ...]) -> bool:
    return not members or any(_ends_with(name, end) for end in members)


def _ends_with(name: str, end: str) -> bool:
    return f"/{name}".endswith(f"/{end}")


def _check_inside(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name.partition("/")[0]:
        raise _outside(archive, name)


def _outside(archive: Path, name: str) -> DataError:
    return DataError(
        f"{archive}: expected plain files inside of the archive's folder; found {name!r}; the "
        "archive is not to be trusted and was not used"
    )


def _replace(new: Path, old: Path) -> None:
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old)
    os.replace(new, old)
