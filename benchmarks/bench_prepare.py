"""Time and peak memory of ``hidvae prepare`` on a generated log.

    python benchmarks/bench_prepare.py --events 50000000 --items 1000000 --users 3000000

Generates the log (skewed popularity, shuffled, with duplicates and ties), prepares it with a 3-core
in a process of its own, and prints seconds, events per second and peak memory. ``--format`` takes
parquet, csv or csv.gz; ``--alone`` keeps the numbers in a JSON file without other benchmarks, which
is how docs/results.md reads them. ``--against CHECKOUT`` also has the code of another checkout
prepare the same log, in turns with this one, and reports how many times as long this one takes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from harness import Bar, argument_parser, report, set_threads, take_turns

from hidvae.store.artifacts import describe_machine, git_commit

_PREPARE = """
import sys
from hidvae.config import Config, DatasetConfig
from hidvae.run.run import Run
config = Config(dataset=DatasetConfig(folder=sys.argv[1], min_events=3))
metrics = Run(sys.argv[2]).make(config, only="prepare")["dataset"].metrics
print({name: metrics[name] for name in ("num_users", "num_items", "num_events", "tied_events")})
"""
_EVENTS_PER_PART = 5_000_000
_MOST_TIMES_AS_LONG = 1.3


def main(argv: Sequence[str] | None = None) -> None:
    """Generate, prepare, report."""
    parser = argument_parser(__doc__)
    parser.add_argument("--events", type=int, help="5 million, or 100 thousand with --quick")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=300_000)
    parser.add_argument("--format", choices=["parquet", "csv", "csv.gz"], default="parquet")
    parser.add_argument(
        "--folder", type=Path, help="Where to generate; a temporary folder if not given."
    )
    parser.add_argument("--alone", type=Path, help="JSON file for these numbers only.")
    parser.add_argument(
        "--against", type=Path, help="Checkout of older code, to read the same log in turns."
    )
    parser.add_argument("--rounds", type=int, default=3, help="Turns of --against.")
    arguments = parser.parse_args(argv)
    set_threads(arguments)
    environment = dict(os.environ)
    if arguments.threads:
        environment["POLARS_MAX_THREADS"] = str(arguments.threads)
    if arguments.quick:
        arguments.items, arguments.users = 1000, 3000
    arguments.events = arguments.events or (100_000 if arguments.quick else 5_000_000)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        generate(folder, arguments.events, arguments.items, arguments.users, arguments.format)
        size = sum(file.stat().st_size for file in folder.iterdir())
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", _PREPARE, str(folder), str(folder / "dataset")],
            check=True,
            env=environment,
        )
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # KiB on Linux
        ratio = None
        if arguments.against:
            ratio = times_as_long(arguments.against, folder, arguments.rounds, environment)
    found = {
        "events": arguments.events,
        "items": arguments.items,
        "users": arguments.users,
        "format": arguments.format,
        "file_gib": round(size / 2**30, 2),
        "seconds": round(seconds, 1),
        "events_per_second": round(arguments.events / seconds),
        "peak_gib": round(peak, 2),
        "machine": describe_machine(),
        "git_commit": git_commit(),
    }
    bars = []
    if ratio is not None:
        found["times_as_long"] = round(ratio, 3)
        bars = [Bar("times as long as the other checkout", ratio, _MOST_TIMES_AS_LONG)]
    print(json.dumps(found, indent=2))
    if arguments.alone:
        arguments.alone.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    report("prepare", arguments, found, bars)


def times_as_long(other: Path, data: Path, rounds: int, environment: Mapping[str, str]) -> float:
    """Time of ``hidvae prepare`` of this checkout over that of another, as a median of rounds."""

    def prepare(checkout: Path) -> None:
        with tempfile.TemporaryDirectory() as output:
            command = [sys.executable, "-m", "hidvae", "prepare", "--data", str(data)]
            command += ["--output", str(Path(output) / "run")]
            command += ["--set", "DatasetConfig.min_events=3"]
            source = {"PYTHONPATH": str(checkout / "src")}
            subprocess.run(command, check=True, env={**environment, **source})

    here = Path(__file__).resolve().parent.parent
    checkouts = {"this": here, "other": other.resolve()}
    timings = take_turns(
        {name: partial(prepare, path) for name, path in checkouts.items()}, rounds, warmups=0
    )
    return timings["this"].ratio_to(timings["other"])


def generate(folder: Path, num_events: int, num_items: int, num_users: int, suffix: str) -> None:
    """Write items.parquet and interactions.<suffix>, in parts that fit into memory."""
    items = pl.DataFrame({"number": np.arange(num_items)}).select(
        item_id=pl.format("item-{}", "number"),
        title=pl.format("Thing number {}", "number"),
        categories=pl.format(
            "All > Aisle {} > Shelf {}", pl.col("number") % 40, pl.col("number") % 900
        ),
    )
    items.write_parquet(folder / "items.parquet")
    sizes = [_EVENTS_PER_PART] * (num_events // _EVENTS_PER_PART)
    sizes += [num_events % _EVENTS_PER_PART] * (num_events % _EVENTS_PER_PART > 0)
    parts = []
    for number, size in enumerate(sizes):
        parts.append(folder / f"part-{number}.parquet")
        _draw_events(number, size, num_items, num_users).write_parquet(parts[-1])
    log = pl.scan_parquet(parts)
    target = folder / f"interactions.{suffix}"
    if suffix == "parquet":
        log.sink_parquet(target)
    else:
        log.sink_csv(target, compression="gzip" if suffix == "csv.gz" else "uncompressed")
    for part in parts:
        part.unlink()


def _draw_events(seed: int, size: int, num_items: int, num_users: int) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    item = (num_items * draw.random(size) ** 2.5).astype(np.int64)  # few items take most events
    user = (num_users * draw.random(size) ** 1.5).astype(np.int64)
    second = 1_600_000_000 + 86_400 * draw.integers(0, 700, size)  # whole days: many ties
    return pl.DataFrame({"user": user, "item": item, "timestamp": second}).select(
        user_id=pl.format("user-{}", "user"),
        item_id=pl.format("item-{}", "item"),
        timestamp="timestamp",
    )


if __name__ == "__main__":
    main()
