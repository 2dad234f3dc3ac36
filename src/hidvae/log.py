"""Where log lines go: Rich on a terminal, plain ``HH:MM:SS stage message`` lines elsewhere.

And what may go to a terminal at all: see ``printable``, by which log lines, errors, texts and pages
are made harmless.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar

_STAGE: ContextVar[str] = ContextVar("stage", default="hidvae")
_JOINERS = "\u200c\u200d"
"""Invisible, but a part of words in many scripts, and of emoji."""


def printable(text: str) -> str:
    """Text with blanks for whatever would steer what shows it.

    That is control characters, which a terminal obeys, marks that turn the direction of writing for
    what follows, line ends, and halves of characters that no encoding can write.
    """
    return "".join(char if char.isprintable() or char in _JOINERS else " " for char in text)


@contextlib.contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Send the package's log lines to stderr; stdout is left to a command's results."""
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, show_level=False)
        handler.setFormatter(_StageFormatter("{stage:<8} {message}", style="{"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_StageFormatter("{asctime} {stage} {message}", "%H:%M:%S", style="{"))
    logger = logging.getLogger("hidvae")
    level_before = logger.level
    logger.addHandler(handler)
    is_further = "TORCHELASTIC_RUN_ID" in os.environ and os.environ["RANK"] != "0"  # of torchrun's
    logger.setLevel(logging.WARNING if is_further else logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level_before)


@contextlib.contextmanager
def in_stage(name: str) -> Iterator[None]:
    """Name the stage whose log lines follow."""
    token = _STAGE.set(name)
    try:
        yield
    finally:
        _STAGE.reset(token)


class _StageFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.stage = _STAGE.get()
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = printable(record.message)  # it may name items, columns, files
        return super().formatMessage(record)
