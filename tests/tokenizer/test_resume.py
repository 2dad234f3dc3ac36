"""A training that was stopped ends like one that was not, bit for bit."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.stages import encode_catalogue, train_tokenizer
from torch.optim import AdamW

from hidvae.config import RunConfig, TokenizerConfig
from hidvae.errors import ArtifactError, NotTrainedError
from hidvae.semantic_ids.table import FILE
from hidvae.store.artifacts import StageFolder, read_stage
from hidvae.tokenizer import train_tokenizer as train_module
from hidvae.tokenizer.train_tokenizer import LOG, WEIGHTS
from hidvae.training import checkpoint as checkpoint_module

from .conftest import kill_codes

STEPS = 9  # 3 epochs of 3
Train = Callable[[TokenizerConfig, Path], StageFolder]


class Killed(BaseException):
    """Stands in for a signal: nothing may catch it."""


def killed_at(step: int) -> type[AdamW]:
    """An optimizer that dies in the place of its step number ``step`` (from 0)."""

    class Dying(AdamW):
        taken = 0

        def step(self, *args: Any, **kwargs: Any) -> Any:
            if type(self).taken == step:
                raise Killed
            type(self).taken += 1
            return super().step(*args, **kwargs)

    return Dying


@pytest.fixture
def every_step() -> RunConfig:
    """A checkpoint after every step."""
    return RunConfig(device="cpu", checkpoint_every_seconds=0)


@pytest.fixture
def train(
    every_step: RunConfig, demo_folder: StageFolder, embeddings: StageFolder, tags: StageFolder
) -> Train:
    def call(config: TokenizerConfig, output: Path) -> StageFolder:
        torch.manual_seed(int(time.time()))  # nothing may hang on what came before
        return train_tokenizer(config, every_step, demo_folder, embeddings, tags, output)

    return call


def stop_at(step: int, train: Train, config: TokenizerConfig, output: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "AdamW", killed_at(step))
        with pytest.raises(Killed):
            train(config, output)


def checkpoint_of(output: Path) -> Path:
    return output.parent / f".{output.name}.checkpoint" / "checkpoint.safetensors"


def log_of(folder: StageFolder) -> list[dict[str, str]]:
    with (folder.path / LOG).open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_same(resumed: StageFolder, whole: StageFolder) -> None:
    assert (resumed.path / WEIGHTS).read_bytes() == (whole.path / WEIGHTS).read_bytes()
    assert log_of(resumed) == log_of(whole)
    assert resumed.fingerprint == whole.fingerprint
    assert not list(resumed.path.parent.glob(".*")), "the checkpoint is gone with its purpose"


@pytest.mark.parametrize("step", [1, 3, STEPS - 1])
def test_stopped_anywhere_and_resumed_it_is_the_same(
    step: int, train: Train, config: TokenizerConfig, tokenizer: StageFolder, tmp_path: Path
) -> None:
    output = tmp_path / "tokenizer"
    stop_at(step, train, config, output)
    assert [path.name for path in tmp_path.iterdir()] == [".tokenizer.checkpoint"]
    with pytest.raises(NotTrainedError):
        read_stage(output, produced_by="hidvae tokenize")
    assert_same(train(config, output), tokenizer)


def test_every_checkpoint_says_how_far_it_is(
    train: Train, config: TokenizerConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hidvae")
    rows = log_of(train(config, tmp_path / "tokenizer"))
    said = [record.message for record in caplog.records if record.message.startswith("step ")]
    assert [line.split("  ")[0] for line in said] == [
        f"step {n + 1} of {STEPS}" for n in range(STEPS)
    ]
    losses = [f"reconstruction {float(row['reconstruction']):.3f}" for row in rows]
    assert [line.split("  ")[1] for line in said[2::3]] == losses


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_mode": "gumbel", "dropout": 0.4},
        {"gradient_mode": "straight_through", "sim_vq": True},
    ],
    ids=["gumbel", "sim_vq"],
)
def test_random_numbers_go_on_where_they_stopped(
    changes: dict[str, Any], train: Train, config: TokenizerConfig, tmp_path: Path
) -> None:
    config = replace(config, **changes)
    whole = train(config, tmp_path / "whole" / "tokenizer")
    output = tmp_path / "stopped" / "tokenizer"
    stop_at(2, train, config, output)
    stop_at(3, train, config, output)  # 3 steps further on
    assert_same(train(config, output), whole)


def test_the_patience_with_unused_codes_goes_on(
    train: Train, config: TokenizerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_codes(monkeypatch, num_alive=8)
    whole = train(config, tmp_path / "whole" / "tokenizer")
    stop_at(5, train, config, tmp_path / "stopped" / "tokenizer")  # in the second epoch
    assert_same(train(config, tmp_path / "stopped" / "tokenizer"), whole)


def test_stopped_before_the_first_checkpoint_it_starts_anew(
    train: Train, config: TokenizerConfig, tokenizer: StageFolder, tmp_path: Path
) -> None:
    stop_at(0, train, config, tmp_path / "tokenizer")
    assert not list(tmp_path.iterdir())
    assert_same(train(config, tmp_path / "tokenizer"), tokenizer)


def test_a_resumed_run_takes_only_the_steps_that_are_left(
    train: Train, config: TokenizerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(5, train, config, tmp_path / "tokenizer")
    counting = killed_at(-1)
    monkeypatch.setattr(train_module, "AdamW", counting)
    train(config, tmp_path / "tokenizer")
    assert counting.taken == STEPS - 5  # type: ignore[attr-defined]


def test_killed_while_it_writes_a_checkpoint_the_one_before_counts(
    train: Train,
    config: TokenizerConfig,
    tokenizer: StageFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, replace_file, calls = tmp_path / "tokenizer", os.replace, iter(range(100))

    def die_at_fourth(source: Any, target: Any) -> None:
        if next(calls) == 3:
            Path(source).write_bytes(Path(source).read_bytes()[:1000])
            raise Killed
        replace_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module.os, "replace", die_at_fourth)
        with pytest.raises(Killed):
            train(config, output)
    assert checkpoint_of(output).is_file()
    assert_same(train(config, output), tokenizer)


@pytest.mark.parametrize("what", ["settings", "seed"])
def test_the_checkpoint_of_another_training_is_not_used(
    what: str,
    train: Train,
    config: TokenizerConfig,
    every_step: RunConfig,
    demo_folder: StageFolder,
    embeddings: StageFolder,
    tags: StageFolder,
    tokenizer: StageFolder,
    tmp_path: Path,
) -> None:
    output = tmp_path / "tokenizer"
    if what == "settings":
        stop_at(5, train, replace(config, learning_rate=0.5), output)
    else:

        def other_seed(config: TokenizerConfig, output: Path) -> StageFolder:
            return train_tokenizer(
                config, replace(every_step, seed=1), demo_folder, embeddings, tags, output
            )

        stop_at(5, other_seed, config, output)
    assert checkpoint_of(output).is_file()
    assert_same(train(config, output), tokenizer)


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage"])
def test_a_damaged_checkpoint_is_one_line(
    damage: str, train: Train, config: TokenizerConfig, tmp_path: Path
) -> None:
    output = tmp_path / "tokenizer"
    stop_at(2, train, config, output)
    file = checkpoint_of(output)
    content = file.read_bytes()
    damaged = {"truncated": content[:-100], "empty": b"", "garbage": b"\xff" * len(content)}
    file.write_bytes(damaged[damage])
    with pytest.raises(ArtifactError, match="checkpoint is damaged.*delete it") as error:
        train(config, output)
    assert "\n" not in str(error.value)
    assert str(file) in str(error.value)
    assert file.is_file() and not output.exists()


_CHILD = """
import json, sys, time
from pathlib import Path
from hidvae.store.artifacts import read_stage
from hidvae.config import RunConfig, TokenizerConfig, build_section
from hidvae.tokenizer import train_tokenizer as train
from tests import stages

