"""How numbers and names are written, in terminal and pages; what is unknown is a dash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hidvae.log import printable

NOTHING = "–"


def number(value: float | None) -> str:
    """``12,345`` if whole, else four digits: ``0.1235``."""
    if _is_unknown(value):
        return NOTHING
    return f"{value:,}" if isinstance(value, (int, np.integer)) else f"{value:,.4g}"


def percent(share: float | None, digits: int = 1) -> str:
    """``12.3%``; what is there but too little to see is ``<0.1%``."""
    if share is None or _is_unknown(share):
        return NOTHING
    smallest = 10.0**-digits
    is_too_small = 0 < 100 * share < smallest / 2
    return f"<{smallest:.{digits}f}%" if is_too_small else f"{share:.{digits}%}"


def score(value: float | None) -> str:
    """Four digits after the point."""
    return NOTHING if _is_unknown(value) else f"{value:.4f}"


def _is_unknown(value: float | None) -> bool:
    """Whether nothing was measured: None, or a mean of nothing."""
    return value is None or value != value


def score_with_interval(metrics: Mapping[str, Any], name: str) -> str:
    """``0.1162 [0.1120, 0.1204]``; the value alone if it has no interval."""
    bounds = bounds_of(metrics, name)
    shown = score(metrics.get(name))
    return shown if bounds is None else f"{shown} [{bounds[0]:.4f}, {bounds[1]:.4f}]"


def difference(found: Mapping[str, Any] | None) -> str:
    """``+0.0123 [+0.0101, +0.0145]``, from a difference and its interval."""
    if found is None:
        return NOTHING
    low, high = found["ci"]
    return f"{found['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"


def seconds(value: float) -> str:
    """``12.3 s``, or ``5 min 12 s`` from two minutes on."""
    minutes, rest = divmod(round(value), 60)
    return f"{value:.1f} s" if value < 120 else f"{minutes} min {rest} s"


def short(text: str, width: int = 80) -> str:
    """One line of at most ``width`` characters, without control characters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def bounds_of(metrics: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """A metric's interval, if it has one."""
    found = metrics.get(f"{name}_ci")
    return None if found is None else (found[0], found[1])


def level_value(values: Sequence[Any], level: int) -> Any:
    """Entry of a list that may have fewer levels than there are."""
    return values[level] if level < len(values) else None


def evenly_spread(total: int, wanted: int) -> list[int]:
    """Up to ``wanted`` different rows of ``total``, from the first to the last."""
    rows: list[int] = np.linspace(0, total - 1, min(wanted, total)).round().astype(int).tolist()
    return rows
