"""The live page: what it says of a run, that it changes when the run does, whom it answers."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.apps.show.pages import Page
from tests.browser import command, needs_browser

from hidvae.apps.show.follow_training import start_server, version_of
from hidvae.errors import ConfigError, NotTrainedError

ROWS = ["epoch,seconds,loss", "1,2.5,0.75", "2,5.5,0.5"]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A run whose retriever is in training; the stages before it are there."""
    shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("retriever", "graph"))
    grow(tmp_path / "run", 2)
    return tmp_path / "run"


def grow(run: Path, num_epochs: int) -> None:
    log = run / ".retriever.checkpoint" / "log.csv"
    log.parent.mkdir(exist_ok=True)
    new = log.with_name("new")
    new.write_text("\n".join(ROWS[: num_epochs + 1]) + "\n", encoding="utf-8")
    new.replace(log)


class Served:
    """A live page's server in a thread, and what it was asked for."""

    def __init__(self, run: Path) -> None:
        self.asked: list[str] = []
        self.server = start_server(run, 0)
        handle = self.server.RequestHandlerClass.do_GET  # type: ignore[attr-defined]

        def noted(handler: object) -> None:
            self.asked.append(handler.path)  # type: ignore[attr-defined]
            handle(handler)

        self.server.RequestHandlerClass.do_GET = noted  # type: ignore[attr-defined]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        host, port = self.server.server_address[:2]
        assert host == "127.0.0.1"
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return str(answer.read().decode())


@pytest.fixture
def served(run: Path) -> Iterator[Served]:
    found = Served(run)
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_it_says_where_the_run_is(served: Served) -> None:
    page = Page(served.get("/"))
    stages = page.parts["Stages"].table()
    assert stages["retriever"] == ["in training: epoch 2, 5.5 s"]
    assert stages["tokenizer"][0].startswith("took ")
    assert stages["graph"] == ["–"]
    assert "2 epochs in 5.5 s, training has not ended." in page.parts["Training"].text
    assert page.figure("retriever-loss")["y"] == [0.75, 0.5]
    page.assert_needs_nothing(may_connect=True)


def test_another_epoch_or_stage_is_another_version(
    run: Path, served: Served, tiny_run: Path
) -> None:
    seen = [served.get("/version")]
    assert f'"{seen[0]}"' in served.get("/")
    assert served.get("/version") == seen[0]
    grow(run, 1)
    seen.append(served.get("/version"))
    shutil.rmtree(run / ".retriever.checkpoint")
    seen.append(served.get("/version"))
    shutil.copytree(tiny_run / "retriever", run / "retriever")
    seen.append(version_of(run))
    assert len(set(seen)) == 4
    assert "took " in Page(served.get("/")).parts["Stages"].table()["retriever"][0]


def test_it_gives_nothing_but_the_page(served: Served) -> None:
    for path in ("/config.json", "/../config.json", "/version/x"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            served.get(path)
        assert refused.value.code == 404
        refused.value.close()


def test_a_port_that_is_taken_and_no_run_are_one_line(run: Path, served: Served) -> None:
    port = served.server.server_port
    with pytest.raises(ConfigError, match=f"port {port} cannot be used.+--port"):
        start_server(run, port)
    with pytest.raises(NotTrainedError, match="is no run"):
        start_server(run / "absent", 0)


@needs_browser
def test_a_browser_draws_it_anew_when_an_epoch_ends(
    run: Path, served: Served, tmp_path: Path
) -> None:
    def wait_for(num_pages: int, num_questions: int) -> None:
        end = time.monotonic() + 60
        while served.asked.count("/") < num_pages or served.asked.count("/version") < num_questions:
            assert time.monotonic() < end, served.asked
            time.sleep(0.05)

    grow(run, 1)
    browser = subprocess.Popen(
        [*command(tmp_path / "profile", "--remote-debugging-port=0"), served.url],
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(1, 2)
        assert served.asked.count("/") == 1, "nothing has changed yet"
        grow(run, 2)
        wait_for(2, 3)
    finally:
        browser.terminate()
        browser.wait()
