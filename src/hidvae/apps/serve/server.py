"""Run the application with uvicorn: bind, tell where, and stop without dropping a request."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import torch
import uvicorn

from hidvae.apps.serve.app import create_app
from hidvae.apps.serve.guard import CHANGE_SECONDS
from hidvae.apps.serve.live_run import LiveRun
from hidvae.apps.serve.routes_items import TOKEN_VARIABLE
from hidvae.errors import ConfigError

logger = logging.getLogger(__name__)

_BACKLOG = 2048


def serve(
    run: Path,
    host: str,
    port: int,
    threads: int | None = None,
    shows_users: bool | None = None,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Serve a run until SIGINT or SIGTERM; requests in flight are then answered first.

    Args:
        run: Folder that ``hidvae run`` wrote.
        host: Address to listen on.
        port: 0 takes a free one.
        threads: Of the search; half of what torch would take by default, so that the rest is left
            to HTTP and to changes of items.
        shows_users: Whether ``/users`` and ``user_id`` are answered; by default only where nobody
            but this machine can ask.
        allowed_hosts: Names, besides those of this machine, under which it may be asked. Without
            any, a server that others reach may be asked under every name.

    Raises:
        ConfigError: If the address cannot be had.
        NotTrainedError, ArtifactError: As ``Recommender.load``.
    """
    torch.set_num_threads(threads or max(1, torch.get_num_threads() // 2))
    with _listen(host, port) as listening:
        is_local = _is_local(host)
        shows_users = is_local if shows_users is None else shows_users
        app = create_app(
            LiveRun(run),
            os.environ.get(TOKEN_VARIABLE) or None,
            shows_users=shows_users,
            hosts=_hosts(host, allowed_hosts) if is_local or allowed_hosts else None,
        )
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=int(CHANGE_SECONDS),
            )
        )
        # uvicorn raises the signal again at its end; with its own handler that is no crash.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, server.handle_exit)
        listening.listen(_BACKLOG)  # from now on who connects is answered
        name = f"[{host}]" if ":" in host else host
        logger.info("serving %s on http://%s:%d", run, name, listening.getsockname()[1])
        if not shows_users:
            logger.info("/users and user_id are not answered (--users)")
        server.run(sockets=[listening])


def _is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _hosts(host: str, allowed: Sequence[str]) -> frozenset[str]:
    """Names under which the server may be asked."""
    own = f"[{host}]" if ":" in host else host
    names = ("localhost", "127.0.0.1", "[::1]", own, *allowed)
    return frozenset(name.strip().lower().rstrip(".") for name in names)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small packets at once only where the protocol is given; else an answer of two
    # packets waits for 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"expected an address to listen on; {host} port {port} is not free ({error.strerror}); "
            "choose another --host or --port"
        ) from error
    return listening
