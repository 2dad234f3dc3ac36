"""One writer per run; the second is told who the first is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hidvae.errors import ArtifactError
from hidvae.store.lock import writing

CODE = (
    "import sys; from pathlib import Path; from hidvae.store.lock import writing\n"
    "with writing(Path(sys.argv[1])):\n"
    "    print('held', flush=True); sys.stdin.read(1)\n"
)


def test_the_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with (
        pytest.raises(ArtifactError, match=rf"found `-c .*`, process {process.pid} on .*, since 2"),
        writing(run),
    ):
        raise AssertionError("two writers")
    process.kill()
    process.communicate()
    with writing(run):  # the system has freed the killed one's lock
        pass


def test_a_block_that_writes_nothing_leaves_no_run(tmp_path: Path) -> None:
    with writing(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "run").mkdir()
    with writing(tmp_path / "run"):
        (tmp_path / "run" / "stage").mkdir()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", "stage"]


def test_a_run_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="could not write"), writing(tmp_path / "file" / "run"):
        pass
