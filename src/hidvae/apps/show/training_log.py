"""A training's log, finished or still growing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hidvae.errors import NotTrainedError
from hidvae.store.artifacts import MANIFEST

LOG = "log.csv"
TRAINED_BY = {"tokenizer": "hidvae tokenize", "retriever": "hidvae train"}
"""Stage folders with a training -> the command that makes them."""


@dataclass(frozen=True)
class StageLog:
    """What ``log.csv`` of a stage holds."""

    stage: str
    rows: pl.DataFrame
    """A row per epoch; a number that an epoch lacks is null."""
    is_running: bool
    """Whether it is read from beside a checkpoint: the training has not ended."""

    @property
    def state(self) -> str:
        """``finished``, or that it is not."""
        return "training has not ended" if self.is_running else "finished"


def log_file(run: Path, stage: str) -> Path:
    """The log of the latest training of a stage: beside its checkpoint while that is there."""
    running = run / f".{stage}.checkpoint" / LOG
    return running if running.is_file() else run / stage / LOG


def read_log(run: Path, stage: str) -> StageLog:
    """The log of the latest training of a stage.

    Raises:
        NotTrainedError: If there is none.
    """
    file = log_file(run, stage)
    try:
        rows = pl.read_csv(file, glob=False, infer_schema_length=None)
    except FileNotFoundError as error:  # also: it ended at this moment, and the next look finds it
        if (file.parent / MANIFEST).is_file():
            raise NotTrainedError(
                f"{file.parent} has no log: its semantic IDs were taken from a file, or there was "
                "nothing to learn from"
            ) from error
        raise NotTrainedError(
            f"{run} has no {stage}: run `{TRAINED_BY[stage]} --output {run}` first"
        ) from error
    return StageLog(stage, rows, is_running=file.parent.name != stage)
