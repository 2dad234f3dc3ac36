"""A whole run at the limits of one machine: time and peak memory of every stage.

    python benchmarks/bench_large.py --events 50000000 --items 1000000 --users 3000000

Generates the log, then runs each command in a process of its own with configs/large.gin and
``--steps`` steps of the retriever. With ``--folder`` what is there and measured is not done again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_prepare import generate
from harness import Bar, argument_parser, print_table, report, set_threads

from hidvae.run.stages import COMMANDS
from hidvae.store.artifacts import read_json, write_json

CONFIG = Path(__file__).parent.parent / "configs" / "large.gin"
MOST_GIB = 20.0
QUICK = ["TokenizerConfig.codebook_size=64", "TokenizerConfig.hidden_dims=(64,)"]


def main(argv: Sequence[str] | None = None) -> None:
    """Generate, run, report."""
    parser = argument_parser(__doc__)
    parser.add_argument("--events", type=int, default=50_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=3_000_000)
    parser.add_argument("--steps", type=int, default=300, help="of the retriever")
    parser.add_argument("--folder", type=Path, help="to keep data and run; a temporary one if none")
    arguments = parser.parse_args(argv)
    set_threads(arguments)
    if arguments.quick:
        arguments.events, arguments.items, arguments.users = 20_000, 500, 1000
        arguments.steps = 5
    settings = [f"RetrieverConfig.max_steps={arguments.steps}", *(QUICK if arguments.quick else [])]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        data, run = folder / "data", folder / "run"
        measured = folder / "stages.json"
        if not measured.exists():
            data.mkdir(parents=True, exist_ok=True)
            generate(data, arguments.events, arguments.items, arguments.users, "parquet")
            write_json(measured, [])
        stages = read_json(measured)
        for command in COMMANDS[len(stages) :]:
            stages.append(run_command(command, data, run, settings))
            write_json(measured, stages)
        dataset = read_json(run / "dataset" / "manifest.json")["facts"]
        metrics = read_json(run / "evaluation" / "metrics.json")
    print_table(stages)
    results = {
        "events": arguments.events,
        "steps": arguments.steps,
        "dataset": {name: dataset[name] for name in ("num_users", "num_items", "num_events")},
        "stages": stages,
        "test": {name: metrics["test"][name] for name in ("num_users", "recall@10")},
    }
    peak = max(stage["peak_gib"] for stage in stages)
    report("large", arguments, results, [Bar("peak memory in GiB", peak, MOST_GIB)])


def run_command(command: str, data: Path, run: Path, settings: Sequence[str]) -> dict[str, Any]:
    """One ``hidvae`` command; its seconds and its peak memory.

    Raises:
        CalledProcessError: If it fails.
    """
    line = [sys.executable, "-m", "hidvae", command, "--output", str(run)]
    if command == COMMANDS[0]:
        line += ["--data", str(data), "--config", str(CONFIG)]
        line += [word for setting in settings for word in ("--set", setting)]
    started = time.perf_counter()
    process = subprocess.Popen(line)
    _, status, usage = os.wait4(process.pid, 0)
    code = process.returncode = os.waitstatus_to_exitcode(status)
    if code:
        raise subprocess.CalledProcessError(code, line)
    return {
        "command": command,
        "seconds": round(time.perf_counter() - started, 1),
        "peak_gib": round(usage.ru_maxrss / 2**20, 2),  # KiB on Linux
    }


if __name__ == "__main__":
    main()
