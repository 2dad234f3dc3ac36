"""Stage train: reproducible, resumable bit for bit, blind to what it must not see."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from tests.stages import train_retriever

from hidvae.config import RetrieverConfig, RunConfig
from hidvae.data.interactions import Sequences
from hidvae.data.prepare import EVENTS_FILE, load_dataset, write_events
from hidvae.data.split import leave_one_out
from hidvae.errors import DataError, HidvaeError
from hidvae.retriever import train_retriever as train
from hidvae.retriever.interface import Retriever
from hidvae.store.artifacts import StageFolder, read_stage
from hidvae.training.progress import Stopwatch
from training.fake_streams import fake_streams

CONFIG = RetrieverConfig(
    architecture="item_decoder",
    weight_average=0.0,
    dim=8,
    num_layers=1,
    num_heads=2,
    dropout=0.2,
    max_history=6,
    epochs=3,
    validate_every=1,
    patience=0,
    batch_tokens=400,
    warmup_steps=2,
    learning_rate=5e-3,
    order_noise=1.5,
)
RUN = RunConfig(device="cpu", checkpoint_every_seconds=0)
NEEDS = ("dataset", "embeddings", "tags", "semantic_ids")
Folders = dict[str, StageFolder]


class Stopped(Exception):
    """The power went off."""


@pytest.fixture(scope="module")
def folders(tiny_run: Path) -> Folders:
    return {name: read_stage(tiny_run / name, produced_by="hidvae") for name in NEEDS}


def fit(
    folders: Folders, output: Path, run: RunConfig = RUN, **changes: Any
) -> tuple[dict[str, torch.Tensor], StageFolder]:
    """Train and read the weights."""
    made = train_retriever(
        replace(CONFIG, **changes), run, *(folders[name] for name in NEEDS), output
    )
    return load_file(made.path / "model.safetensors"), made


def log_of(folder: StageFolder) -> list[dict[str, str]]:
    """Rows of the log, without the wall time."""
    with (folder.path / "log.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_equal_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def differ(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(first[name], second[name]) for name in first)


VARIANTS = {
    "item_decoder": {},
    "averaged": {"weight_average": 0.9},
    "item_softmax": {"architecture": "item_softmax"},
    "negatives": {"architecture": "item_softmax", "num_negatives": 8},
    "encoder_decoder": {"architecture": "encoder_decoder", "batch_tokens": 800, "epochs": 2},
}


@pytest.fixture(scope="module")
def whole(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[dict[str, torch.Tensor], StageFolder]]:
    """Uninterrupted trainings of the variants, each made once."""
    made: dict[str, tuple[dict[str, torch.Tensor], StageFolder]] = {}

    def of(variant: str) -> tuple[dict[str, torch.Tensor], StageFolder]:
        if variant not in made:
            output = tmp_path_factory.mktemp("whole") / "retriever"
            made[variant] = fit(folders, output, **VARIANTS[variant])
        return made[variant]

    return of


@pytest.fixture(scope="module")
def steps_per_epoch(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> int:
    output = tmp_path_factory.mktemp("count") / "retriever"
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        save = train.save_checkpoint
        patch.setattr(
            train,
            "save_checkpoint",
            lambda *a, **k: calls.append(k["state"]["step"]) or save(*a, **k),
        )
        fit(folders, output, epochs=1)
    assert calls == list(range(1, len(calls) + 1))
    return len(calls)


# --- length -------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [0, 2])
def test_training_stops_after_the_most_steps_and_validates_there(
    extra: int, folders: Folders, steps_per_epoch: int, tmp_path: Path
) -> None:
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            train, "save_checkpoint", lambda *a, **k: steps.append(k["state"]["steps_done"])
        )
        wanted = steps_per_epoch + extra
        _, made = fit(folders, tmp_path / "retriever", max_steps=wanted, validate_every=50)
    assert steps == list(range(1, wanted + 1))
    rows = log_of(made)
    assert len(rows) == made.facts["num_epochs"] == (2 if extra else 1)
    assert float(rows[-1]["validation_ndcg@10"]) == made.metrics["validation_ndcg@10"]


def test_stopped_after_the_most_steps_it_still_validates(
    folders: Folders, steps_per_epoch: int, tmp_path: Path
) -> None:
    most = {"max_steps": steps_per_epoch - 1, "validate_every": 50}
    expected, uninterrupted = fit(folders, tmp_path / "whole" / "retriever", **most)
    with pytest.MonkeyPatch.context() as patch:
        stop_after_saves(patch, steps_per_epoch - 1)
        with pytest.raises(Stopped):
            fit(folders, tmp_path / "retriever", **most)
    weights, made = fit(folders, tmp_path / "retriever", **most)
    assert_equal_weights(weights, expected)
    assert log_of(made) == log_of(uninterrupted)


# --- reproducible -------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights(folders: Folders, whole, tmp_path: Path) -> None:
    weights, made = whole("item_decoder")
    again, remade = fit(folders, tmp_path / "retriever")
    assert_equal_weights(weights, again)
    assert log_of(made) == log_of(remade)
    assert made.fingerprint == remade.fingerprint
    other, _ = fit(folders, tmp_path / "other", replace(RUN, seed=1))
    assert differ(weights, other)


def test_how_often_it_is_saved_changes_nothing(folders: Folders, whole, tmp_path: Path) -> None:
    rarely, _ = fit(folders, tmp_path / "retriever", replace(RUN, checkpoint_every_seconds=1e6))
    assert_equal_weights(whole("item_decoder")[0], rarely)


@pytest.mark.parametrize("variant", VARIANTS)
def test_batches_that_are_copied_ahead_change_nothing(
    variant: str, folders: Folders, whole, tmp_path: Path
) -> None:
    with fake_streams() as pinned:
        weights, _ = fit(folders, tmp_path / "retriever", **VARIANTS[variant])
    assert pinned
    assert_equal_weights(weights, whole(variant)[0])


def test_what_the_folder_holds(whole) -> None:
    _, made = whole("item_decoder")
    assert {path.name for path in made.path.iterdir()} == {
        "manifest.json",
        "model.safetensors",
        "log.csv",
    }
    assert made.manifest["stage"] == "retriever"
    assert made.manifest["seed"] == 0
    assert made.config == json.loads(json.dumps(asdict(CONFIG)))
    rows = log_of(made)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    scores = [float(row["validation_ndcg@10"]) for row in rows]
    assert made.metrics["validation_ndcg@10"] == max(scores)
    assert made.metrics["best_epoch"] == 1 + scores.index(max(scores))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert not made.path.with_name(".retriever.checkpoint").exists()


def test_the_best_epoch_is_kept_and_patience_stops(
    folders: Folders, tmp_path: Path, monkeypatch
) -> None:
    scores = iter([0.1, 0.5, 0.5, 0.4, 0.9])
    monkeypatch.setattr(train, "ndcg_at", lambda ranks, k: np.array([next(scores)]))
    weights, made = fit(folders, tmp_path / "stopped", epochs=5, patience=2)
    assert len(log_of(made)) == 4  # two validations without a better one
    assert made.metrics["best_epoch"] == 2
    scores = iter([0.1, 0.5, 0.0, 0.0, 0.0])
    unlimited, made = fit(folders, tmp_path / "unlimited", epochs=5)
    assert len(log_of(made)) == 5
    assert_equal_weights(weights, unlimited)


def test_the_last_epoch_is_validated_whatever_the_rhythm(folders: Folders, tmp_path: Path) -> None:
    _, made = fit(folders, tmp_path / "retriever", epochs=3, validate_every=2)
    validated = [bool(row["validation_ndcg@10"]) for row in log_of(made)]
    assert validated == [False, True, True]


def test_averaged_weights_are_others_and_are_the_ones_validated(whole) -> None:
    assert differ(whole("averaged")[0], whole("item_decoder")[0])
    averaged, plain = log_of(whole("averaged")[1]), log_of(whole("item_decoder")[1])
    assert [row["loss"] for row in averaged] == [row["loss"] for row in plain]
    assert [row["validation_ndcg@10"] for row in averaged] != [
        row["validation_ndcg@10"] for row in plain
    ]


# --- resumable ----------------------------------------------------------------------------------


PLACES = ("first step", "within", "end of epoch", "last step")


def stop_after_saves(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    save, done = train.save_checkpoint, []

    def saving(*arguments: Any, **options: Any) -> None:
        save(*arguments, **options)
        done.append(1)
        if len(done) == count:
            raise Stopped

    monkeypatch.setattr(train, "save_checkpoint", saving)


@pytest.mark.parametrize(
    ("variant", "place"),
    [
        *((v, p) for v in ("item_decoder", "averaged") for p in PLACES),
        ("item_softmax", "within"),
        ("negatives", "within"),
        ("encoder_decoder", "within"),
    ],
)
def test_stopped_and_resumed_equals_uninterrupted(
    folders: Folders, whole, steps_per_epoch: int, tmp_path: Path, variant: str, place: str
) -> None:
    count = {
        "first step": 1,
        "within": steps_per_epoch + 2,
        "end of epoch": steps_per_epoch,
        "last step": 3 * steps_per_epoch,
    }[place]
    output = tmp_path / "retriever"
    with pytest.MonkeyPatch.context() as patch:
        stop_after_saves(patch, count)
        with pytest.raises(Stopped):
            fit(folders, output, **VARIANTS[variant])
    assert not output.exists()
    assert [path.name for path in tmp_path.iterdir()] == [".retriever.checkpoint"]
    weights, made = fit(folders, output, **VARIANTS[variant])
    expected, uninterrupted = whole(variant)
    assert_equal_weights(weights, expected)
    assert log_of(made) == log_of(uninterrupted)
    assert made.metrics == uninterrupted.metrics
    assert [path.name for path in tmp_path.iterdir()] == ["retriever"]


def test_every_checkpoint_says_how_far_it_is(
    folders: Folders, steps_per_epoch: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hidvae")
    _, made = fit(folders, tmp_path / "retriever")
    said = [record.message for record in caplog.records if record.message.startswith("step ")]
    total = 3 * steps_per_epoch
    assert [line.split("  ")[0] for line in said] == [
        f"step {n + 1} of {total}" for n in range(total)
    ]
    last_of_epochs = said[steps_per_epoch - 1 :: steps_per_epoch]
    losses = [f"loss {float(row['loss']):.3f}" for row in log_of(made)]
    assert [line.split("  ")[1] for line in last_of_epochs] == losses


def test_stopped_thrice_between_checkpoints(folders: Folders, whole, tmp_path: Path) -> None:
    """Steps after the last checkpoint are done again, with the same random numbers."""
    output, forward = tmp_path / "retriever", Retriever.forward
    for attempt in range(4):
        asked: list[int] = []  # one entry per step: is a checkpoint due?

        def is_due(*_: Any, asked: list[int] = asked) -> bool:
            asked.append(1)
            return len(asked) % 2 == 0

        def failing(*arguments: Any, asked: list[int] = asked, last: bool = attempt == 3) -> Any:
            if len(asked) == 3 and not last:
                raise Stopped
            return forward(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Stopwatch, "is_due", is_due)
            patch.setattr(Retriever, "forward", failing)
            if attempt < 3:
                with pytest.raises(Stopped):
                    fit(folders, output)
            else:
                weights, _ = fit(folders, output)
    assert_equal_weights(weights, whole("item_decoder")[0])


def test_stopped_while_validating(folders: Folders, whole, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def stop(*_: Any) -> None:
            raise Stopped

        patch.setattr(train, "ndcg_at", stop)
        with pytest.raises(Stopped):
            fit(folders, tmp_path / "retriever")
    assert_equal_weights(fit(folders, tmp_path / "retriever")[0], whole("item_decoder")[0])


KILLED = """
import os, signal, sys
from pathlib import Path
from hidvae.store.artifacts import read_stage
from hidvae.config import RetrieverConfig, RunConfig
from hidvae.retriever import train_retriever as train
import json
from tests import stages
run, output, settings, saves = sys.argv[1:]
save, done = train.save_checkpoint, []
def saving(*arguments, **options):
    save(*arguments, **options)
    done.append(1)
    if len(done) == int(saves):
        os.kill(os.getpid(), signal.SIGKILL)
