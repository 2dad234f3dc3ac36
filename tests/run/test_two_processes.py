"""Two commands on one run: the second is told of the first, which loses nothing, even by a kill."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hidvae.apps.cli import app, run_app
from hidvae.run.run import Run
from hidvae.store.artifacts import check_stage

MADE_BY_TRAINING = ("retriever", "graph", "reranker", "evaluation")
SETTINGS = ("RetrieverConfig.epochs=8", "RunConfig.checkpoint_every_seconds=0")
LONGEST_WAIT = 120.0
"""Seconds for what takes a few on an idle machine."""

Hidvae = Callable[..., tuple[int, str, list[str]]]

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no signal halts a process")


@pytest.fixture
def hidvae(capsys: pytest.CaptureFixture[str]) -> Hidvae:
    """Run ``hidvae WORDS``; exit code, stdout, lines of stderr."""

    def invoke(*words: str) -> tuple[int, str, list[str]]:
        capsys.readouterr()
        code = run_app(app, "hidvae", words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return invoke


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A run that is still to be trained."""
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path, ignore=shutil.ignore_patterns(*MADE_BY_TRAINING))
    return path


def train(run: Path) -> list[str]:
    return ["train", "--output", str(run), *(f"--set={setting}" for setting in SETTINGS)]


@pytest.fixture
def first(run: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that trains the run, halted after a step or a few."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hidvae", *train(run)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    checkpoint = run / ".retriever.checkpoint" / "checkpoint.safetensors"
    deadline = time.monotonic() + LONGEST_WAIT
    while not checkpoint.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.returncode
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)
    yield process
    process.kill()
    process.wait()


def assert_refused(result: tuple[int, str, list[str]], process: int) -> None:
    """One line that says who holds the run, and since when."""
    code, out, lines = result
    assert code == 2 and out == ""
    errors = [line for line in lines if not re.match(r"\d\d:\d\d:\d\d ", line)]
    assert len(errors) == 1, lines
    assert re.match(
        rf"hidvae: error: .*found `.*train --output .*`, process {process} on \S+, since "
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d; wait for it",
        errors[0],
    ), errors


def test_the_second_command_is_refused_and_the_first_ends_whole(
    run: Path, first: subprocess.Popen[bytes], hidvae: Hidvae
) -> None:
    for words in (train(run), ["run", *train(run)[1:]], ["prepare", "--output", str(run)]):
        assert_refused(hidvae(*words), first.pid)
    assert hidvae("check", str(run))[0] == 0  # who only reads is not refused
    first.send_signal(signal.SIGCONT)
    assert first.wait(LONGEST_WAIT) == 0
    code, out, _ = hidvae("check", str(run))
    assert code == 0
    assert {"retriever", "graph"} <= {line.partition(":")[0] for line in out.splitlines()}
    assert Run(run).folder("retriever").facts["num_epochs"] == 8
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == [".lock"]


def test_a_kill_frees_the_run_and_the_next_command_goes_on(
    run: Path, first: subprocess.Popen[bytes], hidvae: Hidvae
) -> None:
    first.kill()
    first.wait()
    assert not (run / "retriever").exists()
    code, _, lines = hidvae(*train(run))
    assert code == 0
    assert any("going on from epoch" in line for line in lines)
    assert hidvae("check", str(run))[0] == 0
    check_stage(run / "retriever", "hidvae train")
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == [".lock"]
