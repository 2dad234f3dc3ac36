"""How far a transfer is: a Rich bar on a terminal, a log line every ten seconds elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

_LOGGER = logging.getLogger("hidvae.download")

SECONDS_BETWEEN_LINES = 10.0
"""Time between two log lines where there is no terminal."""


@contextlib.contextmanager
def show_transfer(name: str, *, done: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a transfer while the block runs.

    Args:
        name: What is transferred.
        done: Bytes that are there already.
        total: Bytes in the end; None if the server does not say.

    Yields:
        A function to call with the number of bytes that are there now.
    """
    if sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(name, completed=done, total=total)
            yield lambda now: bar.update(task, completed=now)
    else:
        yield _Lines(name, total)


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


class _Lines:
    def __init__(self, name: str, total: int | None) -> None:
        self._name = name
        self._total = total
        self._last = time.monotonic()

    def __call__(self, now: int) -> None:
        if time.monotonic() - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = time.monotonic()
        share = f" of {decimal(self._total)} ({now / self._total:.0%})" if self._total else ""
        _LOGGER.info("%s: %s%s", self._name, decimal(now), share)
