from __future__ import annotations

from pathlib import Path

import pytest

from hidvae.apps.show.training_log import log_file, read_log
from hidvae.errors import NotTrainedError
from hidvae.training.progress import TrainingLog


def test_the_log_beside_a_checkpoint_is_the_latest(tmp_path: Path) -> None:
    finished = TrainingLog(tmp_path / "tokenizer" / "log.csv")
    for epoch, loss in ((1, 0.5), (2, 0.4)):
        finished.add({"epoch": epoch, "loss": loss}, "")
    log = read_log(tmp_path, "tokenizer")
    assert (log.rows.height, log.is_running, log.state) == (2, False, "finished")
    running = TrainingLog(tmp_path / ".tokenizer.checkpoint" / "log.csv")
    running.add({"epoch": 1, "loss": 0.75}, "")
    log = read_log(tmp_path, "tokenizer")
    assert log.rows.to_dicts() == [{"epoch": 1, "loss": 0.75}]
    assert log.is_running


def test_what_an_epoch_lacks_is_null_and_the_rest_are_numbers(tmp_path: Path) -> None:
    log = TrainingLog(None)
    log.rows = [{"epoch": epoch, "loss": 1.0} for epoch in range(1, 200)]
    log.add({"epoch": 200, "loss": 1.0, "validation_ndcg@10": 0.25}, "")
    log.write(tmp_path / "retriever" / "log.csv")
    column = read_log(tmp_path, "retriever").rows["validation_ndcg@10"]
    assert column.drop_nulls().to_list() == [0.25]


def test_no_training_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(NotTrainedError, match="has no retriever: run `hidvae train --output"):
        read_log(tmp_path, "retriever")
    assert log_file(tmp_path, "retriever") == tmp_path / "retriever" / "log.csv"
