"""What loggers get: the numbers of log.csv, each epoch once, whatever happens on the way."""

from __future__ import annotations

import csv
import importlib.util
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lightning_fabric.loggers.logger import Logger

from hidvae.config import RunConfig, load_config
from hidvae.errors import ConfigError, MissingExtraError
from hidvae.run.run import Run
from hidvae.store.artifacts import read_stage
from hidvae.training import loggers as loggers_module
from hidvae.training.loggers import (
    PROJECT,
    TrackedTraining,
    check_loggers,
    following,
    log_epoch,
)
from hidvae.training.progress import TrainingLog
from hidvae.training.trainer import Trainer
from training.trained import Stopped

Epochs = dict[int, dict[str, float]]
STAGES = ("tokenizer", "retriever")


def epochs_of(log: Path) -> Epochs:
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        int(row.pop("epoch")): {name: float(value) for name, value in row.items() if value}
        for row in rows
    }


@pytest.fixture
def settings(tiny_settings: list[str]) -> list[str]:
    return [*tiny_settings, "RunConfig.checkpoint_every_seconds=0"]


# --- which and when -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_extra_is_named_before_anything_is_computed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=rf'{name}.+pip install "hidvae\[{name}\]"'):
        Run(tmp_path / "run").make(load_config([], [f"RunConfig.loggers=('csv', '{name}')"]))
    assert not (tmp_path / "run").exists()


def test_csv_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    check_loggers(("csv",))


def test_an_unknown_logger_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"RunConfig\.loggers.+tensorboard.+neptune"):
        RunConfig(loggers=("neptune",))


# --- a logger of memory, for what all have in common --------------------------------------------


class Memory(Logger):
    """Keeps what it is told."""

    name, version = "memory", "v1"

    def __init__(self, fails_at: int = 0) -> None:
        self.rows: list[tuple[int | None, dict[str, float]]] = []
        self.fails_at = fails_at
        self.ended = ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if step == self.fails_at:
            raise OSError("connection\nrefused")
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass

    def finalize(self, status: str) -> None:
        self.ended = status


def start_memory(monkeypatch: pytest.MonkeyPatch, fails: bool = False) -> Memory:
    memory = Memory()

    def start(training: object) -> Memory:
        if fails:
            raise OSError("no route\nto host")
        return memory

    monkeypatch.setattr(loggers_module, "check_loggers", lambda names: None)
    monkeypatch.setitem(loggers_module._MAKERS, "wandb", start)
    return memory


def test_numbers_arrive_with_their_epoch(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "log.csv")
    log.loggers = [memory := Memory()]
    log.add({"epoch": 1, "seconds": 2.0, "loss": 0.5}, "")
    log.add({"epoch": 2, "seconds": 3.0, "loss": 0.25, "validation_ndcg@10": 0.1}, "")
    assert dict(memory.rows) == epochs_of(tmp_path / "log.csv")
    assert log.logger_versions == {"memory": "v1"}


def test_a_logger_that_fails_ends_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("hidvae"), "propagate", True)
    loggers: list[Logger] = [broken := Memory(fails_at=2), whole := Memory()]
    for epoch in (1, 2, 3):
        log_epoch(loggers, {"epoch": epoch, "loss": 1.0})
    assert [step for step, _ in broken.rows] == [1]
    assert [step for step, _ in whole.rows] == [1, 2, 3]
    assert caplog.text.count("memory failed") == 1
    assert "connection refused" in caplog.text


