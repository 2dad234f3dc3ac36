from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hidvae.features import image_files
from hidvae.features.image_files import fetch_images, find_images
from hidvae.store.cache import cache_folder


class Server(ThreadingHTTPServer):
    daemon_threads = True
    asked: Counter[str]


class Handler(BaseHTTPRequestHandler):
    """Answers as the path says."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        tries = self.server.asked[self.path]
        if self.path == "/missing.png":
            self.send_error(404)
        elif self.path == "/down.png" or (self.path == "/busy.png" and tries < 3):
            self.send_error(503)
        elif self.path == "/page.png":
            self.answer(b"<html>gone</html>", kind="text/html")
        elif self.path == "/cut.png" and tries < 2:
            self.answer(b"half", claimed=8)
        elif self.path == "/large.png":
            self.answer(b"x" * 2000)
        else:
            self.answer(f"content of {self.path}".encode())

    def answer(self, content: bytes, kind: str = "image/png", claimed: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(claimed or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(image_files, "_FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = Server(("127.0.0.1", 0), Handler)
    running.asked = Counter()
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def url(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}{path}"


def test_urls_are_fetched_once_for_all_runs(server: Server) -> None:
    urls = [url(server, f"/{number}.png") for number in range(40)]
    found = fetch_images(urls)
    files = [found[address].file for address in urls]
    assert [file.read_bytes() for file in files if file] == [
        f"content of /{number}.png".encode() for number in range(40)
    ]
    assert fetch_images(urls) == found
    assert set(server.asked.values()) == {1}
    assert not list(cache_folder().rglob("*.writing"))


@pytest.mark.parametrize(
    ("path", "tries", "content"), [("/busy.png", 3, "content of /busy.png"), ("/cut.png", 2, None)]
)
def test_busy_servers_and_cut_connections_are_tried_again(
    path: str, tries: int, content: str | None, server: Server
) -> None:
    (image,) = fetch_images([url(server, path)]).values()
    assert image.file is not None
    assert image.file.read_text() == (content or f"content of {path}")
    assert server.asked[path] == tries


@pytest.mark.parametrize(
    ("path", "problem", "tries"),
    [
        ("/missing.png", "HTTP status 404", 1),
        ("/down.png", "HTTP status 503", 4),
        ("/page.png", "text/html, not an image", 1),
        ("/large.png", "more than 0 MB", 1),
    ],
)
def test_what_cannot_be_had_says_why_and_is_tried_again_next_time(
    path: str, problem: str, tries: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "_MAX_BYTES", 1000)
    for run in (1, 2):
        (image,) = fetch_images([url(server, path)]).values()
        assert image.file is None
        assert problem in image.problem
        assert server.asked[path] == run * tries


def test_nobody_listening_and_broken_urls_are_problems_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_files, "_FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for address in ("http://127.0.0.1:9/x.png", "http://", "http://[x/y.png", "http://a b/c.png"):
        (image,) = fetch_images([address]).values()
        assert image.file is None
        assert image.problem
        assert "\n" not in image.problem


def test_paths_start_from_the_datasets_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    found = find_images(["images/a.png", "images/b.png", str(tmp_path / "images/a.png")], tmp_path)
    assert found["images/a.png"].file == tmp_path / "images" / "a.png"
    assert found[str(tmp_path / "images/a.png")].file == tmp_path / "images" / "a.png"
    assert found["images/b.png"].problem == f"no such file {tmp_path / 'images' / 'b.png'}"
    assert "no folder" in find_images(["images/a.png"], None)["images/a.png"].problem
