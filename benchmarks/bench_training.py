"""A training step of the default retriever against the matrix products that it consists of.

    python benchmarks/bench_training.py
    python benchmarks/bench_training.py --profile

Random weights and histories; 12,101 items, batches of 1,024 positions, dropout on, all else as the
stage ``train`` does it: forward, backward, clipping, AdamW and the average of the weights, with
torch's deterministic algorithms. The floor is what large matrix products of the same type need for
as many floating point operations. The steps and the products take turns.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from generated import distinct_codes, random_retriever, semantic_ids
from harness import (
    Bar,
    MatrixProduct,
    argument_parser,
    print_table,
    report,
    set_threads,
    take_turns,
)
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from hidvae.config import RetrieverConfig, RunConfig
from hidvae.data.interactions import Sequences
from hidvae.retriever.batches import TrainingBatches
from hidvae.retriever.interface import HistoryBatch, Retriever
from hidvae.retriever.train_retriever import WEIGHT_DECAY
from hidvae.training.runtime import make_reproducible, start_fabric

PRECISIONS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}
_OPERATORS_SHOWN = 15


@dataclass(frozen=True)
class Sizes:
    """What is trained, and how often."""

    num_items: int = 12_101
    codebook_size: int = 256
    content_dim: int = 448
    num_users: int = 4_000
    mean_length: float = 7.0
    """Of a training history; about that of Amazon Beauty."""
    num_batches: int = 8
    rounds: int = 11
    product: int = 2048


QUICK = Sizes(
    num_items=300,
    codebook_size=16,
    content_dim=16,
    num_users=400,
    num_batches=1,
    rounds=2,
    product=128,
)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and keep."""
    parser = argument_parser(__doc__)
    parser.add_argument("--profile", action="store_true", help="list the operators that cost most")
    arguments = parser.parse_args(argv)
    set_threads(arguments)
    sizes = QUICK if arguments.quick else Sizes()
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    make_reproducible(0)
    try:
        rows, profiles = [], {}
        for precision in PRECISIONS:
            row, operators = bench(precision, sizes, with_profile=arguments.profile)
            rows.append(row)
            profiles[precision] = operators
    finally:
        torch.use_deterministic_algorithms(was_deterministic, warn_only=only_warned)
    print_table(rows)
    for precision, operators in profiles.items():
        if operators:
            print(f"\n{precision}: time in each operator, without those it calls")
            print_table(operators)
    results = {"sizes": vars(sizes), "by_precision": rows, "operators": profiles}
    bars = [
        Bar(f"{row['precision']}: share of the matrix-product rate", row["share"], 0.5, True)
        for row in rows
    ]
    report("training", arguments, results, bars)


def bench(
    precision: str, sizes: Sizes, with_profile: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One precision: what a step takes, and where that goes if wanted."""
    config = RetrieverConfig()
    ids = semantic_ids(distinct_codes(sizes.num_items, 3, sizes.codebook_size), sizes.codebook_size)
    model = random_retriever(ids, sizes.content_dim).train()
    batches = some_batches(config, sizes)
    step = training_step(model, config, precision)
    floor = MatrixProduct(PRECISIONS[precision], sizes.product)
    flops = sum(count_flops(model, batch, config.label_smoothing) for batch in batches)

    def all_steps() -> None:
        for batch in batches:
            step(batch)

    num_products = max(1, round(flops / floor.flops))  # about as long as the steps, to be fair

    def all_products() -> None:
        for _ in range(num_products):
            floor()

    timings = take_turns({"steps": all_steps, "products": all_products}, sizes.rounds)
    steps, products = timings["steps"], timings["products"]
    floor_flops = num_products * floor.flops
    targets = sum(int((batch.targets >= 0).sum()) for batch in batches)
    row = {
        "precision": precision,
        "step_ms": 1000 * steps.median / len(batches),
        "positions_per_second": targets / steps.median,
        "gflop_per_step": flops / len(batches) / 1e9,
        "gflop_per_second": flops / steps.median / 1e9,
        "product_gflop_per_second": floor_flops / products.median / 1e9,
        "share": products.ratio_to(steps) * flops / floor_flops,
    }
    return row, top_operators(all_steps) if with_profile else []


def some_batches(config: RetrieverConfig, sizes: Sizes) -> list[HistoryBatch]:
    """Batches of histories of random items, cut as in training."""
    generator = np.random.default_rng(0)
    lengths = 2 + generator.geometric(1 / (sizes.mean_length - 1), sizes.num_users)
    histories = Sequences.from_lists(
        generator.integers(sizes.num_items, size=length) for length in lengths
    )
    epoch = TrainingBatches(
        histories, config.max_history, config.batch_tokens, every_position=True
    ).epoch(generator)
    return list(itertools.islice(epoch, sizes.num_batches))


def training_step(
    model: Retriever,
    config: RetrieverConfig,
    precision: str,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Callable[[HistoryBatch], None]:
    """The step of ``hidvae.retriever.train_retriever``, without its bookkeeping."""
    fabric = start_fabric(RunConfig(device=device, precision=precision))
    adam = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=WEIGHT_DECAY,
        fused=True,
    )
    forward, optimizer = fabric.setup(model, adam)  # moves the weights
    average = [value.detach().clone() for value in model.state_dict().values()]

    def step(batch: HistoryBatch) -> None:
        fabric.backward(forward(batch, config.label_smoothing))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        torch._foreach_lerp_(average, list(model.state_dict().values()), 1 - config.weight_average)

    return step


def count_flops(model: Retriever, batch: HistoryBatch, label_smoothing: float = 0.0) -> int:
    """Floating point operations of forward and backward, matrix products and attention.

    torch counts neither in-place products, with which ``full_cross_entropy`` adds up gradients,
    nor attention on the CPU; both are added here.
    """
    aten = torch.ops.aten
    more = {
        aten.addmm_: _product_flops,
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_gradient_flops,
    }
    with FlopCounterMode(display=False, custom_mapping=more) as counter:
        model.loss(batch, label_smoothing).backward()
    model.zero_grad()
    return int(counter.get_total_flops())


Shape = Sequence[int]


def _product_flops(total: Shape, left: Shape, right: Shape, **others: object) -> int:
    return 2 * left[0] * left[1] * right[1]


def _attention_flops(queries: Shape, keys: Shape, *others: object, **more: object) -> int:
    """Two products of (T, S, d / heads) per head; a causal mask is not counted as saving half."""
    batch, heads, length, dim = queries
    return 2 * 2 * batch * heads * length * keys[2] * dim


def _attention_gradient_flops(
    outer: Shape, queries: Shape, keys: Shape, *others: object, **more: object
) -> int:
    """Five products: the scores once more, and the gradients of values, weights, keys, queries."""
    return 5 * _attention_flops(queries, keys) // 2


def top_operators(action: Callable[[], None]) -> list[dict[str, Any]]:
    """The operators that cost most, by their own time."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        action()
    found = profiler.key_averages()
    total = sum(operator.self_cpu_time_total for operator in found)
    found = sorted(found, key=lambda operator: -operator.self_cpu_time_total)
    return [
        {
            "operator": operator.key,
            "calls": operator.count,
            "ms": operator.self_cpu_time_total / 1000,
            "share": operator.self_cpu_time_total / total,
        }
        for operator in found[:_OPERATORS_SHOWN]
    ]


if __name__ == "__main__":
    main()
