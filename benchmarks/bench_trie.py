"""Time and memory of the trie, and what it adds to each step of a search.

    python benchmarks/bench_trie.py

A search needs no mask over the vocabulary: ``CatalogueTables.children_at`` lists the children that
the beams' prefixes have. What that costs is set against a whole step of a search, from 10 thousand
to 10 million items: a batch of 64 users with 50 beams each, through a code decoder whose size does
not depend on the catalogue. Allowed items (``reachable``) are timed the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from generated import distinct_codes, random_histories, random_retriever, rank, semantic_ids
from harness import (
    Bar,
    MemoryCopy,
    Timing,
    argument_parser,
    print_table,
    report,
    set_threads,
    take_turns,
)

from hidvae.retriever.catalogue_tables import CatalogueTables
from hidvae.retriever.interface import Retriever
from hidvae.semantic_ids.trie import Trie

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
REFERENCE = 1_000_000
"""Items of the catalogue that the bars of a step are about."""
NUM_LEVELS, CODEBOOK_SIZE = 4, 256
BATCH, BEAMS, HISTORY = 64, 50, 20
_BYTES_PER_CHILD = 8 + 8 + 1 + 4  # code, node and is_real are written, and the code is read


@dataclass(frozen=True)
class Catalogue:
    """A catalogue of one size, and what was measured while it was made."""

    model: Retriever
    build_seconds: float
    allowed: torch.Tensor
    """(N,), half of the items."""

    @property
    def tables(self) -> CatalogueTables:
        """The model's."""
        return self.model.tables


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and keep."""
    arguments = argument_parser(__doc__).parse_args(argv)
    set_threads(arguments)
    sizes, batch, beams, rounds = SIZES, BATCH, BEAMS, 15
    if arguments.quick:
        sizes, batch, beams, rounds = (1000, 5000), 4, 5, 3
    catalogues = {size: build(size) for size in sizes}
    copy = MemoryCopy(1 << 22 if arguments.quick else 1 << 28)
    contestants: dict[str, Callable[[], object]] = {"copy": copy}
    num_children = {}
    for size, catalogue in catalogues.items():
        num_children[size] = add_steps(contestants, catalogue, batch, beams)
    timings = take_turns(contestants, rounds)
    rows = [
        row_of(catalogue, timings, num_children[size], timings["copy"].median / copy.bytes)
        for size, catalogue in catalogues.items()
    ]
    print(f"{NUM_LEVELS} levels of {CODEBOOK_SIZE}, {batch} users, {beams} beams; ms per step")
    print_table(rows)
    results = {"batch": batch, "beams": beams, "history": HISTORY, "by_size": rows}
    report("trie", arguments, results, bars_of(rows, timings))


def build(num_items: int) -> Catalogue:
    """A random catalogue; its trie is built a few times more, to be timed."""
    codes = distinct_codes(num_items, NUM_LEVELS, CODEBOOK_SIZE)
    timings = take_turns({"build": partial(Trie.build, codes)}, rounds=3, warmups=0)
    model = random_retriever(
        semantic_ids(codes, CODEBOOK_SIZE),
        content_dim=1,
        architecture="item_decoder",
        content_input=False,
        item_input=False,
    )
    allowed = torch.from_numpy(np.random.default_rng(1).random((1, num_items)) < 0.5)
    return Catalogue(model, timings["build"].median, allowed)


def add_steps(
    contestants: dict[str, Callable[[], object]], catalogue: Catalogue, batch: int, beams: int
) -> int:
    """Add what is timed on one catalogue; returns the children that all steps of a search see."""
    model, tables = catalogue.model, catalogue.tables
    size = tables.num_items
    reachable = tables.reachable(catalogue.allowed)
    contestants[f"{size} reachable"] = partial(tables.reachable, catalogue.allowed)
    num_children = 0
    for depth in range(NUM_LEVELS):
        nodes = torch.zeros(batch, 1, dtype=torch.long)
        if depth:
            nodes = torch.randint(tables.num_nodes(depth), (batch, beams))
        child = tables.children_at(depth, nodes).node
        num_children += child.numel()
        scores = torch.randn(child.shape)
        contestants[f"{size} children {depth}"] = partial(tables.children_at, depth, nodes)
        contestants[f"{size} mask {depth}"] = partial(mask, scores, reachable[depth + 1][0], child)
    search = partial(rank, model, *random_histories(batch, HISTORY, size), beams)
    contestants[f"{size} search"] = search
    contestants[f"{size} search, masked"] = partial(search, allowed=catalogue.allowed)
    return num_children


def mask(scores: torch.Tensor, is_reachable: torch.Tensor, child: torch.Tensor) -> torch.Tensor:
    """What a search does for allowed items in each step."""
    return scores.masked_fill(~is_reachable[child], -torch.inf)


def all_steps(timings: dict[str, Timing], size: int, what: str) -> Timing:
    """One part of a search over all its steps."""
    return Timing.sum_of(timings[f"{size} {what} {depth}"] for depth in range(NUM_LEVELS))


def row_of(
    catalogue: Catalogue, timings: dict[str, Timing], num_children: int, seconds_per_byte: float
) -> dict[str, float | int]:
    """The numbers of one catalogue."""
    tables, trie = catalogue.tables, catalogue.tables.trie
    size = tables.num_items
    arrays = (*trie.child_start, *trie.child_codes, *trie.first_leaf, trie.item_at_leaf)
    children_bytes = num_children * _BYTES_PER_CHILD
    children = all_steps(timings, size, "children")
    search, masked = timings[f"{size} search"], timings[f"{size} search, masked"]
    per_step = 1000 / NUM_LEVELS
    return {
        "items": size,
        "build_seconds": catalogue.build_seconds,
        "trie_bytes_per_item": sum(array.nbytes for array in arrays) / size,
        "tables_bytes_per_item": sum(buffer.nbytes for buffer in tables.buffers()) / size,
        "children_per_step": num_children // NUM_LEVELS,
        "children_ms": per_step * children.median,
        "children_of_memory_rate": children_bytes * seconds_per_byte / children.median,
        "mask_ms": per_step * all_steps(timings, size, "mask").median,
        "reachable_ms": 1000 * timings[f"{size} reachable"].median,
        "search_ms": per_step * search.median,
        "children_of_search": children.ratio_to(search),
        "masked_search": masked.ratio_to(search),
    }


def bars_of(rows: Sequence[dict[str, float | int]], timings: dict[str, Timing]) -> list[Bar]:
    """What the numbers are held against."""
    first, last = int(rows[0]["items"]), int(rows[-1]["items"])
    reference = next((row for row in rows if row["items"] == REFERENCE), rows[-1])
    at = f"{reference['items']:,} items"
    search = timings[f"{last} search"].ratio_to(timings[f"{first} search"])
    worst = max(float(row["masked_search"]) for row in rows)
    return [
        Bar(f"building {last:,} items, seconds", rows[-1]["build_seconds"], 60.0),
        Bar(f"trie of {last:,} items, bytes per item", rows[-1]["trie_bytes_per_item"], 40.0),
        Bar(f"search per step, {last:,} items over {first:,}", search, 1.5),
        Bar(f"children per step at {at}, ms", reference["children_ms"], 1.0),
        Bar(f"children per step at {at}, share of a step", reference["children_of_search"], 0.1),
        Bar(f"mask of allowed items per step at {at}, ms", reference["mask_ms"], 1.0),
        Bar("search among allowed items over search, the worst size", worst, 1.1),
    ]


if __name__ == "__main__":
    main()
