"""The command itself: where it listens, how it ends, what it says when it cannot start."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hidvae.apps.cli import app, run_app

from .conftest import AUTHORIZED, TOKEN, wait_until


class Command:
    """``hidvae serve`` in a process of its own."""

    def __init__(self, run: Path, log: Path, **environment: str) -> None:
        command = [sys.executable, "-m", "hidvae", "serve", str(run), "--port", "0"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.log = log
        with log.open("w") as stderr:
            self.process = subprocess.Popen(command, env=environment, stderr=stderr)
        wait_until(lambda: self.process.poll() is not None or self.url, 120)

    @property
    def url(self) -> str:
        found = re.search(r"on (http://127\.0\.0\.1:\d+)$", self.log.read_text(), re.MULTILINE)
        return found[1] if found else ""


@pytest.fixture
def command(own_run: Path, tmp_path: Path) -> Iterator[Command]:
    command = Command(own_run, tmp_path / "log", HIDVAE_TOKEN=TOKEN)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.wait()


def test_it_answers_on_the_loopback_and_ends_well_at_a_signal(command: Command) -> None:
    with httpx.Client(base_url=command.url, timeout=60) as client:
        assert client.get("/readyz").json()["status"] == "ready"
        item = {"item_id": "new", "title": "Kettle"}
        added = client.post("/items", json={"items": [item]}, headers=AUTHORIZED)
        assert added.json() == {"version": 1}
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(60) == 0
    assert "Traceback" not in command.log.read_text()


def error_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run_app(app, "hidvae", ["serve", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_an_address_that_cannot_be_had(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "choose another" in error_of(capsys, str(tiny_run), "--port", port)
    assert "--host" in error_of(capsys, str(tiny_run), "--host", "no.such.host.invalid")


def test_a_run_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "run `hidvae prepare` first" in error_of(capsys, str(tmp_path), "--port", "0")


def test_without_the_extra_its_name_is_said(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert 'pip install "hidvae[serve]"' in error_of(capsys, str(tiny_run))
