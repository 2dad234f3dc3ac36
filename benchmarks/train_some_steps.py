"""Train some steps in a process of its own and print how long they took; see bench_threads.py.

    python benchmarks/train_some_steps.py torch 60

The first argument is what is imported first. With ``hidvae`` the package sets the number of threads
and how they wait; with ``torch`` it comes too late for that.
"""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import time

WARMUPS = 5


def main(first: str, num_steps: int, is_quick: bool) -> None:
    """Print seconds, threads and the last loss as JSON."""
    importlib.import_module(first)
    import bench_training as bench
    import torch
    from generated import distinct_codes, random_retriever, semantic_ids

    from hidvae.config import RetrieverConfig
    from hidvae.training.runtime import make_reproducible

    sizes = bench.QUICK if is_quick else bench.Sizes()
    config = RetrieverConfig()
    make_reproducible(0)
    codes = distinct_codes(sizes.num_items, 3, sizes.codebook_size)
    model = random_retriever(semantic_ids(codes, sizes.codebook_size), sizes.content_dim).train()
    batches = itertools.cycle(bench.some_batches(config, sizes))
    step = bench.training_step(model, config, "32-true")
    for batch in itertools.islice(batches, WARMUPS):
        step(batch)
    started = time.perf_counter()
    for batch in itertools.islice(batches, num_steps):
        step(batch)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), "--quick" in sys.argv)
