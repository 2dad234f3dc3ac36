"""Constrained beam search: users per second, latency of one user, and peers at the same sizes.

    python benchmarks/bench_search.py
    python benchmarks/bench_search.py --peers ../hidvae-peers/bin/python
    python benchmarks/bench_search.py --items 1000000

Random weights, 12,101 items, 3 levels of 256, histories of 20 items, 50 beams, 50 results. Peers:

- transformers: a T5 of the same width and layers, ``generate`` with a prefix function over a trie
  of dictionaries, which is how TIGER is usually written.
- rectokens: its ``autoregressive_generate`` over a GPT-2 of the same width and layers. It wants
  another environment, whose Python ``--peers`` names; see docs/benchmarks.md.

Both take turns with ours on the same few users. With ``--items`` ours alone search a catalogue of
that size, of 3 levels of 1,024; that is printed and not kept.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generated import distinct_codes, random_histories, random_retriever, rank, semantic_ids
from harness import Bar, argument_parser, print_table, report, set_threads, take_turns

from hidvae.config import RetrieverConfig

ARCHITECTURES = ("item_softmax", "item_decoder", "encoder_decoder")
PEER = Path(__file__).with_name("rectokens_peer.py")
_SPECIAL = 2  # tokens before the first code: padding, which also begins the answer, and end


@dataclass(frozen=True)
class Sizes:
    """What is searched, and how often."""

    num_items: int = 12_101
    num_levels: int = 3
    codebook_size: int = 256
    content_dim: int = 448
    history: int = 20
    beams: int = 50
    batch: int = 256
    batches: int = 9
    singles: int = 200
    peer_users: int = 16
    peer_rounds: int = 11


QUICK = Sizes(
    num_items=600,
    codebook_size=16,
    content_dim=16,
    history=5,
    beams=5,
    batch=8,
    batches=2,
    singles=5,
    peer_users=2,
    peer_rounds=2,
)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and keep."""
    parser = argument_parser(__doc__)
    parser.add_argument("--peers", help="Python that has rectokens and transformers")
    parser.add_argument("--items", type=int, help="size of another catalogue, without peers")
    arguments = parser.parse_args(argv)
    set_threads(arguments)
    sizes = QUICK if arguments.quick else Sizes()
    if arguments.items:
        sizes = replace(sizes, num_items=arguments.items, codebook_size=1024, batch=32, singles=20)
    codes = distinct_codes(sizes.num_items, sizes.num_levels, sizes.codebook_size)
    searches = our_searches(codes, sizes)
    print(f"{sizes.num_items:,} items, {sizes.beams} beams")
    ours = [row_of(name, search, sizes) for name, search in searches.items()]
    print_table(ours)
    if arguments.items:
        return
    items, users = random_histories(sizes.peer_users, sizes.history, sizes.num_items)
    contestants: dict[str, Callable[[], object]] = {
        name: partial(search, items, users) for name, search in searches.items()
    }
    notes: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        for name, add in (("transformers", add_transformers), ("rectokens", add_rectokens)):
            try:
                contestants[name], notes[name] = stack.enter_context(
                    add(codes, items, sizes, arguments.peers)
                )
            except PeerMissing as missing:
                notes[name] = {"not_measured": str(missing)}
        timings = take_turns(contestants, sizes.peer_rounds)
    found_peers = [name for name in notes if name in timings]
    peers = [
        {
            "search": name,
            "ms_per_user": 1000 * timing.median / sizes.peer_users,
            **{f"{peer}_over_it": timings[peer].ratio_to(timing) for peer in found_peers},
        }
        for name, timing in timings.items()
    ]
    print(f"\nthe same {sizes.peer_users} users in turns")
    print_table(peers)
    for name, note in notes.items():
        print(f"{name}: {json.dumps(note)}")
    results = {
        "sizes": vars(sizes),
        "ours": ours,
        "peers": peers,
        "notes": notes,
    }
    limits = {"transformers": 30.0, "rectokens": 2.0}
    bars = [
        Bar(f"{peer} over {name}", timings[peer].ratio_to(timings[name]), limits[peer], True)
        for peer in found_peers
        for name in ("item_softmax", "item_decoder")
    ]
    report("search", arguments, results, bars)


def our_searches(codes: np.ndarray, sizes: Sizes) -> dict[str, Callable[..., object]]:
    """A search of (items, users) for each of our architectures, of default width and layers."""
    ids = semantic_ids(codes, sizes.codebook_size)
    models = {
        name: random_retriever(ids, sizes.content_dim, architecture=name) for name in ARCHITECTURES
    }
    return {name: partial(rank, model, beams=sizes.beams) for name, model in models.items()}


