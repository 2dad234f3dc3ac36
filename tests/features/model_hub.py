"""As much of the Hugging Face Hub as loading a model asks for, on the loopback."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


class ModelHub:
    """Repositories of models, each with commits, of which one is its main branch."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, Path]] = {}
        self.main: dict[str, str] = {}
        self.requests: list[str] = []

    def push(self, model: str, folder: Path) -> str:
        """A commit of a model's folder, now the main branch."""
        commits = self.commits.setdefault(model, {})
        commit = hashlib.sha1(f"{model} {len(commits)}".encode()).hexdigest()
        commits[commit] = folder
        self.main[model] = commit
        return commit

    def answer(self, path: str) -> tuple[int, str, str, bytes]:
        """Status, code of an error, commit and body."""
        parts = path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            model, rest = "/".join(parts[2:4]), parts[4:]
            revision = rest[1] if rest[:1] == ["revision"] else "main"
        else:
            model, rest = "/".join(parts[:2]), parts[2:]
            revision = rest[1] if rest[:1] == ["resolve"] else "main"
        if model not in self.commits:
            return 404, "RepoNotFound", "", b""
        commit = self.main[model] if revision == "main" else revision
        folder = self.commits[model].get(commit)
        if folder is None:
            return 404, "RevisionNotFound", "", b""
        names = [f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()]
        if parts[0] == "api":
            siblings = [{"rfilename": name} for name in names]
            info = {"id": model, "sha": commit, "siblings": siblings, "tags": []}
            return 200, "", commit, json.dumps(info).encode()
        name = "/".join(rest[2:])
        if name not in names:
            return 404, "EntryNotFound", commit, b""
        return 200, "", commit, (folder / name).read_bytes()


@contextlib.contextmanager
def model_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    """A Hub that is asked instead of the real one, and an empty cache of its models."""
    hub = ModelHub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.requests.append(self.path)
            status, error, commit, body = hub.answer(self.path)
            self.send_response(status)
            if error:
                self.send_header("X-Error-Code", error)
            if commit:
                self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.constants.ENDPOINT", address)
        # Some libraries keep an HfApi, with the address that there was then: nobody lists files.
        patch.setattr("huggingface_hub.hf_api.HfApi.list_repo_tree", lambda *_, **__: iter(()))
        patch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        patch.setenv("SENTENCE_TRANSFORMERS_HOME", str(cache))
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        patch.delenv("HIDVAE_OFFLINE", raising=False)
        try:
            yield hub
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
