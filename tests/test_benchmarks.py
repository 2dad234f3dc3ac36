"""Every benchmark at its quick sizes, and the arithmetic that their numbers rest on."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hidvae.retriever.full_cross_entropy import full_cross_entropy

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    """A script sees its neighbours; so must the tests."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def harness() -> ModuleType:
    return importlib.import_module("harness")


def run(name: str, output: Path, *options: str) -> dict[str, Any]:
    """The section that a quick run wrote."""
    script = importlib.import_module(f"bench_{name}")
    script.main(["--quick", "--threads", "1", "--output", str(output), *options])
    section = json.loads(output.read_text())[name]
    assert section["is_quick"] and section["threads"] == 1
    assert {"date", "machine", "git_commit", "versions", "bars"} <= set(section)
    return section["results"]


def check_numbers(found: Any) -> None:
    """No number is negative or not finite."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list):
        for value in found:
            check_numbers(value)
    elif isinstance(found, float | int):
        assert math.isfinite(found) and found >= 0


def check_positive(rows: list[dict[str, Any]]) -> None:
    """Every number of a table is above 0."""
    assert rows
    check_numbers(rows)
    for row in rows:
        assert all(value > 0 for value in row.values() if isinstance(value, float | int))


def test_trie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = run("trie", tmp_path / "found.json")
    check_positive(results["by_size"])
    assert [row["items"] for row in results["by_size"]] == [1000, 5000]
    assert "search among allowed items over search" in capsys.readouterr().out


def test_search(tmp_path: Path) -> None:
    results = run("search", tmp_path / "found.json")
    check_positive(results["ours"])
    check_positive(results["peers"])
    for row in results["ours"]:
        assert row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        # A batch is faster than its users one by one, and not by more than its own size.
        alone = 1000 / row["p50_ms"]
        assert alone / 3 < row["users_per_second"] < 100 * alone
    assert results["notes"]["transformers"] == {"valid": 1.0}  # all that it found are items


def test_search_of_another_catalogue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    script = importlib.import_module("bench_search")
    script.main(["--quick", "--threads", "1", "--items", "700", "--output", str(file)])
    assert not file.exists()
    printed = capsys.readouterr().out
    assert "700 items" in printed and "encoder_decoder" in printed


def test_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = run("training", tmp_path / "found.json", "--profile")
    check_positive(results["by_precision"])
    assert [row["precision"] for row in results["by_precision"]] == ["32-true", "bf16-mixed"]
    shares = [operator["share"] for operator in results["operators"]["32-true"]]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
    assert "aten::mm" in capsys.readouterr().out


def test_gpu(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="expected a CUDA device"):
            run("gpu", tmp_path / "found.json")
        return
    results = run("gpu", tmp_path / "found.json")
    check_positive(results["training"])
    check_positive(results["search"])


def test_tokenizer(tmp_path: Path) -> None:
    results = run("tokenizer", tmp_path / "found.json", "--items", "3000")
    check_positive([results["training"], results["ids"]])
    check_positive(results["quantizer"])
    check_positive(results["kmeans"])
    assert results["ids"]["items"] == 3000
    assert {row["k-means"] for row in results["kmeans"]} == {"hidvae", "KMeans", "MiniBatchKMeans"}


def test_start(tmp_path: Path) -> None:
    results = run("start", tmp_path / "found.json")
    check_positive([results["least_seconds"]])
    least = {row: seconds for row, seconds in results["least_seconds"].items()}
    assert len(least) == 4
    assert least["import hidvae"] < least["hidvae recommend"]  # which imports it and torch


def test_prepare(tmp_path: Path) -> None:
    alone = tmp_path / "alone.json"
    results = run("prepare", tmp_path / "found.json", "--events", "20000", "--alone", str(alone))
    check_numbers(results)
    assert results["events"] == 20000 and results["format"] == "parquet"
    rate, seconds = results["events_per_second"], results["seconds"]
    assert 20000 / (seconds + 0.05) - 1 <= rate <= 20000 / (seconds - 0.05) + 1
    assert 0.05 < results["peak_gib"] < 4
    assert json.loads(alone.read_text()) == results


def test_prepare_against_another_checkout(tmp_path: Path) -> None:
    """Both read the same log with their own code, in turns; the ratio is of their times."""
    other = tmp_path / "other" / "src" / "hidvae"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    (other / "__main__.py").write_text(
        "import sys, pathlib, time\n"
        f"pathlib.Path({str(tmp_path)!r}, 'asked').write_text(' '.join(sys.argv[1:]))\n"
        "time.sleep(30 if '--slow' in sys.argv else 0)\n"
    )
    options = ("--against", str(other.parent.parent), "--rounds", "1", "--events", "5000")
    results = run("prepare", tmp_path / "found.json", *options)
    assert results["times_as_long"] > 1  # the other does nothing
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("prepare --data ") and "DatasetConfig.min_events=3" in asked


def test_a_quick_run_without_output_keeps_nothing(
    harness: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "benchmarks.json")
    arguments = harness.argument_parser("A benchmark.").parse_args(["--quick"])
    harness.report("some", arguments, {}, [])
    assert list(tmp_path.iterdir()) == []


def test_a_section_replaces_its_older_self_and_no_other(
    harness: ModuleType, tmp_path: Path
) -> None:
    file = tmp_path / "new" / "found.json"
    harness.merge_section(file, "a", {"x": 1, "old": True})
    harness.merge_section(file, "b", {"y": 2})
    harness.merge_section(file, "a", {"x": 3})
    assert json.loads(file.read_text()) == {"a": {"x": 3}, "b": {"y": 2}}
    assert [entry.name for entry in file.parent.iterdir()] == ["found.json"]


def test_contestants_take_turns(harness: ModuleType) -> None:
    calls: list[str] = []
    contestants = {name: lambda name=name: calls.append(name) for name in "ab"}
    timings = harness.take_turns(contestants, rounds=3, warmups=1)
    assert "".join(calls) == "ba" + "ab" + "ba" + "ab"
    assert all(len(timing.seconds) == 3 for timing in timings.values())


def test_a_contestant_is_timed_by_its_own_calls_alone(
    harness: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that only the contestants move: a takes 3 s, b 1 s more each time."""
    now = 0.0
    calls = {"a": 0, "b": 0}

    def work(name: str, first: float, more: float) -> None:
        nonlocal now
        now += first + more * calls[name]
        calls[name] += 1

    monkeypatch.setattr(harness.time, "perf_counter", lambda: now)
    contestants = {"a": partial(work, "a", 3.0, 0.0), "b": partial(work, "b", 1.0, 1.0)}
    timings = harness.take_turns(contestants, rounds=3, warmups=2)
    assert timings["a"].seconds == (3.0, 3.0, 3.0)
    assert timings["b"].seconds == (3.0, 4.0, 5.0)  # the first two warmed up


