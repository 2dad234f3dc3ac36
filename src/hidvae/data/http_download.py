"""Download a file over HTTP: what has arrived survives cuts and kills, and is continued.

The bytes are collected in a part file. It is continued only if the server can show that the file is
still the same (ETag or Last-Modified, RFC 9110 13.1.5), so that two versions are never glued
together. urllib3's ``Retry`` counts the tries and reads Retry-After.
"""

from __future__ import annotations

import logging
import re
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from urllib3.util import Retry

from hidvae.data.transfer_progress import show_transfer
from hidvae.store.artifacts import read_json, write_json

_LOGGER = logging.getLogger("hidvae.download")

_RETRY = Retry(
    5,
    backoff_factor=1.0,
    backoff_max=60.0,
    status_forcelist=(408, 425, 429, 500, 502, 503, 504),
)
_MUCH_BYTES = 1 << 20  # a try that brought this much starts the count of failures anew
_LONGEST_RETRY_AFTER = 600.0
_TIMEOUT_SECONDS = 30.0  # for a connection, and for the next bytes
_BLOCK_BYTES = 1 << 16
_HEADERS = {
    "User-Agent": f"hidvae/{version('hidvae')}",  # some hosts refuse anonymous clients
    "Accept-Encoding": "identity",  # the bytes of the file, not of a transfer coding
}


class Unavailable(Exception):
    """The address does not give the file; says why, and trying again at once is no use."""


class _TryAgain(Exception):
    """A passing fault; ``pause`` is what the server asks for, in seconds."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


def download(url: str, part: Path, first_bytes: int = 0) -> None:
    """Bring the bytes of an address into a file.

    Args:
        url: The address.
        part: The file; ``<part>.json`` beside it says what it is a part of, until it is whole.
        first_bytes: Stop after this many bytes; 0 takes the whole file.

    Raises:
        Unavailable: If the address does not have the file or the retries are used up.
        OSError: If the disk is full or not writable; what has arrived stays for the next time.
    """
    retry = _RETRY
    with requests.Session() as session:
        session.headers.update(_HEADERS)
        while True:
            before = _size(part)
            try:
                _transfer(session, url, part, first_bytes)
                break
            except _TryAgain as failure:
                if _size(part) - before >= _MUCH_BYTES:
                    retry = _RETRY
                try:
                    retry = retry.increment("GET", url)
                except urllib3.exceptions.MaxRetryError:
                    tries = len(retry.history) + 1
                    raise Unavailable(f"{failure} (tried {tries} times)") from failure
                pause = retry.get_backoff_time() if failure.pause is None else failure.pause
                host = urlsplit(url).hostname
                _LOGGER.info("%s: %s; trying again in %.0f s", host, failure, pause)
                time.sleep(pause)
    _state_file(part).unlink(missing_ok=True)


def _transfer(session: requests.Session, url: str, part: Path, first_bytes: int) -> None:
    """One request: the whole file, or what is missing of it."""
    state = _read_state(part, url)
    have = _size(part) if state else 0
    if first_bytes and have >= first_bytes:
        return
    headers = {}
    if have or first_bytes:
        headers["Range"] = f"bytes={have}-{first_bytes - 1 if first_bytes else ''}"
    if have:
        headers["If-Range"] = state["validator"]
    try:
        with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as response:
            if have and response.headers.get("Content-Range") == f"bytes */{have}":
                return  # status 416: no byte is missing
            _check_status(response, part)
            _receive(url, response, part, have, state, first_bytes)
    except requests.exceptions.SSLError as error:
        raise Unavailable(f"no secure connection ({_reason(error)})") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        if _is_unknown_host(error) and not have:
            raise Unavailable("no such host; is this machine offline?") from error
        raise _TryAgain(f"connection lost ({_reason(error)})") from error


def _check_status(response: requests.Response, part: Path) -> None:
    """Raise unless the response brings the file."""
    status, named = response.status_code, f"{response.status_code} {response.reason}"
    if status == 416:
        _start_over(part, "the partial file does not fit the one on the server")
    if _RETRY.is_retry("GET", status):
        try:
            pause = _RETRY.get_retry_after(response.raw)
        except urllib3.exceptions.InvalidHeader:
            pause = None
        if pause is not None and pause > _LONGEST_RETRY_AFTER:
            raise Unavailable(f"{named}, asks to come back in {pause:.0f} s")
        raise _TryAgain(named, pause)
    if status not in (200, 206):
        raise Unavailable(named)
    if status == 200 and response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise Unavailable(
            "a web page came instead of the file (a quota, a sign-in or a network's login page)"
        )


def _receive(
    url: str,
    response: requests.Response,
    part: Path,
    have: int,
    state: dict[str, Any],
    first_bytes: int,
) -> None:
    """Write the response's bytes to their place in the part."""
    start, total = _position(response)
    validator = _validator(response)
    if response.status_code == 206:
        is_same = not state or (total == state["total"] and validator in ("", state["validator"]))
        if start != have or not is_same:
            _start_over(part, "the file has changed on the server")
    if start == 0:  # in this order: a kill must not leave old bytes with the new state
        part.unlink(missing_ok=True)
        write_json(_state_file(part), {"url": url, "validator": validator, "total": total})
    wanted = min((n for n in (first_bytes, total) if n), default=None)
    name = part.name.removesuffix(".part")
    with (
        part.open("r+b" if start else "wb") as file,
        show_transfer(name, done=start, total=wanted) as show,
    ):
        file.seek(start)
        now = start
        for block in response.raw.stream(_BLOCK_BYTES, decode_content=False):
            file.write(block[: wanted - now] if wanted else block)
            now = file.tell()
            show(now)
            if wanted and now >= wanted:
                break
        file.truncate()
    if wanted and now != wanted:
        raise _TryAgain(f"connection closed after {now} of {wanted} bytes")


def _start_over(part: Path, reason: str) -> None:
    part.unlink(missing_ok=True)
    raise _TryAgain(f"{reason}; starting over", 0.0)


def _position(response: requests.Response) -> tuple[int, int | None]:
    """First byte that the response brings, and size of the whole file where the server says it."""
    if response.status_code == 206:
        found = re.fullmatch(
            r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
        )
        if not found:
            raise Unavailable("a partial answer without a Content-Range")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _validator(response: requests.Response) -> str:
    """What identifies this version of the file; weak ETags do not (RFC 9110 13.1.5)."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _read_state(part: Path, url: str) -> dict[str, Any]:
    """What the part belongs to; empty if it cannot be continued from ``url``."""
    if not (part.is_file() and _state_file(part).is_file()):
        return {}
    state: dict[str, Any] = read_json(_state_file(part))
    return state if state["url"] == url and state["validator"] else {}


def _state_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _is_unknown_host(error: BaseException) -> bool:
    inner = _inner(error)
    is_it = isinstance(error, urllib3.exceptions.NameResolutionError)
    return is_it or (inner is not None and _is_unknown_host(inner))


def _reason(error: Exception) -> str:
    """The innermost message, one line: the outer ones repeat the address."""
    cause: BaseException = error
    while (inner := _inner(cause)) is not None:
        cause = inner
    return " ".join(str(cause).split()) or type(cause).__name__


def _inner(error: BaseException) -> BaseException | None:
    """The error that requests or urllib3 wrapped: MaxRetryError has it as ``reason``."""
    for inner in (getattr(error, "reason", None), *error.args[:1]):
        if isinstance(inner, BaseException):
            return inner
    return None
