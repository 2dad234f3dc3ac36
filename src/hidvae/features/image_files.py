"""The image file of each item: a path in the dataset's folder, or a URL fetched into the cache."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hidvae.store.cache import cache_folder

logger = logging.getLogger(__name__)

_MAX_BYTES = 20 << 20
_TIMEOUT_SECONDS = 20.0
_TRIES = 4
_FIRST_WAIT_SECONDS = 0.5
_AT_ONCE = 16
_URLS_PER_ROUND = 4096
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class FoundImage:
    """Where an item's image is, or why it could not be had."""

    file: Path | None
    problem: str = ""


def is_url(value: str) -> bool:
    """Whether a value of the image column is fetched over HTTP."""
    return value.lower().startswith(("http://", "https://"))


def find_images(values: Sequence[str], folder: Path | None) -> dict[str, FoundImage]:
    """The file of each distinct value.

    Args:
        values: Paths, absolute or relative to ``folder``, and URLs (http, https).
        folder: The dataset's folder; None where it has none (relative paths are not found then).
    """
    distinct = sorted(set(values))
    found = {value: _local(value, folder) for value in distinct if not is_url(value)}
    return found | fetch_images([value for value in distinct if is_url(value)])


def fetch_images(urls: Sequence[str]) -> dict[str, FoundImage]:
    """Fetch URLs into ``images/`` of the cache, several at once; one that is there is not fetched.

    An image may have 20 MB and must answer within 20 seconds; cut connections and busy servers
    are tried again. One that fails is not remembered: the next run tries it again.
    """
    found: dict[str, FoundImage] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for start in range(0, len(urls), _URLS_PER_ROUND):
            batch = urls[start : start + _URLS_PER_ROUND]
            found |= zip(batch, pool.map(_fetch, batch), strict=True)
            if len(urls) > _URLS_PER_ROUND:
                logger.info("images: fetched %d of %d", len(found), len(urls))
    return found


def _local(value: str, folder: Path | None) -> FoundImage:
    if folder is None and not Path(value).is_absolute():
        return FoundImage(None, "the dataset has no folder to look in")
    file = Path(value) if folder is None else folder / value
    return FoundImage(file) if file.is_file() else FoundImage(None, f"no such file {file}")


def _fetch(url: str) -> FoundImage:
    name = hashlib.sha256(url.encode()).hexdigest()
    file = cache_folder() / "images" / name[:2] / name
    if file.is_file():
        return FoundImage(file)
    problem = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
        try:
            content = _read(url)
        except urllib.error.HTTPError as error:
            problem = f"HTTP status {error.code}"
            error.close()
            if error.code not in _WORTH_ANOTHER_TRY:
                break
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs included
            problem = " ".join(str(error).split()) or type(error).__name__
        except ValueError as error:  # not a URL, or not an image
            return FoundImage(None, " ".join(str(error).split()))
        else:
            if len(content) > _MAX_BYTES:
                return FoundImage(None, f"more than {_MAX_BYTES >> 20} MB")
            return _kept(file, content)
    return FoundImage(None, problem)


def _read(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "hidvae", "Accept": "image/*"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
        if response.headers.get_content_maintype() == "text":  # an error page of status 200
            raise ValueError(f"found {response.headers.get_content_type()}, not an image")
        content: bytes = response.read(_MAX_BYTES + 1)
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and len(content) < min(int(length), _MAX_BYTES + 1):
            raise http.client.IncompleteRead(content, int(length) - len(content))
    return content


def _kept(file: Path, content: bytes) -> FoundImage:
    temporary = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}.writing")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        return FoundImage(None, f"the cache cannot be written ({error.strerror})")
    return FoundImage(file)
