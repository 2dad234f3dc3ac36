"""The image of each item: a file in the dataset's folder, or a URL fetched into the cache."""

from __future__ import annotations

import http.client
import logging
import os
import time
import urllib.error
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hidvae.errors import ArtifactError
from hidvae.features.cached_encoding import content_key
from hidvae.features.fetch_image import RefusedImageError, fetch_image, is_url
from hidvae.store.blobs import BlobStore

logger = logging.getLogger(__name__)

DOWNLOADS_FILE = "images.sqlite"
"""In the cache folder: what URLs answered, under their SHA-256."""
_MAX_BYTES = 20 << 20
_SECONDS_PER_IMAGE = 20.0
"""Longest time for an image, all tries together."""
_TRIES = 4
_FIRST_WAIT_SECONDS = 0.5
_AT_ONCE = 16
_URLS_PER_ROUND = 4096
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class FoundImage:
    """An item's image, or why it could not be had."""

    value: str
    """Its path or URL, as the catalogue has it."""
    read: Callable[[], bytes] | None
    """Gives its bytes; None if it could not be had."""
    problem: str = ""

    def content(self) -> bytes:
        """Its bytes; none if it is gone meanwhile, which is no image either."""
        try:
            return self.read() if self.read is not None else b""
        except (OSError, ArtifactError):
            return b""


def find_images(
    values: Sequence[str], folder: Path | None, downloads: BlobStore
) -> dict[str, FoundImage]:
    """The image of each distinct value.

    Args:
        values: Paths, within ``folder``, and URLs (http, https).
        folder: The dataset's folder; None where it has none (paths are not found then).
        downloads: Where URLs are fetched into.
    """
    distinct = sorted(set(values))
    found = {value: _local(value, folder) for value in distinct if not is_url(value)}
    return found | fetch_images([value for value in distinct if is_url(value)], downloads)


def local_file(value: str, folder: Path) -> Path | None:
    """The file that a path names; None if that is outside of the folder.

    Links within the folder may lead anywhere: they are its owner's, a path is the catalogue's.
    """
    root = os.path.abspath(folder)
    path = os.path.abspath(os.path.join(root, value))
    return Path(path) if os.path.commonpath([root, path]) == root else None


def fetch_images(urls: Sequence[str], downloads: BlobStore) -> dict[str, FoundImage]:
    """Fetch URLs, several at once; one that is there is not fetched.

    An image may have 20 MB and must be there within 20 seconds; cut connections and busy servers
    are tried again meanwhile. One that fails is not remembered: the next run tries it again.
    """
    found: dict[str, FoundImage] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for start in range(0, len(urls), _URLS_PER_ROUND):
            batch = urls[start : start + _URLS_PER_ROUND]
            images = pool.map(lambda url: _fetched(url, downloads), batch)
            found |= zip(batch, images, strict=True)
            if len(urls) > _URLS_PER_ROUND:
                logger.info("images: fetched %d of %d", len(found), len(urls))
    return found


def _local(value: str, folder: Path | None) -> FoundImage:
    if folder is None:
        return FoundImage(value, None, "the dataset has no folder to look in")
    file = local_file(value, folder)
    if file is None:
        return FoundImage(value, None, f"outside of {folder}, the dataset's folder")
    if not file.is_file():
        return FoundImage(value, None, f"no such file {file}")
    return FoundImage(value, file.read_bytes)


def _fetched(url: str, downloads: BlobStore) -> FoundImage:
    key = content_key(url.encode())
    try:
        problem = ""
        if not downloads.known([key]):
            content = _fetch(url)
            if isinstance(content, str):
                problem = content
            else:
                downloads.add({key: content})
    except ArtifactError as error:
        problem = str(error)
    if problem:
        return FoundImage(url, None, problem)
    return FoundImage(url, lambda: downloads.read([key]).get(key, b""))


def _fetch(url: str) -> bytes | str:
    """The image, or why it could not be had."""
    ends = time.monotonic() + _SECONDS_PER_IMAGE
    problem = ""
    for attempt in range(_TRIES):
        wait = _FIRST_WAIT_SECONDS * 2 ** (attempt - 1) if attempt else 0.0
        if time.monotonic() + wait >= ends:
            break
        time.sleep(wait)
        try:
            return fetch_image(url, ends, _MAX_BYTES)
        except urllib.error.HTTPError as error:
            problem = f"HTTP status {error.code}"
            error.close()
            if error.code not in _WORTH_ANOTHER_TRY:
                break
        except RefusedImageError as error:
            return str(error)
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs included
            problem = " ".join(str(error).split()) or type(error).__name__
        except ValueError as error:  # not a URL
            return " ".join(str(error).split())
    return problem
