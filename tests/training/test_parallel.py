"""Two processes on a machine: the losses, weights and checkpoints of one."""

from __future__ import annotations

import csv
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from hidvae.config import load_config
from hidvae.run.run import Run
from hidvae.semantic_ids.interchange import export_ids
from hidvae.training.parallel import Share

STAGES = ("tokenizer", "retriever")
RUN_IN_PARTS = Path(__file__).parent / "run_in_parts.py"


@pytest.fixture(scope="module")
def settings(tiny_settings: list[str]) -> list[str]:
    """The tiny demo without dropout; the batches do not halve evenly."""
    return [
        *tiny_settings,
        "TokenizerConfig.batch_size=31",
        "TokenizerConfig.dropout=0.0",
        "RetrieverConfig.dropout=0.0",
        "RetrieverConfig.batch_tokens=100",
        "RunConfig.checkpoint_every_seconds=0",
    ]


@pytest.fixture(scope="module")
def whole(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    output = tmp_path_factory.mktemp("parallel") / "one"
    Run(output).make(load_config([], settings), until="train")
    return output


def two_processes(output: Path, settings: list[str], stop_at: str = "") -> int:
    """torchrun up to stage train; the exit code. ``stop_at`` is a stage that dies in training."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*launcher, str(RUN_IN_PARTS), str(output), stop_at, *settings], timeout=300, check=False
    ).returncode


def losses(run: Path, stage: str) -> list[list[float]]:
    with (run / stage / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [[float(value) for name, value in row.items() if name != "seconds"] for row in rows]


def assert_alike(found: Path, wanted: Path) -> None:
    """Log and weights agree up to rounding."""
    for stage in STAGES:
        for ours, theirs in zip(losses(found, stage), losses(wanted, stage), strict=True):
            assert ours == pytest.approx(theirs, abs=1e-4), stage
        weights = load_file(found / stage / "model.safetensors")
        for name, tensor in load_file(wanted / stage / "model.safetensors").items():
            torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-4)
    for folder in (found / "semantic_ids", wanted / "semantic_ids"):
        assert (folder / "manifest.json").is_file()


def test_two_processes_learn_what_one_learns(
    whole: Path, settings: list[str], tmp_path: Path
) -> None:
    assert two_processes(tmp_path / "two", settings) == 0
    assert_alike(tmp_path / "two", whole)
    left = [path.name for path in (tmp_path / "two").glob(".*")]
    assert left == [".lock"], "no checkpoint and no half-written folder"


@pytest.mark.parametrize("stage", STAGES)
def test_one_process_goes_on_where_two_were_stopped(
    stage: str, whole: Path, settings: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    assert two_processes(run, settings, stop_at=stage) != 0
    assert (run / f".{stage}.checkpoint" / "checkpoint.safetensors").is_file()
    assert not (run / stage).exists()
    with caplog.at_level(logging.INFO):
        Run(run).make(load_config([], settings), until="train")
    assert "going on from epoch 1, step 1" in caplog.text
    assert_alike(run, whole)


def test_two_processes_train_on_ids_from_a_file(
    whole: Path, settings: list[str], tmp_path: Path
) -> None:
    """Where the tokenizer is not trained, nothing else makes the second process wait."""
    file = tmp_path / "ids.parquet"
    export_ids(Run(whole).semantic_ids, file)
    run = tmp_path / "two"
    for name in ("dataset", "embeddings", "tags"):
        shutil.copytree(whole / name, run / name)
    from_file = ["TokenizerConfig.source=file", f"TokenizerConfig.ids_file={str(file)!r}"]
    assert two_processes(run, [*settings, *from_file]) == 0
    assert Run(run).semantic_ids.item_ids == Run(whole).semantic_ids.item_ids


# --- shares -------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_rows", [1, 2, 5, 6, 17])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_shares_are_every_row_once_and_their_weights_make_the_mean(
    num_rows: int, world_size: int
) -> None:
    values = torch.randn(num_rows, dtype=torch.float64)
    shares = [
        Share(SimpleNamespace(world_size=world_size, global_rank=rank), num_rows)  # type: ignore[arg-type]
        for rank in range(world_size)
    ]
    parts = [values[share.rows] for share in shares]
    assert torch.equal(torch.cat(parts), values)
    weighed = [s.weight * float(p.mean()) for s, p in zip(shares, parts, strict=True) if len(p)]
    assert sum(weighed) / world_size == pytest.approx(float(values.mean()))
