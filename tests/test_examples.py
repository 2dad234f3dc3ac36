"""The scripts in examples/ run and show what they promise, on tiny settings."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from hidvae import DataError

EXAMPLES = Path(__file__).parent.parent / "examples"
TINY_FILMS = ["TokenizerConfig.epochs=2", "RetrieverConfig.epochs=1", "RunConfig.device=cpu"]
Run = Callable[..., str]


@pytest.fixture
def run_example(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example with the words of a command line; what it printed."""

    def run(name: str, *words: str | Path) -> str:
        runpy.run_path(str(EXAMPLES / name))["main"]([str(word) for word in words])
        return capsys.readouterr().out

    return run


def settings(values: list[str]) -> list[str]:
    return [word for value in values for word in ("--set", value)]


def test_every_example_is_run_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    for file in EXAMPLES.glob("*.py"):
        assert f'"{file.name}"' in here, file.name


def test_demo_end_to_end(run_example: Run, tiny_settings: list[str], tmp_path: Path) -> None:
    words = ["--output", tmp_path / "run", *settings(tiny_settings)]
    shown = run_example("demo_end_to_end.py", *words)
    for expected in ("hidvae ", "popularity ", "test recall@10 0.", "IDs are unique: True", "5. "):
        assert expected in shown
    assert (tmp_path / "run" / "evaluation" / "metrics.json").is_file()


def test_custom_data(run_example: Run, tmp_path: Path) -> None:
    words = ["--data", tmp_path / "films", "--output", tmp_path / "run", *settings(TINY_FILMS)]
    shown = run_example("custom_data.py", *words)
    assert (tmp_path / "films" / "items.csv").is_file()
    assert "200 viewers, " in shown
    recommended = shown.splitlines()[2:]
    assert len(recommended) == 3
    assert all("story" in line and " > " in line for line in recommended)


def test_explain_one_user(run_example: Run, tiny_run: Path) -> None:
    shown = run_example("explain_one_user.py", "--run", tiny_run, "--user", "u7")
    assert shown.startswith("history of u7: ")
    assert shown.count(", probability 0.") == 4
    assert "taken next:" in shown
    with pytest.raises(DataError, match="expected a user of the log"):
        run_example("explain_one_user.py", "--run", tiny_run, "--user", "absent")
