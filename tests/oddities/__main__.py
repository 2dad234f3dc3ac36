"""The long job: ``python -m tests.oddities --draws 10000 --results oddities.jsonl``.

Takes draw after draw through the product, prints what did not hold, and a count at the end. A job
that was stopped goes on by the same command: the results file keeps what is done, and only what was
broken is tried anew.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tests.oddities.check import outcome

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
_DRAWS_PER_PROCESS = 500
"""Then a fresh one takes over, so that what libraries keep does not pile up."""
_ENVIRONMENT = {
    "HIDVAE_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",  # a second one only waits, with tensors this small
    "TORCH_FAKE_TENSOR_DISPATCH_CACHE": "0",  # a quarter of an export, which it does not speed up
}


def main() -> int:
    """Exit code 1 if anything did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first draw")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--results", type=Path, help="JSON lines; seeds that are done are skipped")
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.draws)
    done = _read(arguments.results)
    left = [seed for seed in seeds if done.get(seed, "broken") == "broken"]
    started, tried = time.perf_counter(), 0
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        for seed, found, why in _outcomes(left, arguments.processes, Path(folder)):
            done[seed] = found
            if why:
                print(f"{why}\n", flush=True)
            if arguments.results is not None:
                line = {"seed": seed, "outcome": found, **({"why": why} if why else {})}
                with arguments.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            tried += 1
            if tried % 100 == 0:
                seconds = (time.perf_counter() - started) / tried
                print(f"{tried} of {len(left)} draws, {seconds:.2f} s each", flush=True)
    counts = Counter(done.get(seed, "not tried") for seed in seeds)
    print(f"seeds {seeds.start} to {seeds.stop - 1}: {dict(counts)}")
    return 1 if counts.keys() & {"broken", "not tried"} else 0


def _read(results: Path | None) -> dict[int, str]:
    """The last outcome of each seed."""
    if results is None or not results.exists():
        return {}
    rows = map(json.loads, results.read_text(encoding="utf-8").splitlines())
    return {row["seed"]: row["outcome"] for row in rows}


def _outcomes(seeds: list[int], processes: int, folder: Path) -> Iterator[tuple[int, str, str]]:
    """What ``outcome`` finds, as it comes; the end if a process dies, as of a library's fault."""
    os.environ.update(_ENVIRONMENT | {"HIDVAE_CACHE": str(folder / "cache")})
    at_once = _DRAWS_PER_PROCESS * processes
    for start in range(0, len(seeds), at_once):
        # A pool each: with max_tasks_per_child that of Python 3.11 waits for ever for a process.
        pool = ProcessPoolExecutor(
            processes,
            multiprocessing.get_context("spawn"),  # which reads the environment anew
        )
        with pool:
            trying = [pool.submit(outcome, seed, folder) for seed in seeds[start : start + at_once]]
            try:
                for future in as_completed(trying):
                    yield future.result()
            except BrokenProcessPool:
                running = [int(left.name.removeprefix("seed-")) for left in folder.glob("seed-*")]
                print(f"a process died at one of the seeds {sorted(running)}", flush=True)
                for seed in running:
                    yield seed, "broken", "its process, or one beside it, died"
                return


if __name__ == "__main__":
    raise SystemExit(main())