@pytest.mark.parametrize("fails", [False, True])
def test_the_end_is_told(fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = start_memory(monkeypatch)
    with (
        pytest.raises(Stopped) if fails else pytest.MonkeyPatch.context(),
        following(("csv", "wandb"), TrackedTraining("tokenizer", tmp_path, {})) as loggers,
    ):
        assert loggers == [memory]
        if fails:
            raise Stopped
    assert memory.ended == ("failed" if fails else "success")


def test_a_service_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_memory(monkeypatch, fails=True)
    with (
        pytest.raises(ConfigError, match="wandb.+no route to host") as caught,
        following(("wandb",), TrackedTraining("tokenizer", tmp_path, {})),
    ):
        pass
    assert "\n" not in str(caught.value)


# --- TensorBoard --------------------------------------------------------------------------------


def tensorboard_epochs(run: Path, stage: str) -> Epochs:
    """Numbers by epoch as TensorBoard reads them; an epoch that is there twice fails."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run / "logs" / "tensorboard" / stage))
    events.Reload()
    found: Epochs = {}
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            assert name not in found.setdefault(event.step, {}), (name, event.step)
            found[event.step][name] = event.value
    return {epoch: numbers for epoch, numbers in sorted(found.items())}


def assert_alike(found: Epochs, wanted: Epochs) -> None:
    assert list(found) == list(wanted)
    for epoch, numbers in wanted.items():
        assert found[epoch] == pytest.approx(numbers, rel=1e-5)


def test_tensorboard_has_the_numbers_of_both_trainings_and_changes_neither(
    tiny_settings: list[str], tiny_run: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    config = load_config([], [*tiny_settings, "RunConfig.loggers=('csv', 'tensorboard')"])
    Run(tmp_path).make(config, until="train")
    for stage in STAGES:
        assert_alike(tensorboard_epochs(tmp_path, stage), epochs_of(tmp_path / stage / "log.csv"))
        ours, theirs = (read_stage(run / stage, produced_by="") for run in (tmp_path, tiny_run))
        assert ours.fingerprint == theirs.fingerprint


@pytest.mark.parametrize("stage", STAGES)
def test_a_resumed_training_is_in_tensorboard_once(
    stage: str, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after an epoch that is logged, but whose checkpoint was not written."""
    pytest.importorskip("tensorboard")
    config = load_config([], [*settings, "RunConfig.loggers=('tensorboard',)"])
    end_epoch = Trainer._end_epoch

    def end_and_stop(self: Trainer, task: Any) -> None:
        end_epoch(self, task)
        if (self._tracked.stage, self._place.epoch) == (stage, 2):
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_end_epoch", end_and_stop)
        with pytest.raises(Stopped):
            Run(tmp_path).make(config, until="train")
    assert list(tensorboard_epochs(tmp_path, stage)) == [1, 2]
    time.sleep(1.1)  # files of one process and second are read in the order of "10" before "9"
    Run(tmp_path).make(config, until="train")
    assert_alike(tensorboard_epochs(tmp_path, stage), epochs_of(tmp_path / stage / "log.csv"))


# --- MLflow and Weights & Biases: their real clients, without a server ---------------------------


def resumed_in_two_parts(name: str, run: Path) -> None:
    """Log epochs 1 to 3, and after a stop before epoch 2's end was saved, 2 to 4."""
    rows = [
        {"epoch": epoch, "seconds": 1.0, "validation_recall@10": epoch / 8}
        for epoch in (1, 2, 3, 4)
    ]
    training = TrackedTraining("retriever", run, {"dim": 8})
    with pytest.raises(Stopped), following((name,), training) as loggers:
        for row in rows[:3]:
            log_epoch(loggers, row)
        version = str(loggers[0].version)
        raise Stopped
    with following((name,), replace(training, epochs_done=1, versions={name: version})) as loggers:
        for row in rows[1:]:
            log_epoch(loggers, row)
        assert str(loggers[0].version) == version


def test_mlflow_has_one_run_with_every_epoch_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow's client is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    resumed_in_two_parts("mlflow", tmp_path / "shop")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(PROJECT)
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "validation_recall_at_10")
    assert {(entry.step, entry.value) for entry in history} == {(n, n / 8) for n in (1, 2, 3, 4)}
    assert len(history) == 4
    assert (run.info.run_name, run.info.status) == ("shop retriever", "FINISHED")
    assert run.data.params == {"dim": "8"}


def test_wandb_writes_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="Weights & Biases' client is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    resumed_in_two_parts("wandb", tmp_path / "shop")
    assert list((tmp_path / "shop" / "logs" / "wandb").glob("offline-run-*/run-*.wandb"))
