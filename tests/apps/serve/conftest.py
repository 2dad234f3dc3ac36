"""Real servers on the loopback: one for all tests that only ask, one of its own for the others."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from hidvae.apps.serve.app import create_app
from hidvae.apps.serve.live_run import LiveRun
from hidvae.ranking.recommender import Recommender

TOKEN = "a token of the tests"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


class Running:
    """A server in a thread of this process."""

    def __init__(self, live: LiveRun, **settings: Any) -> None:
        self.live = live
        self.app = create_app(live, **settings)
        self.state = self.app.state.server
        config = uvicorn.Config(self.app, log_config=None, timeout_graceful_shutdown=20)
        self.server = uvicorn.Server(config)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.client = httpx.Client(base_url=self.url, timeout=60)
        self._thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self.server.started)

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()


def wait_until(is_done: Any, seconds: float = 30.0) -> None:
    """Until something holds; an error if it never does."""
    end = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


@contextlib.contextmanager
def running(run: Path, **settings: Any) -> Iterator[Running]:
    """A server of a run's folder until the block ends."""
    server = Running(LiveRun(run, "cpu"), **settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def shared(tiny_run: Path) -> Iterator[Running]:
    """A server that must not be changed."""
    with running(tiny_run) as server:
        yield server


@pytest.fixture
def client(shared: Running) -> httpx.Client:
    """Of the shared server."""
    return shared.client


@pytest.fixture(scope="session")
def recommender(shared: Running) -> Recommender:
    """What the shared server answers with."""
    return shared.live.current.recommender


@pytest.fixture
def own_run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the run that the test may change."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


@pytest.fixture
def changeable(own_run: Path) -> Iterator[Running]:
    """A server of its own, whose items may be changed; it looks at the disk all the time."""
    with running(own_run, token=TOKEN, watch_seconds=0.05) as server:
        yield server


def assert_problem(response: httpx.Response, status: int, *words: str) -> None:
    """An answer that is a problem of some status and says some words."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) == {"type", "title", "status", "detail"}
    assert body["status"] == status and body["title"]
    for word in words:
        assert word in body["detail"], body["detail"]
    assert "\n" not in body["detail"]
