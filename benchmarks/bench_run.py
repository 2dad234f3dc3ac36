"""A whole run, raw tables to metrics, and what the model that comes out of it costs to ask.

    python benchmarks/bench_run.py --data DATA/amazon-beauty-2014
    python benchmarks/bench_run.py                                  # the demo catalogue

The default configuration, without cached vectors, in a temporary folder. Then the test users are
ranked with 50 beams and the item graph, all at once and one by one.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import Bar, Timing, argument_parser, print_table, report, set_threads, take_turns

from hidvae.config import load_config
from hidvae.data.prepare import load_dataset
from hidvae.ranking.recommender import Recommender
from hidvae.run.run import Run
from hidvae.store.artifacts import read_json
from hidvae.store.cache import CACHE_VARIABLE

DEMO = Path(__file__).parent.parent / "configs" / "demo.gin"
QUICK = ["DatasetConfig.demo_num_items=120", "DatasetConfig.demo_num_users=200"]
QUICK += ["EmbeddingConfig.text_encoder=hashing", "TokenizerConfig.epochs=2"]
QUICK += ["RetrieverConfig.epochs=1"]
TOP_K = 50
BARS = {"run_seconds": 30 * 60.0, "tokenizer_seconds": 90.0, "test_seconds": 20.0, "p50_ms": 8.0}
"""For Amazon Beauty on two cores."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run, ask, report."""
    parser = argument_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder of tables; the demo by default")
    parser.add_argument("--users", type=int, default=300, help="users who come alone")
    arguments = parser.parse_args(argv)
    set_threads(arguments)
    settings = ["RunConfig.device=cpu"]
    if arguments.data:
        settings.append(f"DatasetConfig.folder={arguments.data}")
    if arguments.quick:
        arguments.users = 10
        settings += QUICK
    config = load_config([] if arguments.data else [DEMO], settings)
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        os.environ[CACHE_VARIABLE] = str(Path(temporary) / "cache")  # no vector is there yet
        started = time.perf_counter()
        folders = Run(run).make(config)
        run_seconds = time.perf_counter() - started
        wall = read_json(run / "evaluation" / "metrics.json")["wall_seconds"]
        split = load_dataset(folders["dataset"]).split
        recommender = Recommender.load(run, device="cpu")
        test = take_turns(
            {"test": partial(recommender.rank, split.test_histories, TOP_K, split.test_users)},
            rounds=1 if arguments.quick else 3,
            warmups=0,
        )["test"]
        alone = one_by_one(recommender, arguments.users)
    found: dict[str, Any] = {
        "data": arguments.data.name if arguments.data else "demo",
        "run_seconds": run_seconds,
        "stages": wall,
        "tokenizer_seconds": folders["tokenizer"].wall_seconds,
        "test_users": len(split.test_users),
        "test_seconds": test.median,
        "p50_ms": 1000 * alone.median,
        "p95_ms": 1000 * alone.percentile(95),
        "p99_ms": 1000 * alone.percentile(99),
    }
    print_table([{name: value for name, value in found.items() if name != "stages"}])
    bars = [Bar(name, found[name], limit) for name, limit in BARS.items()]
    report("run", arguments, found, bars if arguments.data else [])


def one_by_one(recommender: Recommender, num_users: int) -> Timing:
    """Seconds of ``Recommender.recommend``, reasons included, for histories of real items."""
    draw = np.random.default_rng(0)
    item_ids = recommender.catalogue.item_ids
    seconds = []
    for number in range(num_users + 5):
        history = [item_ids[item] for item in draw.integers(len(item_ids), size=8)]
        started = time.perf_counter()
        recommender.recommend(history, 10)
        if number >= 5:  # the first ones warm up
            seconds.append(time.perf_counter() - started)
    return Timing(tuple(seconds))


if __name__ == "__main__":
    main()
