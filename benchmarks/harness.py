"""What the benchmarks share: timing in turns, floors, bars, and the one file of results.

Contestants take turns within one process: a machine that is busy for a while is then unfair to all
of them. A ratio is the median over the rounds of the ratio within a round, for the same reason.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hidvae.store.artifacts import (
    describe_machine,
    git_commit,
    library_versions,
    read_json,
    write_json,
)

RESULTS = Path(__file__).parent.parent / "results" / "benchmarks.json"
"""Where a full run keeps its numbers, a section per benchmark."""
_PEERS = ("transformers", "scikit-learn", "vector-quantize-pytorch", "scipy", "polars")


@dataclass(frozen=True)
class Timing:
    """Seconds of one contestant, a number per round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.seconds)

    def percentile(self, percent: float) -> float:
        """Seconds that ``percent`` of the rounds do not exceed, interpolated."""
        return float(np.percentile(self.seconds, percent))

    def ratio_to(self, other: Timing) -> float:
        """How many times as long as another that took turns with this one."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    @classmethod
    def sum_of(cls, parts: Iterable[Timing]) -> Timing:
        """Parts of one job that took turns, added up by round."""
        rounds = zip(*(part.seconds for part in parts), strict=True)
        return cls(tuple(sum(seconds) for seconds in rounds))


def take_turns(
    contestants: Mapping[str, Callable[[], object]], rounds: int, warmups: int = 1
) -> dict[str, Timing]:
    """Time every contestant once per round; every second round goes backwards.

    Args:
        contestants: By name; what a call returns is thrown away.
        rounds: At least 1.
        warmups: Rounds before the first that counts.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(-warmups, rounds):
        names = list(contestants)
        for name in names if number % 2 == 0 else reversed(names):
            started = time.perf_counter()
            contestants[name]()
            if number >= 0:
                seconds[name].append(time.perf_counter() - started)
            else:
                seconds[name].clear()
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


class MatrixProduct:
    """The floor of what is bound by arithmetic: one large square product."""

    def __init__(self, dtype: torch.dtype = torch.float32, size: int = 2048) -> None:
        generator = torch.Generator().manual_seed(0)
        self.left = torch.randn(size, size, generator=generator).to(dtype)
        self.right = torch.randn(size, size, generator=generator).to(dtype)
        self.out = torch.empty_like(self.left)
        self.flops = 2 * size**3

    def __call__(self) -> None:
        """One product, into the same memory every time."""
        torch.mm(self.left, self.right, out=self.out)


class MemoryCopy:
    """The floor of what is bound by memory: one large copy, counted as read and written."""

    def __init__(self, num_bytes: int = 1 << 28) -> None:
        self.source = torch.ones(num_bytes // 4)
        self.target = torch.zeros_like(self.source)
        self.bytes = 2 * 4 * len(self.source)

    def __call__(self) -> None:
        """One copy."""
        self.target.copy_(self.source)


@dataclass(frozen=True)
class Bar:
    """What a number is held against."""

    name: str
    value: float
    limit: float
    is_minimum: bool = False
    """Whether the value must reach the limit; else it must not exceed it."""

    @property
    def is_met(self) -> bool:
        """Whether the value is on the right side of the limit."""
        return self.value >= self.limit if self.is_minimum else self.value <= self.limit

    def __str__(self) -> str:
        wanted = "at least" if self.is_minimum else "at most"
        verdict = "met" if self.is_met else "MISSED"
        return f"{verdict:6s}  {self.name}: {_text(self.value)}, {wanted} {_text(self.limit)}"


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has; the first line of its docstring says what it does."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all?")
    parser.add_argument("--threads", type=int, help="of torch; its own choice by default")
    parser.add_argument(
        "--output",
        type=Path,
        help="JSON file to put the section into; results/benchmarks.json, or none with --quick",
    )
    return parser


def set_threads(arguments: argparse.Namespace) -> int:
    """Have torch use ``--threads``; returns how many it uses."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return torch.get_num_threads()


def report(
    section: str, arguments: argparse.Namespace, results: Mapping[str, Any], bars: Sequence[Bar]
) -> None:
    """Print the bars, and put the section into the file of results.

    Args:
        section: Name of the benchmark; its older numbers are replaced, other sections stay.
        arguments: Of ``argument_parser``.
        results: JSON values.
        bars: Met or missed.
    """
    for bar in bars:
        print(bar)
    output = arguments.output or (None if arguments.quick else RESULTS)
    if output is None:
        return
    versions = library_versions()
    for name in _PEERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    found = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "is_quick": arguments.quick,
        "machine": describe_machine(),
        "threads": torch.get_num_threads(),
        "git_commit": git_commit(),
        "versions": versions,
        "bars": [{**asdict(bar), "is_met": bar.is_met} for bar in bars],
        "results": dict(results),
    }
    merge_section(output, section, found)
    print(f"{section} is in {output}")


def merge_section(output: Path, section: str, found: Mapping[str, Any]) -> None:
    """Replace one section of a JSON file, atomically; a missing file is made."""
    output.parent.mkdir(parents=True, exist_ok=True)
    everything = read_json(output) if output.exists() else {}
    write_json(output, {**everything, section: dict(found)})


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Rows of the same keys, which head the columns."""
    lines = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = zip(line, widths, strict=True)
        print("  ".join(cell.rjust(width) for cell, width in cells), flush=True)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
