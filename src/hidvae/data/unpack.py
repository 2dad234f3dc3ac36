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

from hidvae.errors import DataError

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
    """Extract the wanted files; returns their paths."""
    wanted = []
    reader = _from_zip if zipfile.is_zipfile(archive) else _from_tar
    for name in reader(archive, folder, members):
        if (folder / name).is_file():
            wanted.append(str(PurePosixPath(name)))
    return wanted


def _from_zip(archive: Path, folder: Path, members: tuple[str, ...]) -> Iterator[str]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            _check_inside(archive, member.filename)
            if _is_wanted(member.filename, members):
                file.extract(member, folder)
                yield member.filename


def _from_tar(archive: Path, folder: Path, members: tuple[str, ...]) -> Iterator[str]:
    with tarfile.open(archive) as file:
        for member in file:
            _check_inside(archive, member.name)
            if _is_wanted(member.name, members):
                try:
                    file.extract(member, folder, filter="data")  # refuses links that lead outside
                except tarfile.FilterError as error:
                    raise _outside(archive, member.name) from error
                yield member.name
        while file.fileobj and file.fileobj.read(1 << 20):
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
        f"{archive}: expected members inside of the archive's folder; found {name!r}; the archive "
        "is not to be trusted and was not used"
    )


def _replace(new: Path, old: Path) -> None:
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old)
    os.replace(new, old)