class Slow(train.AdamW):
    def step(self, *args, **kwargs):
        time.sleep(0.05)
        return super().step(*args, **kwargs)

train.AdamW = Slow
settings, run, dataset, embeddings, tags, output = json.loads(sys.argv[1])
stages.train_tokenizer(
    build_section(TokenizerConfig, settings),
    build_section(RunConfig, run),
    read_stage(Path(dataset), produced_by=""),
    read_stage(Path(embeddings), produced_by=""),
    read_stage(Path(tags), produced_by=""),
    Path(output),
)
"""


def test_killed_by_the_system_and_resumed_it_is_the_same(
    train: Train,
    config: TokenizerConfig,
    every_step: RunConfig,
    demo_folder: StageFolder,
    embeddings: StageFolder,
    tags: StageFolder,
    tokenizer: StageFolder,
    tmp_path: Path,
) -> None:
    output = tmp_path / "tokenizer"
    folders = [str(folder.path) for folder in (demo_folder, embeddings, tags)]
    argument = [asdict(config), asdict(every_step), *folders, str(output)]
    command = [sys.executable, "-c", _CHILD, json.dumps(argument)]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}) as child:
        deadline = time.monotonic() + 120
        while not checkpoint_of(output).is_file() and child.poll() is None:
            assert time.monotonic() < deadline, "no checkpoint appeared"
            time.sleep(0.005)
        child.kill()
    assert child.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert not output.exists()
    resumed = train(config, output)
    assert_same(resumed, tokenizer)
    tables = [
        encode_catalogue(folder, demo_folder, embeddings, tags, tmp_path / name).path / FILE
        for name, folder in (("resumed", resumed), ("whole", tokenizer))
    ]
    assert tables[0].read_bytes() == tables[1].read_bytes()
