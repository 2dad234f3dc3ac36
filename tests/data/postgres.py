"""A PostgreSQL of the tests' own, where Debian's package is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PASSWORD = "corr3ct-h0rse"
_USER = "postgres"


def binaries() -> Path | None:
    """Folder of initdb and pg_ctl; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


@contextmanager
def running_postgres(folder: Path) -> Iterator[str]:
    """Address of a fresh cluster that asks for a password, on a free port of the loopback."""
    place = binaries()
    if place is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    as_user: dict[str, str] = {}
    if os.getuid() == 0:  # the server refuses to run as root
        try:
            shutil.chown(folder, _USER, _USER)
        except LookupError:
            pytest.skip(f"PostgreSQL doesn't run as root, and there is no user {_USER}")
        as_user = {"user": _USER, "group": _USER}
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(*words: str) -> None:
        subprocess.run(
            words, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120, **as_user
        )

    call(
        f"{place}/initdb", "-D", f"{folder}/data", "-U", "tester", "-A", "scram-sha-256",
        f"--pwfile={secret}", "-E", "UTF8", "--locale=C", "--no-sync",
    )  # fmt: skip
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    pg_ctl = (f"{place}/pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log")
    call(*pg_ctl, "-o", options, "start")
    try:
        yield f"postgresql://tester@127.0.0.1:{port}/postgres"
    finally:
        call(*pg_ctl, "-m", "immediate", "stop")
