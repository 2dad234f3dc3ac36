from __future__ import annotations

import csv
import logging
import time
from pathlib import Path

import pytest

from hidvae.training.progress import Stopwatch, TrainingLog


@pytest.fixture(autouse=True)
def log_lines_reach_caplog(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command run by an earlier test may have taken the package's log lines for itself."""
    monkeypatch.setattr(logging.getLogger("hidvae"), "propagate", True)


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_rows_go_to_the_file_and_a_line_to_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="hidvae")
    file = tmp_path / "new" / "log.csv"
    log = TrainingLog(file)
    log.add({"epoch": 1, "loss": 0.5}, "epoch 1")
    assert read(file) == [{"epoch": "1", "loss": "0.5"}], "it can be followed while it grows"
    log.add({"epoch": 2, "loss": 0.25}, "epoch 2")
    assert [row["epoch"] for row in read(file)] == ["1", "2"]
    assert [record.getMessage() for record in caplog.records] == ["epoch 1", "epoch 2"]


def test_columns_are_those_of_all_rows(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "log.csv")
    log.add({"epoch": 1, "loss": 0.5}, "")
    log.add({"epoch": 2, "recall": 0.1}, "")
    assert read(tmp_path / "log.csv") == [
        {"epoch": "1", "loss": "0.5", "recall": ""},
        {"epoch": "2", "loss": "", "recall": "0.1"},
    ]


def test_numbers_keep_all_their_digits(tmp_path: Path) -> None:
    value = 0.1 + 0.2
    log = TrainingLog(None)
    log.add({"loss": value}, "")
    log.write(tmp_path / "copy.csv")
    assert float(read(tmp_path / "copy.csv")[0]["loss"]) == value


def test_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    watch = Stopwatch(seconds_before=7.0)
    assert watch.seconds == 7
    assert not watch.is_due(60)
    assert watch.is_due(0) and watch.is_due(0), "0 is always due"
    now[0] += 59
    assert not watch.is_due(60)
    now[0] += 1
    assert watch.is_due(60)
    assert not watch.is_due(60)
    assert watch.seconds == 67


def test_a_reader_never_sees_half_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = TrainingLog(tmp_path / "log.csv")
    log.add({"epoch": 1}, "")
    whole = (tmp_path / "log.csv").read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(csv.DictWriter, "writerows", killed)
    with pytest.raises(KeyboardInterrupt):
        log.add({"epoch": 2}, "")
    assert (tmp_path / "log.csv").read_bytes() == whole