def row_of(name: str, search: Callable[..., object], sizes: Sizes) -> dict[str, Any]:
    """Users per second in batches, and the percentiles of users who come alone."""
    items, users = random_histories(sizes.batch, sizes.history, sizes.num_items)
    batch = take_turns({"batch": partial(search, items, users)}, sizes.batches)["batch"]
    one = take_turns({"one": partial(search, items[:1], users[:1])}, sizes.singles)["one"]
    return {
        "search": name,
        "users_per_second": sizes.batch / batch.median,
        "p50_ms": 1000 * one.median,
        "p95_ms": 1000 * one.percentile(95),
        "p99_ms": 1000 * one.percentile(99),
    }


class PeerMissing(Exception):
    """A peer cannot be measured here, and why."""


Peer = tuple[Callable[[], object], dict[str, Any]]
"""A search over all users, and what there is to say about it."""


@contextlib.contextmanager
def add_transformers(
    codes: np.ndarray, items: torch.Tensor, sizes: Sizes, python: str | None
) -> Iterator[Peer]:
    """T5 with ``generate``, a beam per result, as TIGER is usually written."""
    if importlib.util.find_spec("transformers") is None:
        raise PeerMissing("transformers is not installed; pip install transformers")
    from transformers import T5Config, T5ForConditionalGeneration

    ours = RetrieverConfig()
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=_SPECIAL + sizes.num_levels * sizes.codebook_size,
            d_model=ours.dim,
            d_kv=ours.dim // ours.num_heads,
            d_ff=4 * ours.dim,
            num_layers=ours.num_layers,
            num_decoder_layers=ours.num_layers,
            num_heads=ours.num_heads,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
        )
    ).eval()
    offsets = _SPECIAL + np.arange(sizes.num_levels) * sizes.codebook_size
    tokens = codes + offsets
    trie: dict[int, Any] = {}
    for row in tokens.tolist():
        node = trie
        for token in row:
            node = node.setdefault(token, {})

    def allowed(batch_id: int, sentence: torch.Tensor) -> list[int]:
        node = trie
        for token in sentence.tolist()[1:]:
            node = node.get(token, {})
        return list(node) or [1]

    prompts = torch.from_numpy(tokens)[items].flatten(1)  # (B, T M)

    def generate() -> torch.Tensor:
        return model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            num_beams=sizes.beams,
            num_return_sequences=sizes.beams,
            max_new_tokens=sizes.num_levels,
            do_sample=False,
            prefix_allowed_tokens_fn=allowed,
        )

    real = {tuple(row) for row in tokens.tolist()}
    valid = [tuple(row) in real for row in generate()[:, 1:].tolist()]
    yield generate, {"valid": sum(valid) / len(valid)}


@contextlib.contextmanager
def add_rectokens(
    codes: np.ndarray, items: torch.Tensor, sizes: Sizes, python: str | None
) -> Iterator[Peer]:
    """Rectokens in its own process, idle while the others have their turn."""
    if python is None and importlib.util.find_spec("rectokens") is None:
        raise PeerMissing("rectokens is not installed; --peers names the Python of one that has it")
    ours = RetrieverConfig()
    with tempfile.TemporaryDirectory() as temporary:
        files = {"codes": f"{temporary}/codes.npy", "histories": f"{temporary}/histories.npy"}
        np.save(files["codes"], codes)
        np.save(files["histories"], items.numpy())
        task = {
            **files,
            "num_levels": sizes.num_levels,
            "codebook_size": sizes.codebook_size,
            "beams": sizes.beams,
            "dim": ours.dim,
            "num_layers": ours.num_layers,
            "num_heads": ours.num_heads,
            "threads": torch.get_num_threads(),
        }
        command = [python or sys.executable, str(PEER)]
        errors = Path(temporary) / "errors"
        with (
            errors.open("w") as stderr,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
            ) as process,
        ):
            answer = _ask(process, json.dumps(task))
            if not answer:
                last_line = errors.read_text(encoding="utf-8").strip().splitlines()[-1:]
                raise PeerMissing(f"rectokens does not run: {' '.join(last_line)}")
            yield partial(_ask, process, "search"), json.loads(answer)


def _ask(process: subprocess.Popen[str], line: str) -> str:
    """Send a line and wait for the answer; empty if the other side has ended."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(line + "\n")
        process.stdin.flush()
    return process.stdout.readline()


if __name__ == "__main__":
    main()