train.save_checkpoint = saving
needs = json.loads(settings)["needs"]
folders = [read_stage(Path(run) / name, produced_by="hidvae") for name in needs]
stages.train_retriever(
    RetrieverConfig(**json.loads(settings)["retriever"]),
    RunConfig(**json.loads(settings)["run"]),
    *folders,
    Path(output),
)
"""


def test_killed_process_is_resumed_bit_for_bit(
    tiny_run: Path, folders: Folders, whole, tmp_path: Path
) -> None:
    settings = asdict(CONFIG) | VARIANTS["averaged"]
    output = tmp_path / "retriever"
    arguments = {"needs": NEEDS, "retriever": settings, "run": asdict(RUN)}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tiny_run), str(output), json.dumps(arguments), "1"],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not output.exists()
    assert (tmp_path / ".retriever.checkpoint" / "checkpoint.safetensors").is_file()
    weights, _ = fit(folders, output, **VARIANTS["averaged"])
    assert_equal_weights(weights, whole("averaged")[0])
    assert [path.name for path in tmp_path.iterdir()] == ["retriever"]


def test_another_rhythm_of_checkpoints_still_resumes(
    folders: Folders, whole, steps_per_epoch: int, tmp_path: Path, monkeypatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_after_saves(patch, 2)
        with pytest.raises(Stopped):
            fit(folders, tmp_path / "retriever")
    forward, steps = Retriever.forward, []
    monkeypatch.setattr(Retriever, "forward", lambda *a: steps.append(1) or forward(*a))
    rarely = replace(RUN, checkpoint_every_seconds=1e6)
    weights, _ = fit(folders, tmp_path / "retriever", rarely)
    assert len(steps) == 3 * steps_per_epoch - 2
    assert_equal_weights(weights, whole("item_decoder")[0])


def test_a_checkpoint_of_other_settings_is_not_resumed(
    folders: Folders, whole, tmp_path: Path
) -> None:
    output = tmp_path / "retriever"
    with pytest.MonkeyPatch.context() as patch:
        stop_after_saves(patch, 2)
        with pytest.raises(Stopped):
            fit(folders, output, learning_rate=1e-4)
    assert_equal_weights(fit(folders, output)[0], whole("item_decoder")[0])


def test_a_failed_training_keeps_the_older_stage(folders: Folders, tmp_path: Path) -> None:
    older, _ = fit(folders, tmp_path / "retriever", epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        stop_after_saves(patch, 1)
        with pytest.raises(Stopped):
            fit(folders, tmp_path / "retriever", epochs=2)
    kept = read_stage(tmp_path / "retriever", produced_by="hidvae train")
    assert_equal_weights(load_file(kept.path / "model.safetensors"), older)


# --- refuses ------------------------------------------------------------------------------------


def assert_one_line(error: pytest.ExceptionInfo[HidvaeError]) -> None:
    assert "\n" not in str(error.value)


def with_events(
    dataset: StageFolder, folder: Path, change: Callable[[pl.DataFrame], pl.DataFrame]
) -> StageFolder:
    """The dataset with another log under the same fingerprint, as if nobody had noticed."""
    shutil.copytree(dataset.path, folder)
    loaded = load_dataset(dataset)
    users = change(loaded.events_frame()).group_by("user_id", maintain_order=True)
    lists = users.agg("item_id")["item_id"].to_list()
    split = leave_one_out(Sequences.from_lists(map(loaded.catalogue.index_of, lists)))
    write_events(split, folder / EVENTS_FILE)
    return StageFolder(folder, dataset.manifest)


def test_short_histories_are_refused(folders: Folders, tmp_path: Path) -> None:
    short = with_events(
        folders["dataset"], tmp_path / "dataset", lambda log: log.filter(pl.col("position") < 3)
    )
    with pytest.raises(DataError, match="no training history has two items") as error:
        fit({**folders, "dataset": short}, tmp_path / "retriever")
    assert_one_line(error)
    assert not (tmp_path / "retriever").exists()


# --- blind --------------------------------------------------------------------------------------


def with_other_item(*from_end: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Every user's events at these places from the end (1 is the last) become other items."""

    def change(log: pl.DataFrame) -> pl.DataFrame:
        place = pl.len().over("user_id") - pl.col("position")
        shifted = pl.col("item_id").shift(-7).fill_null(pl.col("item_id").first())
        return log.with_columns(
            pl.when(place.is_in(list(from_end))).then(shifted).otherwise(pl.col("item_id"))
        )

    return change


