"""Fetch an image from an address that somebody else wrote: in bounded time, from public hosts."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

ALLOW_PRIVATE_VARIABLE = "HIDVAE_ALLOW_PRIVATE_IMAGES"
"""Environment variable that, when it is not empty or 0, allows hosts of a private network."""
_MOST_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}


class RefusedImageError(ValueError):
    """What the address leads to is not fetched, however often it is tried."""


def is_url(value: str) -> bool:
    """Whether a value of the image column is fetched over HTTP."""
    return value.lower().startswith(("http://", "https://"))


def fetch_image(url: str, ends: float, most_bytes: int) -> bytes:
    """What a URL answers, redirects followed.

    A host whose address is private (loopback, a local network, a cloud's metadata service) is not
    connected to, unless ``$HIDVAE_ALLOW_PRIVATE_IMAGES`` allows it: a catalogue is written by many,
    and the answers of such hosts are for few. Names are resolved once, so that none can answer with
    a public address first and a private one then. Behind a proxy it is the proxy that resolves
    them; private addresses are refused there only where they are written out.

    Args:
        url: Of http or https.
        ends: When connections are cut, by ``time.monotonic``, however steadily they answer.
        most_bytes: Longest answer.

    Raises:
        RefusedImageError: If the host is private, or what it sends is no image or too long.
        OSError, http.client.HTTPException, ValueError: If it does not answer, or not in time.
    """
    with _Connections(ends) as connections:
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                try:
                    with _open(url, connections) as response:
                        return _content(response, most_bytes)
                except urllib.error.HTTPError as error:
                    target = error.headers.get("Location")
                    if error.code not in _REDIRECTS or not target:
                        raise
                    error.close()
                    url = urllib.parse.urljoin(url, target)
                    if not is_url(url):
                        raise RefusedImageError(f"redirected to {url[:100]}") from None
            raise RefusedImageError(f"more than {_MOST_REDIRECTS} redirects")
        finally:
            connections.check_time()


def _content(response: http.client.HTTPResponse, most_bytes: int) -> bytes:
    if response.headers.get_content_maintype() == "text":  # an error page of status 200
        kind = response.headers.get_content_type()
        raise RefusedImageError(f"found {kind}, not an image")
    content = response.read(most_bytes + 1)
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and len(content) < min(int(length), most_bytes + 1):
        raise http.client.IncompleteRead(content, int(length) - len(content))
    if len(content) > most_bytes:
        raise RefusedImageError(f"more than {most_bytes >> 20} MB")
    return content


def _open(url: str, connections: _Connections) -> Any:
    """Send one request; a redirect is an ``HTTPError``."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    is_proxied = parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(
        host
    )
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if is_proxied:
        _check_written_out(host)
        connect = connections.connect
    else:
        handlers.append(urllib.request.ProxyHandler({}))
        connect = connections.connect_to_public
    handlers += [_Http(connect), _Https(connect)]
    request = urllib.request.Request(url, headers={"User-Agent": "hidvae", "Accept": "image/*"})
    opener = urllib.request.build_opener(*handlers)
    return opener.open(request, timeout=connections.seconds_left())


class _Connections:
    """The sockets opened for one image; all are shut when its time is up.

    A time-out of a socket counts from the last byte: a host that sends one now and then, be it in
    its answer, its headers or its TLS handshake, would never meet it.
    """

    def __init__(self, ends: float) -> None:
        self._ends = ends
        self._copies: list[socket.socket] = []
        self._timer = threading.Timer(self.seconds_left(), self._shut)
        self._timer.daemon = True

    def __enter__(self) -> _Connections:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
        for copy in self._copies:
            copy.close()

    def seconds_left(self) -> float:
        """At least a little, as 0 would mean not to wait at all."""
        return max(self._ends - time.monotonic(), 0.001)

    def check_time(self) -> None:
        """Say so if it is up: what was cut off may look like a whole answer."""
        if time.monotonic() >= self._ends:
            raise TimeoutError("no whole answer in time")

    def connect(self, address: tuple[str, int], *_: object) -> socket.socket:
        """As ``socket.create_connection``."""
        connection = socket.create_connection(address, self.seconds_left())
        self._copies.append(connection.dup())  # TLS takes the first one over
        self.check_time()  # from here on it is the timer that ends it
        return connection

    def connect_to_public(self, address: tuple[str, int], *_: object) -> socket.socket:
        """The same for public addresses alone."""
        host, port = address
        found = [info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        for resolved in found:
            _check_public(str(resolved))
        for resolved in found[:-1]:
            with contextlib.suppress(OSError):
                return self.connect((str(resolved), port))
        return self.connect((str(found[-1]), port))

    def _shut(self) -> None:
        for copy in list(self._copies):
            with contextlib.suppress(OSError):  # closed already
                copy.shutdown(socket.SHUT_RDWR)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to ``fetch_image``, which looks at where they lead."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Http(urllib.request.HTTPHandler):
    def __init__(self, connect: Callable[..., socket.socket]) -> None:
        super().__init__()
        self._connect = connect

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        made = _connected_by(self._connect, http.client.HTTPConnection)
        return self.do_open(made, request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, connect: Callable[..., socket.socket]) -> None:
        super().__init__()
        self._connect = connect

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        made = _connected_by(self._connect, http.client.HTTPSConnection)
        return self.do_open(made, request, context=ssl.create_default_context())


def _connected_by(connect: Callable[..., socket.socket], kind: Callable[..., Any]) -> Any:
    """A kind of connection whose sockets are opened by ``connect``."""

    def make(host: str, **settings: Any) -> Any:
        connection = kind(host, **settings)
        connection._create_connection = connect  # the library's own seam, without a public name
        return connection

    return make


def _check_written_out(host: str) -> None:
    """Refuse a private address that stands in the URL itself; any other name passes."""
    if host.rstrip(".").rpartition(".")[2] == "localhost":
        host = "127.0.0.1"
    with contextlib.suppress(OSError):
        host = socket.inet_ntoa(socket.inet_aton(host))  # 127.1 and 2130706433 are 127.0.0.1
    _check_public(host)


def _check_public(address: str) -> None:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a name, which a proxy is asked for
        return
    public = getattr(found, "ipv4_mapped", None) or found
    is_allowed = os.environ.get(ALLOW_PRIVATE_VARIABLE, "") not in ("", "0")
    if not is_allowed and (not public.is_global or public.is_multicast):
        raise RefusedImageError(
            f"{address} is not a public address; {ALLOW_PRIVATE_VARIABLE}=1 allows it"
        )
