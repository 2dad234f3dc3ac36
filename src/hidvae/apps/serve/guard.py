"""What stands before every route: limits on body and time, counters, an answer to any error."""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hidvae.apps.serve.counters import Metrics
from hidvae.apps.serve.messages import MAX_BODY_BYTES
from hidvae.apps.serve.problems import problem

logger = logging.getLogger(__name__)

CHANGE_SECONDS = 60.0
"""Most time of a request that changes items; the first one loads the text encoder."""
_READING = ("GET", "HEAD", "OPTIONS")
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        b"frame-ancestors 'none'",
    ),
]
"""The page and its scripts come from here alone."""


class _TooLarge(Exception):
    """The body is longer than allowed."""


class Guard:
    """An ASGI middleware."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        timeout_seconds: float,
        hosts: frozenset[str] | None = None,
    ) -> None:
        """Stand before an app.

        Args:
            app: Answers.
            metrics: Counts.
            timeout_seconds: From the first byte of a request to the first of its answer.
            hosts: Names under which it may be asked, in lower case and without a port; None takes
                any. A page of another site whose name leads here (DNS rebinding) asks under that.
        """
        self.app = app
        self.metrics = metrics
        self.timeout_seconds = timeout_seconds
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        is_change = scope["path"].startswith("/items") and scope["method"] not in _READING
        timeout_seconds = CHANGE_SECONDS if is_change else self.timeout_seconds
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
            await send(message)

        try:
            host = _host(scope)
            if self.hosts is not None and host and host not in self.hosts:
                detail = f"this server is not {host[:100]}; start it with --allow-host to let it be"
                await problem(421, detail)(scope, receive, answer)
                return
            scope["deadline"] = time.monotonic() + timeout_seconds
            async with asyncio.timeout(timeout_seconds):
                body = await _read(scope, receive)
                await self.app(scope, _Replay(body, receive), answer)
        except _TooLarge:
            detail = f"expected a body of at most {MAX_BODY_BYTES} bytes; send several requests"
            await problem(413, detail, {"Connection": "close"})(scope, receive, answer)
        except TimeoutError:
            if not status:
                advice = "look whether it was made" if is_change else "try again later"
                detail = f"no answer within {timeout_seconds:g} s; {advice}"
                await problem(503, detail, {"Retry-After": "1"})(scope, receive, answer)
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if status:
                raise
            detail = "an error of the server's, see its log"
            await problem(500, detail)(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            self.metrics.count(scope["method"], route, status, time.perf_counter() - started)


def _host(scope: Scope) -> str:
    """The name under which a server was asked, without its port; empty if the client says none."""
    header = dict(scope["headers"]).get(b"host", b"").decode("latin-1").strip().lower()
    name, _, port = header.rpartition(":")
    return (name if name and port.isdigit() else header).rstrip(".")


async def _read(scope: Scope, receive: Receive) -> bytes:
    """The whole body; it is small."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise _TooLarge
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _TooLarge
        if not message.get("more_body"):
            return bytes(body)


class _Replay:
    """A body that was read, as an ASGI channel."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.body: bytes | None = body
        self.receive = receive

    async def __call__(self) -> Message:
        if self.body is None:
            return await self.receive()
        body, self.body = self.body, None
        return {"type": "http.request", "body": body, "more_body": False}
