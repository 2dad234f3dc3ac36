"""A downloader for pooch that survives cuts: it resumes, retries, and knows when to give up.

Pooch checks the checksum and moves the whole file into place; this module only brings the bytes.
They are collected in a ``.part`` file, which stays when the program is stopped. It is continued
only if the server can show that it is still the same file (ETag or Last-Modified, RFC 9110 13.1.5),
so that two versions are never glued together.
"""

from __future__ import annotations

import contextlib
import email.utils
import html.parser
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from hidvae.data.transfer_progress import show_transfer
from hidvae.store.artifacts import read_json, write_json

_LOGGER = logging.getLogger("hidvae.download")

_BLOCK_BYTES = 1 << 16
_MUCH_BYTES = 1 << 20  # a try that brought this much starts the count of failures anew
_LONGEST_PAUSE = 60.0
_LONGEST_RETRY_AFTER = 600.0
_PAGE_BYTES = 1 << 20
_RETRIED_STATUSES = {408, 425, 429}


class Unavailable(Exception):
    """The address does not give the file; says why, and trying again at once is no use."""


class _TryAgain(Exception):
    """A passing fault; ``pause`` is what the server asks for, in seconds."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True)
class _PartState:
    """Which file the ``.part`` belongs to."""

    url: str
    validator: str
    """Strong ETag or Last-Modified; empty if the server gave neither, then nothing is resumed."""
    total: int | None


class ResumingDownloader:
    """Callable in the form that ``pooch.Pooch.fetch`` takes as ``downloader``."""

    def __init__(
        self,
        part: Path,
        *,
        user_agent: str,
        first_bytes: int = 0,
        max_retries: int = 5,
        timeout_seconds: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare a download.

        Args:
            part: Where the bytes are collected; ``<part>.json`` beside it says of which file.
            user_agent: How the program names itself; some hosts refuse anonymous clients.
            first_bytes: Stop after this many bytes; 0 takes the whole file.
            max_retries: Further tries after a failure that brought little or nothing.
            timeout_seconds: Longest wait for a connection and for the next bytes.
            sleep: Waits a number of seconds.
        """
        self.was_asked = False
        """Whether anything had to be downloaded."""
        self._part = part
        self._state_file = part.with_name(part.name + ".json")
        self._first_bytes = first_bytes
        self._max_retries = max_retries
        self._timeout = timeout_seconds
        self._sleep = sleep
        self._session = requests.Session()
        # identity: what is stored (and summed) are the bytes of the file, not of a transfer coding
        self._session.headers.update({"User-Agent": user_agent, "Accept-Encoding": "identity"})

    def __call__(
        self, url: str, output_file: str, pooch: Any, *, check_only: bool | None = None
    ) -> None:
        """Bring the bytes of ``url`` to ``output_file``.

        Raises:
            Unavailable: If the address does not have the file or the retries are used up.
            OSError: If the disk is full or not writable; what has arrived stays for the next time.
        """
        self.was_asked = True
        with self._session:
            self._insist(url)
        os.replace(self._part, output_file)
        self._state_file.unlink(missing_ok=True)

    def _insist(self, url: str) -> None:
        """Try until the file is whole or the retries are used up."""
        failures = 0
        while True:
            before = self._size()
            try:
                return self._transfer(url)
            except _TryAgain as failure:
                failures = 1 if self._size() - before >= _MUCH_BYTES else failures + 1
                if failures > self._max_retries:
                    raise Unavailable(f"{failure} (tried {failures} times)") from failure
                pause = failure.pause
                if pause is None:
                    pause = min(2.0 ** (failures - 1), _LONGEST_PAUSE)
                host = urlsplit(url).hostname
                _LOGGER.info("%s: %s; trying again in %.0f s", host, failure, pause)
                self._sleep(pause)

    def _transfer(self, url: str) -> None:
        """One request: the whole file, or what is missing of it."""
        state = self._read_state(url)
        have = self._size() if state else 0
        if self._first_bytes and have >= self._first_bytes:
            return
        headers = {}
        if have or self._first_bytes:
            headers["Range"] = f"bytes={have}-{self._first_bytes - 1 if self._first_bytes else ''}"
        if have and state:
            headers["If-Range"] = state.validator
        try:
            with contextlib.ExitStack() as stack:
                response = stack.enter_context(self._get(url, headers))
                if _is_page(response) and (form := _drive_form(response)):
                    response = stack.enter_context(self._get(form.url, headers, form.fields))
                if self._is_complete(response, have):
                    return
                _check_status(response)
                self._receive(url, response, have, state)
        except requests.exceptions.SSLError as error:
            raise Unavailable(f"no secure connection ({_reason(error)})") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            if _is_unknown_host(error) and not have:
                raise Unavailable("no such host; is this machine offline?") from error
            raise _TryAgain(f"connection lost ({_reason(error)})") from error

    def _get(
        self, url: str, headers: dict[str, str], fields: dict[str, str] | None = None
    ) -> requests.Response:
        return self._session.get(
            url, headers=headers, params=fields, stream=True, timeout=self._timeout
        )

    def _is_complete(self, response: requests.Response, have: int) -> bool:
        """Whether the server says that no byte is missing; a part that is too long is dropped."""
        if response.status_code != 416:
            return False
        if have and response.headers.get("Content-Range") == f"bytes */{have}":
            return True
        self._part.unlink(missing_ok=True)
        raise _TryAgain("the partial file does not fit the one on the server; starting over", 0.0)

    def _receive(
        self, url: str, response: requests.Response, have: int, state: _PartState | None
    ) -> None:
        """Write the response's bytes to their place in the part."""
        start, total = _position(response)
        validator = _validator(response)
        if response.status_code == 206:
            is_same = state is None or (total == state.total and validator in ("", state.validator))
            if start != have or not is_same:
                self._part.unlink(missing_ok=True)
                raise _TryAgain("the file has changed on the server; starting over", 0.0)
        if start == 0:  # in this order: a kill must not leave old bytes with the new state
            self._part.unlink(missing_ok=True)
            write_json(self._state_file, {"url": url, "validator": validator, "total": total})
        wanted = min((n for n in (self._first_bytes, total) if n), default=None)
        name = self._part.name.removesuffix(".part")
        with (
            self._part.open("r+b" if start else "wb") as file,
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

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _read_state(self, url: str) -> _PartState | None:
        """What the part belongs to; None if it cannot be continued from ``url``."""
        if not (self._part.is_file() and self._state_file.is_file()):
            return None
        state = _PartState(**read_json(self._state_file))
        return state if state.url == url and state.validator else None


def _check_status(response: requests.Response) -> None:
    """Raise unless the response brings the file."""
    status = response.status_code
    named = f"{status} {response.reason}"
    if status in _RETRIED_STATUSES or status >= 500:
        pause = _retry_after(response)
        if pause is not None and pause > _LONGEST_RETRY_AFTER:
            raise Unavailable(f"{named}, asks to come back in {pause:.0f} s")
        raise _TryAgain(named, pause)
    if status not in (200, 206):
        raise Unavailable(named)
    if _is_page(response):
        raise Unavailable(
            "a web page came instead of the file (a quota, a sign-in or a network's login page)"
        )


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that the server asks to wait: a number or a date (RFC 9110 10.2.3)."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        then = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, then.timestamp() - time.time())


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


def _is_page(response: requests.Response) -> bool:
    is_html = response.headers.get("Content-Type", "").lower().startswith("text/html")
    return response.status_code == 200 and is_html


@dataclass
class _Form:
    url: str
    fields: dict[str, str]


class _FormParser(html.parser.HTMLParser):
    """Finds the form behind Google Drive's "Download anyway", shown for large files."""

    def __init__(self) -> None:
        super().__init__()
        self.form: _Form | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form" and values.get("id") == "download-form":
            self.form = _Form(values.get("action", ""), {})
        elif tag == "input" and self.form and values.get("name"):
            self.form.fields[values["name"]] = values.get("value", "")


def _drive_form(response: requests.Response) -> _Form | None:
    parser = _FormParser()
    page: bytes = response.raw.read(_PAGE_BYTES, decode_content=True)
    parser.feed(page.decode("utf-8", errors="replace"))
    if parser.form:
        parser.form.url = urljoin(response.url, parser.form.url)
    return parser.form


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
