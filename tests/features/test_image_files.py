from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hidvae.features import fetch_image, image_files
from hidvae.features.image_files import fetch_images, find_images
from hidvae.store.blobs import BlobStore


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
        elif self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/slow-headers.png":
            self.drip(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n" + b"X-Padding: x\r\n" * 99)
        elif self.path in ("/slow.png", "/slow-and-endless.png"):
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            if self.path == "/slow.png":
                self.send_header("Content-Length", "1000")
            self.end_headers()
            self.drip(b"x" * 1000)
        else:
            self.answer(f"content of {self.path}".encode())

    def answer(self, content: bytes, kind: str = "image/png", claimed: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(claimed or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def drip(self, content: bytes) -> None:
        """A byte now and then: no time-out between two bytes would ever be met."""
        with contextlib.suppress(OSError):
            for place in range(len(content)):
                self.wfile.write(content[place : place + 1])
                time.sleep(0.05)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(image_files, "_FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setenv("HIDVAE_ALLOW_PRIVATE_IMAGES", "1")
    running = Server(("127.0.0.1", 0), Handler)
    running.asked = Counter()
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def downloads(tmp_path: Path) -> Iterator[BlobStore]:
    with BlobStore(tmp_path / "images.sqlite") as store:
        yield store


def url(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}{path}"


def test_urls_are_fetched_once_for_all_runs(server: Server, downloads: BlobStore) -> None:
    urls = [url(server, f"/{number}.png") for number in range(40)]
    for _ in range(2):
        found = fetch_images(urls, downloads)
        assert [found[address].content() for address in urls] == [
            f"content of /{number}.png".encode() for number in range(40)
        ]
    assert set(server.asked.values()) == {1}


@pytest.mark.parametrize(
    ("path", "tries", "content"), [("/busy.png", 3, "content of /busy.png"), ("/cut.png", 2, None)]
)
def test_busy_servers_and_cut_connections_are_tried_again(
    path: str, tries: int, content: str | None, server: Server, downloads: BlobStore
) -> None:
    (image,) = fetch_images([url(server, path)], downloads).values()
    assert image.content().decode() == (content or f"content of {path}")
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
    path: str,
    problem: str,
    tries: int,
    server: Server,
    downloads: BlobStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_files, "_MAX_BYTES", 1000)
    for run in (1, 2):
        (image,) = fetch_images([url(server, path)], downloads).values()
        assert image.read is None
        assert problem in image.problem
        assert server.asked[path] == run * tries


def test_nobody_listening_and_broken_urls_are_problems_too(
    server: Server, downloads: BlobStore
) -> None:
    for address in ("http://127.0.0.1:9/x.png", "http://", "http://[x/y.png", "http://a b/c.png"):
        (image,) = fetch_images([address], downloads).values()
        assert image.read is None
        assert image.problem
        assert "\n" not in image.problem


@pytest.mark.parametrize("path", ["/slow.png", "/slow-and-endless.png", "/slow-headers.png"])
def test_a_host_that_answers_steadily_but_slowly_is_cut_off(
    path: str, server: Server, downloads: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "_SECONDS_PER_IMAGE", 0.5)
    started = time.monotonic()
    (image,) = fetch_images([url(server, path)], downloads).values()
    assert time.monotonic() - started < 3
    assert image.problem == "no whole answer in time"


def test_redirects_are_followed_to_images(server: Server, downloads: BlobStore) -> None:
    urls = [url(server, path) for path in ("/to//a.png", "/to/file:///etc/hosts")]
    ours, other = fetch_images(urls, downloads).values()
    assert ours.content() == b"content of /a.png"
    assert other.problem == "redirected to file:///etc/hosts"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1", "2130706433"])
def test_private_addresses_are_refused_unless_allowed(
    host: str, server: Server, downloads: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HIDVAE_ALLOW_PRIVATE_IMAGES")
    (image,) = fetch_images([url(server, "/a.png").replace("127.0.0.1", host)], downloads).values()
    assert image.read is None
    assert "is not a public address; HIDVAE_ALLOW_PRIVATE_IMAGES=1 allows it" in image.problem
    assert not server.asked


def test_a_redirect_or_a_name_does_not_lead_to_a_private_address(
    server: Server, downloads: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: int, *_: object, **settings: object) -> list[tuple[object, ...]]:
        address = "169.254.169.254" if host == "metadata.example" else host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(fetch_image.socket, "getaddrinfo", resolve)
    monkeypatch.delenv("HIDVAE_ALLOW_PRIVATE_IMAGES")
    (image,) = fetch_images(["http://metadata.example/token"], downloads).values()
    assert image.problem.startswith("169.254.169.254 is not a public address")
    is_public = fetch_image._check_public
    monkeypatch.setattr(  # the server stands for a public one
        fetch_image, "_check_public", lambda host: None if host == "127.0.0.1" else is_public(host)
    )
    address = url(server, "/to/http://10.0.0.1/a.png")
    (image,) = fetch_images([address], downloads).values()
    assert image.problem.startswith("10.0.0.1 is not a public address")
    assert server.asked


def test_behind_a_proxy_private_addresses_are_refused_as_well(
    server: Server, downloads: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HIDVAE_ALLOW_PRIVATE_IMAGES")
    monkeypatch.setenv("http_proxy", url(server, ""))
    monkeypatch.setenv("no_proxy", "")
    for host in ("127.0.0.1", "localhost", "127.1", "10.0.0.1"):
        (image,) = fetch_images([f"http://{host}/a.png"], downloads).values()
        assert "is not a public address" in image.problem
    assert not server.asked
    (image,) = fetch_images(["http://images.example/a.png"], downloads).values()
    assert image.content() == b"content of http://images.example/a.png"


def test_a_cache_that_cannot_be_written_is_a_problem(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with BlobStore(tmp_path / "file" / "images.sqlite") as store:
        (image,) = fetch_images([url(server, "/a.png")], store).values()
    assert image.read is None
    assert "writable cach" in image.problem


def test_paths_start_from_the_datasets_folder_and_stay_in_it(
    tmp_path: Path, downloads: BlobStore
) -> None:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.png").write_bytes(b"a")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    whole = str(folder / "images" / "a.png")
    inside = ["images/a.png", "images/../images/a.png", whole]
    outside = ["../secret.png", str(tmp_path / "secret.png"), "images/../../secret.png"]
    found = find_images([*inside, *outside, "images/b.png", "link.png"], folder, downloads)
    assert {found[value].content() for value in inside} == {b"a"}
    for value in outside:
        assert found[value].read is None
        assert found[value].problem == f"outside of {folder}, the dataset's folder"
    assert found["images/b.png"].problem == f"no such file {folder / 'images' / 'b.png'}"
    assert found["link.png"].content() == b"secret"  # the folder's owner put it there
    assert "no folder" in find_images(["images/a.png"], None, downloads)["images/a.png"].problem