def test_percentiles_and_ratios(harness: ModuleType) -> None:
    slow = harness.Timing((2.0, 40.0, 6.0))
    fast = harness.Timing((1.0, 10.0, 3.0))
    assert slow.median == 6.0
    assert slow.percentile(0) == 2.0 and slow.percentile(100) == 40.0
    assert slow.percentile(75) == 6.0 + (40.0 - 6.0) / 2
    assert slow.ratio_to(fast) == 2.0  # of 2, 4 and 2: within the rounds, where 40 met 10
    assert harness.Timing.sum_of([slow, fast]).seconds == (3.0, 50.0, 9.0)


@pytest.mark.parametrize(
    ("value", "is_minimum", "is_met"),
    [(1.0, False, True), (1.1, False, False), (1.0, True, True), (0.9, True, False)],
)
def test_bars(harness: ModuleType, value: float, is_minimum: bool, is_met: bool) -> None:
    bar = harness.Bar("something", value, 1.0, is_minimum)
    assert bar.is_met == is_met
    assert str(bar).startswith("met" if is_met else "MISSED")


def test_floors_count_what_they_do(harness: ModuleType) -> None:
    product = harness.MatrixProduct(size=8)
    product()
    torch.testing.assert_close(product.out, product.left @ product.right)
    assert product.flops == 2 * 8 * 8 * 8
    copy = harness.MemoryCopy(num_bytes=400)
    copy()
    assert bool((copy.target == 1).all()) and copy.bytes == 800


class Loss(nn.Module):
    """A model whose loss is a function of its one weight."""

    def __init__(self, loss: Any, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))
        self.of = loss

    def loss(self, batch: Any, label_smoothing: float) -> torch.Tensor:
        return self.of(self.weight)


