"""The long job: ``python -m tests.oddities --draws 10000 --seed 0``.

Goes through the draws one by one, prints what did not hold and a count at the end. Several of them
side by side take different seeds.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.oddities.check import Broken, attempt


def main() -> int:
    """Exit code 1 if anything did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first draw")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    counts: Counter[str] = Counter()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seed, arguments.seed + arguments.draws):
            try:
                counts[attempt(seed, Path(folder))] += 1
            except Broken as error:
                counts["broken"] += 1
                print(f"{error}\n", flush=True)
            done = seed - arguments.seed + 1
            if done % 100 == 0:
                print(
                    f"{done} draws: {dict(counts)}, {time.perf_counter() - started:.0f} s",
                    flush=True,
                )
    print(f"seeds {arguments.seed} to {arguments.seed + arguments.draws - 1}: {dict(counts)}")
    return 1 if counts["broken"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
