"""A web server on the loopback, in a thread, that can misbehave on request."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """What the server does with one request; the default serves the file as a good server does."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Instead of the file."""
    cut_after: int | None = None
    """Close the connection after this many bytes of the body."""
    ignores_range: bool = False
    has_validators: bool = True


@dataclass
class Server:
    """Files by path, and what to do with the next requests for a path (then: serve it)."""

    files: dict[str, bytes] = field(default_factory=dict)
    plan: dict[str, list[Answer]] = field(default_factory=dict)
    always: dict[str, Answer] = field(default_factory=dict)
    """What to do with every request for a path that has no plan (left)."""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path with query, and headers, of every request."""
    url: str = ""

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of every request."""
        return [headers.get("Range") for _, headers in self.requests]

    def next_answer(self, path: str) -> Answer:
        """Take the next planned answer."""
        planned = self.plan.get(path, [])
        if planned:
            return planned.pop(0)
        return self.always.get(path, Answer(status=200 if path in self.files else 404))


@contextlib.contextmanager
def serve(files: dict[str, bytes] | None = None) -> Iterator[Server]:
    """Run a server while the block lasts."""
    server = Server(dict(files or {}))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            server.requests.append((self.path, dict(self.headers)))
            path = self.path.partition("?")[0]
            _answer(self, server.next_answer(path), server.files.get(path, b""))

        def log_message(self, *arguments: object) -> None:
            """No lines on stderr."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def _answer(handler: BaseHTTPRequestHandler, answer: Answer, content: bytes) -> None:
    body = content if answer.body is None else answer.body
    status, headers = answer.status, dict(answer.headers)
    if status == 200 and answer.has_validators:
        etag = f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"'
        headers.setdefault("ETag", etag)
    wanted = handler.headers.get("Range")
    if status == 200 and wanted and not answer.ignores_range:
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(body) - 1), len(body) - 1)
        if handler.headers.get("If-Range", headers.get("ETag")) == headers.get("ETag"):
            if start >= len(body):
                status, headers["Content-Range"], body = 416, f"bytes */{len(body)}", b""
            else:
                headers["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
                status, body = 206, body[start : end + 1]
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    with contextlib.suppress(ConnectionError):
        handler.wfile.write(body if answer.cut_after is None else body[: answer.cut_after])
