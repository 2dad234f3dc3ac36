"""A loopback server that speaks as much of the OpenAI protocol as the client needs."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROMPT_TOKENS, COMPLETION_TOKENS = 100, 10


@dataclass(frozen=True)
class Reply:
    """What the server sends: the model's text, or a body of another kind."""

    text: str | None = ""
    status: int = 200
    error: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    raw_body: str | None = None
    content_type: str = "application/json"
    hang_up: bool = False
    """Close the connection instead of answering."""


def choose_by_hash(request: dict[str, Any]) -> Reply:
    """One of the allowed words per key, always the same for the same prompt."""
    properties = request["response_format"]["json_schema"]["schema"]["properties"]
    number = zlib.crc32(request["messages"][-1]["content"].encode())
    return Reply(
        json.dumps({key: of["enum"][number % len(of["enum"])] for key, of in properties.items()})
    )


def choose_first(request: dict[str, Any]) -> Reply:
    """The most similar candidate of every question."""
    properties = request["response_format"]["json_schema"]["schema"]["properties"]
    return Reply(json.dumps({key: of["enum"][0] for key, of in properties.items()}))


class LLMServer:
    """``answer(request, number)`` decides; requests count from 0."""

    def __init__(self, answer: Callable[[dict[str, Any], int], Reply], seconds: float):
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._seconds = seconds
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    number = len(outer.requests)
                    outer.requests.append(body)
                    outer.headers.append({k.lower(): v for k, v in self.headers.items()})
                    outer._at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer._at_once)
                try:
                    time.sleep(outer._seconds)
                    self._send(outer.answer(body, number), body["model"])
                finally:
                    with outer._lock:
                        outer._at_once -= 1

            def _send(self, reply: Reply, model: str) -> None:
                if reply.hang_up:
                    self.close_connection = True
                    return
                content = reply.raw_body
                if content is None:
                    content = json.dumps(
                        _completion(reply, model)
                        if reply.status == 200
                        else {"error": reply.error or {"message": "no"}}
                    )
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(content.encode())))
                self.end_headers()
                try:
                    self.wfile.write(content.encode())
                except ConnectionError:
                    pass  # a client that gave up waiting

            def log_message(self, *args: object) -> None:
                pass

        return Handler


def _completion(reply: Reply, model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": reply.text}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": COMPLETION_TOKENS,
            "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
        },
    }


@contextmanager
def serve(
    answer: Callable[[dict[str, Any], int], Reply] = lambda request, number: choose_first(request),
    seconds: float = 0.0,
) -> Iterator[LLMServer]:
    """Run a server; every answer takes ``seconds``."""
    server = LLMServer(answer, seconds)
    try:
        yield server
    finally:
        server.stop()