def test_test_events_change_nothing(folders: Folders, whole, tmp_path: Path) -> None:
    other = with_events(folders["dataset"], tmp_path / "dataset", with_other_item(1))
    before, after = load_dataset(folders["dataset"]).split, load_dataset(other).split
    assert (before.test_targets != after.test_targets).mean() > 0.8
    assert (before.validation_targets == after.validation_targets).all()
    weights, made = fit({**folders, "dataset": other}, tmp_path / "retriever")
    assert_equal_weights(weights, whole("item_decoder")[0])
    assert log_of(made) == log_of(whole("item_decoder")[1])


def test_validation_events_select_but_do_not_train(folders: Folders, tmp_path: Path) -> None:
    other = with_events(folders["dataset"], tmp_path / "dataset", with_other_item(1, 2))
    plain, made = fit(folders, tmp_path / "plain", validate_every=3)
    changed, remade = fit({**folders, "dataset": other}, tmp_path / "changed", validate_every=3)
    assert_equal_weights(plain, changed)  # one validation, so nothing to choose
    assert log_of(made)[-1] != log_of(remade)[-1]


def test_training_events_do_train(folders: Folders, whole, tmp_path: Path) -> None:
    other = with_events(folders["dataset"], tmp_path / "dataset", with_other_item(3))
    weights, _ = fit({**folders, "dataset": other}, tmp_path / "retriever")
    assert differ(weights, whole("item_decoder")[0])
