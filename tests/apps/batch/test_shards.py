"""Every bad input folder or shard is one line that names it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.apps.batch.conftest import Made

from hidvae.apps.cli import app, run_app

Invoke = Callable[..., str]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Invoke:
    """Run ``hidvae batch WORDS``, which must fail; the one line that it prints."""

    def invoke(*words: str | Path) -> str:
        code = run_app(app, "hidvae", ["batch", *(str(word) for word in words)])
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line)]
        assert (code, out, len(lines)) == (2, "", 1), err
        return lines[0]

    return invoke


@pytest.fixture
def shard(tmp_path: Path) -> Callable[[pl.DataFrame], Path]:
    """Write a folder of one shard."""

    def write(frame: pl.DataFrame) -> Path:
        (tmp_path / "in").mkdir()
        frame.write_parquet(tmp_path / "in" / "a.parquet")
        return tmp_path / "in"

    return write


def options(run: Path, input: Path, output: Path) -> list[str | Path]:
    return ["--model", run, "--input", input, "--output", output]


BAD_SHARDS = [
    ("embed", {"sku": ["1"]}, "missing item_id; found sku"),
    ("embed", {"item_id": [1.5]}, "column item_id: expected text or whole numbers; found Float64"),
    ("embed", {"item_id": ["a"], "colour": ["red"]}, "a.parquet: items: expected one of the text"),
    ("embed", {"item_id": ["a", "a"], "title": ["b", "c"]}, "expected each item once"),
    ("tokenize", {"item_id": ["a"]}, "missing vector; found item_id"),
    ("tokenize", {"item_id": ["a"], "vector": [1.0]}, "expected lists of numbers; found Float64"),
    ("tokenize", {"item_id": ["a"], "vector": [["1"]]}, "expected lists of numbers; found List"),
    ("recommend", {"user": ["u"], "history": [["a"]]}, "rename 'user' to 'user_id'"),
    ("recommend", {"user_id": ["u"], "history": ["a,b"]}, "expected lists of item ids"),
    ("recommend", {"user_id": ["u"], "history": [[1.5]]}, "expected lists of item ids"),
    ("recommend", {"user_id": [["u"]], "history": [["a"]]}, "column user_id: expected text or"),
]


@pytest.mark.parametrize(("job", "columns", "expected"), BAD_SHARDS)
def test_bad_shards(
    tiny_run: Path,
    fails: Invoke,
    shard: Callable[[pl.DataFrame], Path],
    tmp_path: Path,
    job: str,
    columns: dict[str, list[object]],
    expected: str,
) -> None:
    line = fails(job, *options(tiny_run, shard(pl.DataFrame(columns)), tmp_path / "out"))
    assert expected in line
    assert "a.parquet" in line


def test_no_folder_and_no_shards(tiny_run: Path, fails: Invoke, tmp_path: Path) -> None:
    absent = fails("recommend", *options(tiny_run, tmp_path / "absent", tmp_path / "out"))
    assert "absent: expected a folder of .parquet files; found no such folder" in absent
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "users.csv").write_text("user_id\n")
    empty = fails("embed", *options(tiny_run, tmp_path / "empty", tmp_path / "out"))
    assert "empty: expected .parquet files; found none" in empty


def test_a_bad_shard_stops_the_job_before_it_starts(
    tiny_run: Path, made: Made, fails: Invoke, tmp_path: Path
) -> None:
    good = pl.read_parquet(made.users / "part-0.parquet")
    (tmp_path / "in").mkdir()
    good.write_parquet(tmp_path / "in" / "a.parquet")
    (tmp_path / "in" / "b.parquet").write_bytes(b"no Parquet")
    line = fails("recommend", *options(tiny_run, tmp_path / "in", tmp_path / "out"))
    assert "b.parquet: expected a readable Parquet file" in line
    assert not (tmp_path / "out").exists()


def test_output_folders_that_would_be_mixed_up(
    tiny_run: Path, made: Made, fails: Invoke, tmp_path: Path
) -> None:
    same = fails("recommend", *options(tiny_run, made.users, made.users / "." / ""))
    assert "expected a folder other than --input" in same
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.parquet").write_bytes(b"")
    other = fails("recommend", *options(tiny_run, made.users, tmp_path / "out"))
    assert "found 'old.parquet' (1 like it); delete it" in other
    (tmp_path / "file").write_bytes(b"")
    file = fails("recommend", *options(tiny_run, made.users, tmp_path / "file"))
    assert "file: expected a folder; found a file" in file


def test_a_run_that_is_not_there(made: Made, fails: Invoke, tmp_path: Path) -> None:
    for job in ("embed", "tokenize", "recommend"):
        line = fails(job, *options(tmp_path / "no-run", made.users, tmp_path / "out"))
        assert "run `hidvae " in line


def test_no_workers(tiny_run: Path, made: Made, fails: Invoke, tmp_path: Path) -> None:
    words = options(tiny_run, made.users, tmp_path / "out")
    assert "--workers: expected at least 1; found 0" in fails("recommend", *words, "--workers", "0")


def test_commands_make_shards(
    tiny_run: Path, made: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["recommend", *options(tiny_run, made.users, tmp_path), "--top-k", "5", "--workers", 1]
    assert run_app(app, "hidvae", ["batch", *(str(word) for word in words)]) == 0
    assert "4 shards, 4 of them new; 200 rows, 0 empty histories" in capsys.readouterr().err
    for path in made.lists.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


@pytest.mark.parametrize("job", ["embed", "tokenize", "recommend"])
def test_help_has_an_example(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app, "hidvae", ["batch", job, "--help"]) == 0
    assert f"Example:\n    hidvae batch {job} --model" in capsys.readouterr().out
