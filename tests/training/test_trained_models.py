"""One suite for all that is trained: reproducible, resumable bit for bit, and it tidies up."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from hidvae.errors import NotTrainedError, TrainingError
from hidvae.store.artifacts import StageFolder, read_stage
from training import trained
from training.trained import (
    CASES,
    RUN,
    SETTINGS,
    assert_same,
    differ,
    fit,
    log_of,
    stopped_after,
)

EACH_STAGE = ("tokenizer", "item_decoder", "sasrec")


@pytest.fixture(scope="module")
def whole(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], StageFolder]:
    """Uninterrupted trainings, each made once."""
    made: dict[str, StageFolder] = {}

    def of(case: str) -> StageFolder:
        if case not in made:
            made[case] = fit(tiny_run, tmp_path_factory.mktemp("whole"), case)
        return made[case]

    return of


@pytest.mark.parametrize("case", CASES)
def test_stopped_and_resumed_it_is_the_same(
    case: str, tiny_run: Path, whole: Callable[[str], StageFolder], tmp_path: Path
) -> None:
    stage = CASES[case][0]
    for saves in (2, 2, 1):  # the second time it goes on from step 2, to step 4
        torch.manual_seed(int(time.time()))  # nothing may hang on what came before
        with stopped_after(saves):
            fit(tiny_run, tmp_path, case)
        assert [path.name for path in tmp_path.iterdir()] == [f".{stage}.checkpoint"]
        with pytest.raises(NotTrainedError):
            read_stage(tmp_path / stage, produced_by="hidvae")
    assert_same(fit(tiny_run, tmp_path, case), whole(case))


@pytest.mark.parametrize("case", ["tokenizer", "item_decoder, averaged"])
def test_killed_by_the_system_it_is_resumed_bit_for_bit(
    case: str,
    tiny_run: Path,
    whole: Callable[[str], StageFolder],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("hidvae"), "propagate", True)
    caplog.set_level("INFO", "hidvae")
    command = [sys.executable, trained.__file__, str(tiny_run), str(tmp_path), case, "4"]
    path = os.pathsep.join([*map(str, Path(__file__).parents[1:3]), *sys.path])
    killed = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / CASES[case][0]).exists()
    resumed = fit(tiny_run, tmp_path, case)
    assert "going on from epoch" in caplog.text
    assert_same(resumed, whole(case))
    assert [path.name for path in tmp_path.iterdir()] == [resumed.path.name]


@pytest.mark.parametrize("case", EACH_STAGE)
def test_the_seed_decides_and_nothing_else(
    case: str, tiny_run: Path, whole: Callable[[str], StageFolder], tmp_path: Path
) -> None:
    torch.manual_seed(999)
    rarely = replace(RUN, checkpoint_every_seconds=1e6)
    assert_same(fit(tiny_run, tmp_path / "again", case, rarely), whole(case))
    assert differ(fit(tiny_run, tmp_path / "other", case, replace(RUN, seed=1)), whole(case))


@pytest.mark.parametrize("case", EACH_STAGE)
def test_the_checkpoint_of_other_settings_is_not_used(
    case: str, tiny_run: Path, whole: Callable[[str], StageFolder], tmp_path: Path
) -> None:
    for change in ({"learning_rate": 1e-4}, {"config": replace(RUN, seed=1)}):
        with stopped_after(2):
            fit(tiny_run, tmp_path, case, **change)
        assert_same(fit(tiny_run, tmp_path, case), whole(case))


@pytest.mark.parametrize("case", EACH_STAGE)
def test_a_stopped_training_keeps_the_older_stage(
    case: str, tiny_run: Path, tmp_path: Path
) -> None:
    older = fit(tiny_run, tmp_path, case, epochs=1)
    with stopped_after(1):
        fit(tiny_run, tmp_path, case, epochs=2)
    kept = read_stage(older.path, produced_by="hidvae")
    assert kept.fingerprint == older.fingerprint


@pytest.mark.parametrize("case", EACH_STAGE)
def test_a_training_that_diverges_is_one_line(case: str, tiny_run: Path, tmp_path: Path) -> None:
    section = type(SETTINGS[CASES[case][0]]).__name__
    with pytest.raises(TrainingError, match=rf"diverged; lower {section}\.learning_rate") as error:
        fit(tiny_run, tmp_path, case, learning_rate=1e30)
    assert "\n" not in str(error.value)
    assert not (tmp_path / CASES[case][0]).exists()


@pytest.mark.parametrize("case", EACH_STAGE)
def test_what_the_folder_holds(
    case: str, tiny_run: Path, whole: Callable[[str], StageFolder]
) -> None:
    folder, stage = whole(case), CASES[case][0]
    own = {"held_out.safetensors"} if stage == "tokenizer" else set()
    assert {path.name for path in folder.path.iterdir()} == {
        "manifest.json",
        "model.safetensors",
        "log.csv",
        *own,
    }
    assert folder.manifest["stage"].removeprefix("baselines/") == stage
    assert folder.manifest["seed"] == RUN.seed
    assert folder.config == json.loads(json.dumps(asdict(SETTINGS[stage])))
    for name, fingerprint in folder.manifest["inputs"].items():
        assert fingerprint == read_stage(tiny_run / name, produced_by="hidvae").fingerprint
    rows = log_of(folder)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    if stage != "tokenizer":
        scores = [float(row["validation_ndcg@10"]) for row in rows]
        assert folder.metrics["validation_ndcg@10"] == max(scores) > 0
        assert folder.metrics["best_epoch"] == 1 + scores.index(max(scores))
        assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
