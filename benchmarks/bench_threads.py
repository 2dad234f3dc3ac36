"""Training steps by the threads that are used and how they wait: alone, beside others, on a quota.

    python benchmarks/bench_threads.py
    python benchmarks/bench_threads.py --only alone --spins 1000 --spins 30000

Each measurement is a process of its own that trains on random data of Beauty's size, because an
OpenMP runtime reads its settings when it is loaded. The contestants take turns within a round:
torch's default, ``OMP_WAIT_POLICY=PASSIVE``, one thread, and what ``hidvae.threads`` chooses. A
busy process holds one core: the first is a Python loop, the second multiplies matrices.

The quota of one core is a cgroup where one can be made (as root, on most machines). Elsewhere the
processes are pinned to one core; torch then knows that it has only one, which is an easier case.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from harness import Bar, Timing, argument_parser, print_table, report

from hidvae.threads import cgroup_folders

CHILD = Path(__file__).parent / "train_some_steps.py"
VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
BUSY = (
    "while True: pass",
    "import numpy\nmatrix = numpy.ones((512, 512))\nwhile True: matrix @ matrix",
)
_SECONDS_TO_START = 1.0
_PERIOD_US = 100_000


@dataclass(frozen=True)
class Contestant:
    """A choice of threads."""

    first: str
    """What is imported first, ``hidvae`` or ``torch``."""
    variables: dict[str, str] = field(default_factory=dict)


CONTESTANTS = {
    "default": Contestant("torch"),
    "passive": Contestant("torch", {"OMP_WAIT_POLICY": "PASSIVE"}),
    "one thread": Contestant("torch", {"OMP_NUM_THREADS": "1"}),
    "hidvae": Contestant("hidvae"),
}
SITUATIONS = {
    "alone": (0, False),
    "one busy": (1, False),
    "two busy": (2, False),
    "quota of one core": (0, True),
}
"""Busy processes beside it, and whether it may use one core only."""
Join = Callable[[], None]
"""Called in a new process before it starts: puts it where it may use one core."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and keep."""
    parser = argument_parser(__doc__)
    parser.add_argument("--steps", type=int, default=60, help="that are timed, 60 by default")
    parser.add_argument("--rounds", type=int, default=3, help="3 by default")
    parser.add_argument("--only", action="append", choices=SITUATIONS, help="repeatable; else all")
    parser.add_argument(
        "--spins", type=int, action="append", default=[], help="further GOMP_SPINCOUNT; repeatable"
    )
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.steps, arguments.rounds = 2, 1
    contestants = dict(CONTESTANTS)
    for spins in arguments.spins:
        contestants[f"{spins} spins"] = Contestant("hidvae", {"GOMP_SPINCOUNT": str(spins)})
    rows: list[dict[str, object]] = []
    bars: list[Bar] = []
    kind = ""
    for name in arguments.only or SITUATIONS:
        num_busy, has_quota = SITUATIONS[name]
        with busy_processes(num_busy), one_core(has_quota) as (join, kind_here):
            kind = kind_here or kind
            found = measure(contestants, arguments.steps, arguments.rounds, arguments.quick, join)
        timings = {who: Timing(tuple(seconds)) for who, (seconds, _) in found.items()}
        for who, timing in timings.items():
            ratios = {
                f"over {other}": timing.ratio_to(timings[other])
                for other in ("default", "passive", "one thread")
            }
            row = {"situation": name, "threads of": who, "number": found[who][1]}
            rows.append({**row, "seconds": timing.median, **ratios})
        bars.append(bar_of(name, timings))
    print_table(rows)
    if kind:
        print(f"quota of one core by {kind}")
    report("threads", arguments, {"by_situation": rows, "quota_by": kind}, bars)


def bar_of(situation: str, timings: dict[str, Timing]) -> Bar:
    """Alone: the default and 5 %. Else: the better of passive and one thread, and 10 %."""
    ours = timings["hidvae"]
    if situation == "alone":
        return Bar("alone: hidvae over torch's default", ours.ratio_to(timings["default"]), 1.05)
    value = max(ours.ratio_to(timings[other]) for other in ("passive", "one thread"))
    return Bar(f"{situation}: hidvae over the better of passive and one thread", value, 1.1)


def measure(
    contestants: dict[str, Contestant], num_steps: int, rounds: int, is_quick: bool, join: Join
) -> dict[str, tuple[list[float], int]]:
    """Seconds of each contestant, a number per round, and how many threads it had."""
    found: dict[str, tuple[list[float], int]] = {}
    for number in range(rounds):
        names = list(contestants)
        for name in names if number % 2 == 0 else reversed(names):
            seconds, threads = train(contestants[name], num_steps, is_quick, join)
            found.setdefault(name, ([], threads))[0].append(seconds)
            print(f"{name}: {seconds:.2f} s, {threads} threads", file=sys.stderr, flush=True)
    return {name: found[name] for name in contestants}


def train(contestant: Contestant, num_steps: int, is_quick: bool, join: Join) -> tuple[float, int]:
    """Seconds of the steps, and threads."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, CHILD, contestant.first, str(num_steps), *["--quick"] * is_quick],
        env=environment | contestant.variables,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=join,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return found["seconds"], found["threads"]


@contextlib.contextmanager
def busy_processes(number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Inside, so many processes hold a core each."""
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=one_thread) for code in BUSY[:number]
    ]
    try:
        if processes:
            time.sleep(_SECONDS_TO_START)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def one_core(is_wanted: bool) -> Iterator[tuple[Join, str]]:
    """What a new process has to call to have one core's worth of time, and by what means."""
    if not is_wanted:
        yield (lambda: None), ""
        return
    for parent in cgroup_folders():
        group = parent / f"hidvae-bench-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            limit(group)
            yield (partial(_join, group)), "cgroup"
            return
        except NoQuota:
            continue
        finally:
            group.rmdir()
    first = min(os.sched_getaffinity(0))
    yield (lambda: os.sched_setaffinity(0, {first})), "affinity"


class NoQuota(Exception):
    """This cgroup has no controller of CPU time."""


def limit(group: Path) -> None:
    """Give a cgroup one core.

    Raises:
        NoQuota: If it cannot have a quota.
    """
    try:
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{_PERIOD_US} {_PERIOD_US}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(_PERIOD_US))
    except OSError as error:
        raise NoQuota from error


def _join(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


if __name__ == "__main__":
    main()
