"""Runs on the Hugging Face Hub, here a server on the loopback."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hidvae.errors import ArtifactError, ConfigError, MissingExtraError
from hidvae.store.hub import local_folder

huggingface_hub = pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "README.md": b"# card",
    "dataset/manifest.json": b"{}",
    "retriever/model.safetensors": b"weights",
    "code.py": b"raise SystemExit",
    "old.pkl": b"pickle",
}


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as a download of public files asks for."""

    requests: list[str] = []

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.requests.append(path)
        prefix = f"/shop/model/resolve/{COMMIT}/"
        if path.startswith("/api/models/shop/model"):
            siblings = [{"rfilename": name} for name in FILES]
            tree = [
                {"type": "file", "path": name, "size": len(body), "oid": _sha(body)}
                for name, body in FILES.items()
            ]
            info = {"id": "shop/model", "sha": COMMIT, "siblings": siblings}
            self._answer(json.dumps(tree if "/tree/" in path else info).encode())
        elif path.startswith(prefix) and path.removeprefix(prefix) in FILES:
            self._answer(FILES[path.removeprefix(prefix)])
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{_sha(body)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _sha(body: bytes) -> str:
    return hashlib.sha1(body).hexdigest()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Hub]]:
    """A Hub with one repository, and a fresh cache."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    Hub.requests.clear()
    download = huggingface_hub.snapshot_download

    def from_here(*arguments: object, **settings: object) -> str:
        return download(*arguments, endpoint=address, cache_dir=tmp_path, token=False, **settings)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", from_here)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HIDVAE_OFFLINE", raising=False)
    yield Hub
    server.shutdown()
    server.server_close()


def test_a_run_is_downloaded_without_anything_that_could_run(hub: type[Hub]) -> None:
    folder = local_folder("hf://shop/model")
    found = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert found == {"dataset/manifest.json", "retriever/model.safetensors"}
    assert (folder / "retriever/model.safetensors").read_bytes() == b"weights"


def test_what_was_downloaded_is_used_offline(
    hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_revision = f"hf://shop/model@{COMMIT}"
    first = local_folder(Path(with_revision))  # as the command line gives it
    monkeypatch.setenv("HIDVAE_OFFLINE", "1")
    hub.requests.clear()
    assert local_folder(with_revision) == first
    assert hub.requests == []
    with pytest.raises(ArtifactError, match="hf://shop/other: cannot be downloaded"):
        local_folder("hf://shop/other")
    assert hub.requests == []


def test_an_unknown_repository_is_one_clear_line(hub: type[Hub]) -> None:
    with pytest.raises(ArtifactError, match="check the name, the network and your access"):
        local_folder("hf://shop/nothing")


@pytest.mark.parametrize("place", ["hf://shop", "hf://a/b/c", "hf://a/b@", "hf://a /b"])
def test_a_place_that_is_none_is_refused(place: str) -> None:
    with pytest.raises(ConfigError, match="hf://ORGANISATION/NAME"):
        local_folder(place)


def test_a_folder_stays_a_folder(tmp_path: Path) -> None:
    assert local_folder(str(tmp_path)) == tmp_path
    assert local_folder("hf") == Path("hf")


def test_the_client_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"hidvae\[hub\]"):
        local_folder("hf://shop/model")
