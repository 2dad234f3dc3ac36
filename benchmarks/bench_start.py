"""How long commands take to their first word: help, checking tables, recommending.

    python benchmarks/bench_start.py

Each runs in a process of its own, as a user starts it, several times in turns; what counts is the
least, as everything else on the machine only adds. The tables are 150 items and 2,000 events; the
run is the small demo, which is made first.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from harness import Bar, argument_parser, report, set_threads, take_turns

from hidvae.apps.cli import DEMO
from hidvae.config import load_config
from hidvae.run.run import Run

LIMITS = {
    "import hidvae": 0.15,
    "hidvae --help": 0.2,
    "hidvae prepare --check": 1.0,
    "hidvae recommend": 3.0,
}
"""Seconds."""
_QUICK = (
    "DatasetConfig.demo_num_items=120",
    "DatasetConfig.demo_num_users=200",
    "EmbeddingConfig.text_encoder=hashing",
    "TokenizerConfig.epochs=1",
    "RetrieverConfig.epochs=1",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Make a shop and a run, start the commands, report."""
    parser = argument_parser(__doc__)
    parser.add_argument("--tries", type=int, help="7, or 1 with --quick")
    arguments = parser.parse_args(argv)
    set_threads(arguments)
    tries = arguments.tries or (1 if arguments.quick else 7)
    with tempfile.TemporaryDirectory() as temporary:
        shop, run = Path(temporary) / "shop", Path(temporary) / "demo"
        write_shop(shop)
        settings = load_config([], [*DEMO, *(_QUICK if arguments.quick else ())])
        made = Run(run)
        made.make(settings, until="train")
        history = ",".join(made.dataset.catalogue.item_ids[:3])
        command = [sys.executable, "-m", "hidvae"]
        started = {
            "import hidvae": [sys.executable, "-c", "import hidvae"],
            "hidvae --help": [*command, "--help"],
            "hidvae prepare --check": [*command, "prepare", "--check", "--data", str(shop)],
            "hidvae recommend": [*command, "recommend", "--model", str(run), "--history", history],
        }
        timings = take_turns(
            {name: partial(_start, words) for name, words in started.items()}, tries
        )
    least = {name: min(timing.seconds) for name, timing in timings.items()}
    bars = [Bar(f"{name} (s)", least[name], limit) for name, limit in LIMITS.items()]
    report("start", arguments, {"tries": tries, "least_seconds": least}, bars)


def write_shop(folder: Path) -> None:
    """Write items.csv and interactions.csv of a small shop."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    items = [f"item-{item},Thing number {item},Aisle {item % 7}" for item in range(150)]
    events = [
        f"user-{user},item-{item},{1_600_000_000 + second}"
        for second, (user, item) in enumerate(
            zip(draw.integers(0, 300, 2000), draw.integers(0, 150, 2000), strict=True)
        )
    ]
    for name, header, rows in (
        ("items", "item_id,title,categories", items),
        ("interactions", "user_id,item_id,timestamp", events),
    ):
        (folder / f"{name}.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")


def _start(words: list[str]) -> None:
    environment = {**os.environ, "HIDVAE_OFFLINE": "1"}
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment)


if __name__ == "__main__":
    main()
