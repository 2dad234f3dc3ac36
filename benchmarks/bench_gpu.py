"""Training steps and searches on a CUDA device, at the sizes of the benchmarks for a CPU.

    python benchmarks/bench_gpu.py

Random weights, 12,101 items; a training step as in ``bench_training``, in batches as large as a GPU
wants, and searches as in ``bench_search``, of many users at once and of one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from bench_search import ARCHITECTURES
from bench_search import QUICK as FEW_SEARCHES
from bench_search import Sizes as SearchSizes
from bench_training import PRECISIONS, count_flops, some_batches, training_step
from bench_training import QUICK as FEW_STEPS
from bench_training import Sizes as TrainingSizes
from generated import distinct_codes, random_histories, random_retriever, rank, semantic_ids
from harness import Timing, argument_parser, print_table, report, set_threads, take_turns

from hidvae.config import RetrieverConfig
from hidvae.retriever.interface import HistoryBatch
from hidvae.training.runtime import make_reproducible

BATCH_TOKENS = (1024, 16384)
"""Positions of a training batch: the default, and what keeps a GPU busy."""
BATCH_USERS = (256, 2048)
"""Users of a search."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and keep."""
    arguments = argument_parser(__doc__).parse_args(argv)
    set_threads(arguments)
    if not torch.cuda.is_available():
        raise SystemExit(
            "expected a CUDA device; found none; bench_training and bench_search need none"
        )
    make_reproducible(0)  # as the stages do
    steps, searches = TrainingSizes(num_users=40_000), SearchSizes(singles=100)
    if arguments.quick:
        steps, searches = FEW_STEPS, FEW_SEARCHES
    training = [
        training_row(precision, tokens, steps)
        for precision in PRECISIONS
        for tokens in BATCH_TOKENS
    ]
    print_table(training)
    search = [search_row(name, users, searches) for name in ARCHITECTURES for users in BATCH_USERS]
    print_table(search)
    results = {"device": torch.cuda.get_device_name(), "training": training, "search": search}
    report("gpu", arguments, results, [])


def training_row(precision: str, batch_tokens: int, sizes: TrainingSizes) -> dict[str, Any]:
    """Steps of the default retriever."""
    config = replace(RetrieverConfig(), batch_tokens=batch_tokens)
    ids = semantic_ids(distinct_codes(sizes.num_items, 3, sizes.codebook_size), sizes.codebook_size)
    model = random_retriever(ids, sizes.content_dim).train()
    batches = some_batches(config, sizes)
    flops = sum(count_flops(model, batch, config.label_smoothing) for batch in batches)
    step = training_step(model, config, precision, device="cuda")
    on_device = [HistoryBatch(*(part.cuda() for part in batch)) for batch in batches]

    def all_steps() -> None:
        for batch in on_device:
            step(batch)

    timing = timed(all_steps, sizes.rounds)
    return {
        "precision": precision,
        "batch_tokens": batch_tokens,
        "step_ms": 1000 * timing.median / len(batches),
        "positions_per_second": sum(int((b.targets >= 0).sum()) for b in batches) / timing.median,
        "tflop_per_second": flops / timing.median / 1e12,
    }


def search_row(name: str, num_users: int, sizes: SearchSizes) -> dict[str, Any]:
    """Searches of an architecture of default width and layers."""
    codes = distinct_codes(sizes.num_items, sizes.num_levels, sizes.codebook_size)
    ids = semantic_ids(codes, sizes.codebook_size)
    model = random_retriever(ids, sizes.content_dim, architecture=name).cuda()
    items, users = (
        part.cuda() for part in random_histories(num_users, sizes.history, sizes.num_items)
    )
    search = partial(rank, model, beams=sizes.beams)
    batch = timed(partial(search, items, users), sizes.batches)
    one = timed(partial(search, items[:1], users[:1]), sizes.singles)
    return {
        "search": name,
        "users_at_once": num_users,
        "users_per_second": num_users / batch.median,
        "p50_ms_of_one": 1000 * one.median,
        "p99_ms_of_one": 1000 * one.percentile(99),
    }


def timed(call: Callable[[], object], rounds: int) -> Timing:
    """Rounds of a call, each until the device has finished."""

    def finished() -> None:
        call()
        torch.cuda.synchronize()

    return take_turns({"it": finished}, rounds, warmups=3)["it"]


if __name__ == "__main__":
    main()
