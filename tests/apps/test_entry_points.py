"""The published scripts, thin on top of the package."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from hidvae.apps import entry_points
from hidvae.apps.entry_points import default_run
from hidvae.config import load_config

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    name: ROOT / name
    for name in (
        "train_hidvae.py",
        "train_transformer.py",
        "scripts/view_processed_dataset.py",
        "scripts/view_train_hrqvae.py",
    )
}


@dataclass
class Shown:
    code: int
    stdout: str
    stderr: str


Call = Callable[..., Shown]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Call what a script calls, with its words."""

    def run(script: str, *words: str | Path) -> Shown:
        code = getattr(entry_points, Path(script).stem)([str(word) for word in words])
        captured = capsys.readouterr()
        return Shown(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def config_file(tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("config") / "tiny.gin"
    bindings = [value.partition("=") for value in tiny_settings]
    lines = [
        f"{name} = {value}" if value[0] in "(0123456789" else f"{name} = '{value}'"
        for name, _, value in bindings
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_thin_and_have_help(script: str) -> None:
    assert len(SCRIPTS[script].read_text(encoding="utf-8").splitlines()) <= 12
    shown = subprocess.run(
        [sys.executable, SCRIPTS[script], "--help"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith(f"Usage: {Path(script).name}")


@pytest.mark.parametrize("script", ["train_hidvae.py", "train_transformer.py"])
def test_missing_config_is_one_line(call: Call, script: str, tmp_path: Path) -> None:
    failed = call(script, tmp_path / "absent.gin", "--output", tmp_path)
    assert failed.code == 2
    assert len(failed.stderr.splitlines()) == 1
    assert "absent.gin: no such config file" in failed.stderr


def test_both_trainings_meet_in_the_run_of_the_dataset() -> None:
    for name in ("amazon", "kuairand"):
        runs = {
            default_run(load_config([ROOT / "configs" / f"{stage}_{name}.gin"]))
            for stage in ("h_rqvae", "decoder")
        }
        assert len(runs) == 1
    sports = load_config(
        [ROOT / "configs" / "h_rqvae_amazon.gin"], ["DatasetConfig.dataset_split=sports"]
    )
    assert default_run(sports) == Path("runs/amazon-sports")
    assert default_run(load_config([], ["DatasetConfig.source=demo"])) == Path("runs/demo")
    assert default_run(load_config([], ["DatasetConfig.folder=my/shop/"])) == Path("runs/shop")


def test_tokenizer_then_retriever_then_views(call: Call, config_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = call("train_hidvae.py", config_file, "--output", run)
    assert trained.code == 0, trained.stderr
    assert (run / "semantic_ids" / "semantic_ids.parquet").is_file()
    assert not (run / "retriever").exists()

    view = call("scripts/view_train_hrqvae.py", run)
    assert view.code == 0, view.stderr
    assert "finished" in view.stdout
    header, first = next(
        (above, below)
        for above, below in itertools.pairwise(view.stdout.splitlines())
        if "reconstruction" in above
    )
    assert first.split()[0] == "1"
    assert "perplexity_0" in header

    other = tmp_path / "other"
    scored = call("train_transformer.py", config_file, "--tokenizer", run, "--output", other)
    assert scored.code == 0, scored.stderr
    assert "recall@10" in scored.stdout
    assert (other / "evaluation" / "metrics.json").is_file()
    assert not (run / "retriever").exists()


def test_view_of_a_run_and_of_raw_tables(call: Call, tiny_run: Path, tmp_path: Path) -> None:
    view = call("scripts/view_processed_dataset.py", tiny_run)
    assert view.code == 0, view.stderr
    for shown in ("num_items", "120", "category path >= 3", "coverage", "some users"):
        assert shown in view.stdout, shown

    data = tmp_path / "data"
    data.mkdir()
    items = "item_id,title\n" + "".join(f"{i},thing {i}\n" for i in range(4))
    rows = (f"{user},{i},{i}\n" for user in "uv" for i in range(4))
    events = "user_id,item_id,position\n" + "".join(rows)
    (data / "items.csv").write_text(items, encoding="utf-8")
    (data / "interactions.csv").write_text(events, encoding="utf-8")
    view = call("scripts/view_processed_dataset.py", data)
    assert view.code == 0, view.stderr
    assert "thing 3" in view.stdout
    assert sorted(entry.name for entry in data.iterdir()) == ["interactions.csv", "items.csv"]


def test_view_of_a_training_can_be_live_until_ctrl_c(tiny_run: Path) -> None:
    words = [SCRIPTS["scripts/view_train_hrqvae.py"], tiny_run, "--live", "--port", "0"]
    with subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True) as viewer:
        assert viewer.stderr is not None
        said = viewer.stderr.readline()
        found = re.search(r"following .+ on (http://127\.0\.0\.1:\d+/) until Ctrl-C", said)
        assert found, said
        with urllib.request.urlopen(found.group(1), timeout=30) as answer:
            assert b"epochs in" in answer.read()
        viewer.send_signal(signal.SIGINT)
        assert viewer.stderr.read().count("\n") == 1
    assert viewer.returncode == 0


def test_view_of_nothing_is_one_line(call: Call, tmp_path: Path) -> None:
    for script in ("scripts/view_processed_dataset.py", "scripts/view_train_hrqvae.py"):
        failed = call(script, tmp_path / "absent")
        assert failed.code == 2
        assert len(failed.stderr.splitlines()) == 1, failed.stderr


def test_environment_is_plain_utf8_and_installs_this_package() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == "hidvae"
    assert {"pip": ["-e .[offline]"]} in environment["dependencies"]


def test_constraints_are_exact_public_pins() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    for pin in pins:
        name, separator, version = pin.partition("==")
        assert separator and name and version, pin
        assert not any(mark in pin for mark in ("@", "+", "/", ";")), pin


def test_make_alone_prints_its_targets() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = "install format lint types test test-all coverage run bench docs clean".split()
    assert all(f"make {name} " in shown for name in names)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["--config 'configs/demo.gin'", "--output 'runs/demo'"]),
        (["DATA=../my data/shop/"], ["--data '../my data/shop/'", "--output 'runs/shop'"]),
        (["DATA=shop", "CONFIG=a.gin", "RUN=r"], ["--data 'shop'", "'a.gin'", "--output 'r'"]),
    ],
)
def test_make_run_names_the_run_after_the_data(words: list[str], expected: list[str]) -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "run", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        # `make test` would hand its own flags down
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
    ).stdout
    command = shown.splitlines()[-1]
    assert all(part in command for part in expected), command
