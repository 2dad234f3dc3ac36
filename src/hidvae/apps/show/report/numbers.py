"""How numbers are written on the pages; what is unknown is a dash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NOTHING = "–"


def count(value: int | None) -> str:
    """``12,345``."""
    return NOTHING if value is None else f"{value:,}"


def share(value: float | None, digits: int = 1) -> str:
    """``12.3%``."""
    return NOTHING if value is None else f"{value:.{digits}%}"


def score(value: float | None) -> str:
    """Four digits after the point."""
    return NOTHING if value is None else f"{value:.4f}"


def seconds(value: float) -> str:
    """``12.3 s``, or ``5 min 12 s`` from two minutes on."""
    minutes, rest = divmod(round(value), 60)
    return f"{value:.1f} s" if value < 120 else f"{minutes} min {rest} s"


def short(text: str, width: int = 80) -> str:
    """A line of at most ``width`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def bounds_of(metrics: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """A metric's interval, where it has one."""
    found = metrics.get(f"{name}_ci")
    return None if found is None else (found[0], found[1])


def level_value(values: Sequence[Any], level: int) -> Any:
    """Entry of a list that may have fewer levels than there are."""
    return values[level] if level < len(values) else None


def evenly_spread(total: int, wanted: int) -> list[int]:
    """Up to ``wanted`` different rows of ``total``, from the first to the last."""
    rows: list[int] = np.linspace(0, total - 1, min(wanted, total)).round().astype(int).tolist()
    return rows