def test_flops_of_the_loss_over_all_items_are_those_of_its_three_products() -> None:
    n, dim, num_items = 30, 8, 50
    states, targets = torch.randn(n, dim, requires_grad=True), torch.zeros(n, dtype=torch.long)
    model = Loss(lambda weight: full_cross_entropy(states, weight, targets), num_items, dim)
    count = importlib.import_module("bench_training").count_flops
    assert count(model, None) == 2 * n * dim * num_items + 4 * n * dim * num_items
    assert model.weight.grad is None


def test_flops_of_attention_are_two_products_forward_and_five_backward() -> None:
    batch, heads, length, dim = 2, 3, 5, 16

    def attend(weight: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(weight, weight, weight, is_causal=True).sum()

    count = importlib.import_module("bench_training").count_flops
    one_product = 2 * batch * heads * length * length * dim
    assert count(Loss(attend, batch, heads, length, dim), None) == (2 + 5) * one_product


def test_codes_are_distinct_and_in_range() -> None:
    distinct_codes = importlib.import_module("generated").distinct_codes
    codes = distinct_codes(60, 3, 4)  # nearly all 64
    assert codes.shape == (60, 3) and len(np.unique(codes, axis=0)) == 60
    assert codes.min() == 0 and codes.max() == 3


PEER = """
import json, sys
task = json.loads(sys.stdin.readline())
print(json.dumps({"beams": task["beams"]}), flush=True)
for _ in sys.stdin:
    print("done", flush=True)
"""


@pytest.mark.parametrize("works", [True, False])
def test_a_peer_in_another_environment(
    works: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = importlib.import_module("bench_search")
    peer = tmp_path / "peer.py"
    peer.write_text(PEER if works else "raise SystemError('no such luck')")
    monkeypatch.setattr(script, "PEER", peer)
    items = torch.zeros(2, 3, dtype=torch.long)
    added = script.add_rectokens(np.zeros((1, 3), np.int64), items, script.QUICK, sys.executable)
    if works:
        with added as (search, note):
            assert note == {"beams": script.QUICK.beams}
            assert search() == "done\n"
    else:
        with pytest.raises(script.PeerMissing, match="no such luck"), added:
            pass


def test_a_peer_that_is_not_installed_is_said_to_be() -> None:
    script = importlib.import_module("bench_search")
    added = script.add_rectokens(np.zeros((1, 3)), torch.zeros(1), script.QUICK, None)
    with pytest.raises(script.PeerMissing, match="--peers"), added:
        pass


def test_run(tmp_path: Path) -> None:
    found = run("run", tmp_path / "found.json")
    assert found["data"] == "demo" and found["test_users"] == 200
    check_numbers(found)
    check_positive([{name: found[name] for name in ("run_seconds", "test_seconds", "p50_ms")}])
    assert found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert found["tokenizer_seconds"] < sum(found["stages"].values()) < found["run_seconds"]


def test_serve(tiny_run: Path, tmp_path: Path) -> None:
    found = run("serve", tmp_path / "found.json", "--run", str(tiny_run), "--rate", "20")
    check_numbers({name: found[name] for name in ("as_fast_as_it_goes", "at_a_rate")})
    assert found["at_a_rate"]["requests"] == 60
    assert set(found["statuses"]) == {"200"}
    assert found["changes"] > 0 and found["failed_changes"] == 0


def test_a_stage_of_the_large_run_is_measured_and_a_failure_is_no_measurement(
    tmp_path: Path,
) -> None:
    large, prepare = (importlib.import_module(f"bench_{name}") for name in ("large", "prepare"))
    prepare.generate(tmp_path, 2000, 50, 100, "parquet")
    found = large.run_command("prepare", tmp_path, tmp_path / "run", [])
    check_positive([{name: found[name] for name in ("seconds", "peak_gib")}])
    with pytest.raises(subprocess.CalledProcessError):
        large.run_command("prepare", tmp_path / "nothing", tmp_path / "other", [])


def test_threads(tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    script = importlib.import_module("bench_threads")
    script.main(["--quick", "--only", "quota of one core", "--output", str(output)])
    results = json.loads(output.read_text())["threads"]["results"]
    check_positive(results["by_situation"])
    rows = {row["threads of"]: row for row in results["by_situation"]}
    assert rows["one thread"]["number"] == 1 and rows["hidvae"]["number"] == 1
    assert results["quota_by"] in ("cgroup", "affinity")


def test_busy_processes_end_with_the_block() -> None:
    script = importlib.import_module("bench_threads")
    with script.busy_processes(2) as processes:
        assert [process.poll() for process in processes] == [None, None]
    assert all(process.poll() is not None for process in processes)
