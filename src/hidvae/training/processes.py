"""Which of the processes that torchrun started this one is; read without importing torch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

_IS_ALONE: ContextVar[bool] = ContextVar("is_alone", default=False)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, a Fabric is of this process alone, whatever torchrun started."""
    token = _IS_ALONE.set(True)
    try:
        yield
    finally:
        _IS_ALONE.reset(token)


def is_alone() -> bool:
    """Whether the caller is inside ``alone``."""
    return _IS_ALONE.get()


def is_launched() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def process_rank() -> int:
    """Number of this process among those that torchrun started; 0 without it."""
    return int(os.environ["RANK"]) if is_launched() else 0
