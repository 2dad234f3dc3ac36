"""The HTTP server of a run: recommendations, reasons, the catalogue; FastAPI and uvicorn."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from hidvae.errors import MissingExtraError

_NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def serve_run(
    run: Path | str,
    host: str = "127.0.0.1",
    port: int = 8000,
    threads: int | None = None,
    shows_users: bool | None = None,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Serve a run until it is told to stop; see ``server.serve``.

    Raises:
        MissingExtraError: If the extra serve is not installed.
    """
    try:
        for name in _NEEDED:
            importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            'a server needs FastAPI and uvicorn; run: pip install "hidvae[serve]"'
        ) from error
    from hidvae.apps.serve.server import serve

    serve(Path(run), host, port, threads, shows_users, allowed_hosts)
