"""Unpack zip and tar archives: whole or not at all, and never outside of the folder."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path

from rich.filesize import decimal

from hidvae.errors import DataError

_BLOCK_BYTES = 1 << 20
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)
_MOST_TIMES_LARGER, _ALWAYS_ALLOWED = 100, 1 << 30
"""Tables shrink to a tenth or so: what would grow a hundredfold is there to fill the disk."""


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
        DataError: If the archive is damaged, lacks a member, leads outside of the folder, or is far
            larger inside than outside.
    """
    temporary = folder / f".{archive.name}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        (_extract_zip if zipfile.is_zipfile(archive) else _extract_tar)(archive, temporary, members)
        sizes = {
            path.relative_to(temporary).as_posix(): path.stat().st_size
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        missing = [end for end in members if not any(_ends_with(name, end) for name in sizes)]
        if missing or not sizes:
            raise DataError(
                f"{archive}: expected {', '.join(missing) or 'files'} in it; found none; it is "
                "a different archive and was not used; run the command again to download it"
            )
        for entry in sorted(temporary.iterdir()):
            _replace(entry, folder / entry.name)
    except tarfile.FilterError as error:
        raise DataError(
            f"{archive}: expected plain files inside of the archive's folder; found "
            f"{error.tarinfo.name!r}; the archive is not to be trusted and was not used"
        ) from error
    except _DAMAGED as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{archive}: expected a whole archive; it is damaged ({reason}) and was not used; run "
            "the command again to download it"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sizes


def _extract_zip(archive: Path, folder: Path, members: tuple[str, ...]) -> None:
    with zipfile.ZipFile(archive) as file:
        chosen = [member for member in file.infolist() if _is_wanted(member.filename, members)]
        _check_size(archive, sum(member.file_size for member in chosen))
        for member in chosen:
            file.extract(member, folder)  # leaves roots and .. out of names


def _extract_tar(archive: Path, folder: Path, members: tuple[str, ...]) -> None:
    num_bytes = 0
    with tarfile.open(archive) as file:
        for member in file:
            if _is_wanted(member.name, members):
                num_bytes += member.size
                _check_size(archive, num_bytes)
                file.extract(member, folder, filter="data")
        while file.fileobj and file.fileobj.read(_BLOCK_BYTES):
            pass  # to the very end, where the checksum of the compression stands


def _check_size(archive: Path, num_bytes: int) -> None:
    limit = max(_ALWAYS_ALLOWED, _MOST_TIMES_LARGER * archive.stat().st_size)
    if num_bytes > limit:
        raise DataError(
            f"{archive}: expected at most {decimal(limit)} in it; found {decimal(num_bytes)} or "
            "more; the archive is not to be trusted and was not used"
        )


def _is_wanted(name: str, members: tuple[str, ...]) -> bool:
    return not members or any(_ends_with(name, end) for end in members)


def _ends_with(name: str, end: str) -> bool:
    return f"/{name}".endswith(f"/{end}")


def _replace(new: Path, old: Path) -> None:
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old)
    os.replace(new, old)
