"""Strategy fsdp in two processes: the losses, weights and checkpoints of one."""

from __future__ import annotations

import csv
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hidvae.training import trainer
from training import run_sharded
from training.run_sharded import CASES, fit
from training.trained import Stopped


@pytest.fixture(scope="module")
def alone(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of every case."""
    folder = tmp_path_factory.mktemp("sharding") / "alone"
    for case in CASES:
        fit(tiny_run, folder / case / "retriever", case)
    return folder


@pytest.fixture(scope="module")
def sharded(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes make, of which "resumed" goes on where one was stopped."""
    folder = tmp_path_factory.mktemp("sharding") / "sharded"
    stop_after_the_first_epoch(tiny_run, folder / "resumed" / "retriever")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*launcher, run_sharded.__file__, str(tiny_run), str(folder)], timeout=300, check=True
    )
    return folder


def stop_after_the_first_epoch(run: Path, output: Path) -> None:
    """Leave the checkpoint of the epoch's last step, after which validation is next."""
    save = trainer.save_checkpoint

    def save_unless_it_is_over(*args: Any, **keywords: Any) -> None:
        if keywords["state"]["place"]["epoch"] == 1:
            raise Stopped
        save(*args, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", save_unless_it_is_over)
        with pytest.raises(Stopped):
            fit(run, output, "item_softmax", checkpoint_every_seconds=0)
    assert (output.parent / ".retriever.checkpoint" / "checkpoint.safetensors").is_file()


def log_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: float(row[name]) for name in row if name != "seconds"} for row in rows]


def assert_alike(found: Path, wanted: Path) -> None:
    """Log and weights agree up to rounding."""
    for ours, theirs in zip(log_of(found), log_of(wanted), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    weights, others = (load_file(folder / "model.safetensors") for folder in (found, wanted))
    assert weights.keys() == others.keys()
    for name in weights:
        torch.testing.assert_close(weights[name], others[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_learn_what_one_learns(case: str, alone: Path, sharded: Path) -> None:
    assert_alike(sharded / case / "retriever", alone / case / "retriever")
    assert [path.name for path in (sharded / case).iterdir()] == ["retriever"]


def test_two_processes_go_on_where_one_was_stopped(alone: Path, sharded: Path) -> None:
    assert_alike(sharded / "resumed" / "retriever", alone / "item_softmax" / "retriever")


def test_one_process_goes_on_where_two_were_stopped(
    tiny_run: Path, alone: Path, sharded: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not (sharded / "stopped" / "retriever").exists()
    shutil.copytree(sharded / "stopped", tmp_path / "run")
    with caplog.at_level(logging.INFO):
        fit(tiny_run, tmp_path / "run" / "retriever", "item_softmax")
    assert "going on from epoch 1, step 1" in caplog.text
    assert_alike(tmp_path / "run" / "retriever", alone / "item_softmax" / "retriever")


def test_each_process_holds_half(sharded: Path) -> None:
    first, second = (json.loads((sharded / f"held-{rank}.json").read_text()) for rank in (0, 1))
    for name, mine in first.items():
        for part in ("weights", "momenta"):
            assert mine[part] + second[name][part] == mine["model"], (name, part)
            assert mine[part] < 0.6 * mine["model"], (name, part)
