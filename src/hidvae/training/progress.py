"""One line per epoch: to the log, to a CSV file that other programs can follow, to loggers."""

from __future__ import annotations

import csv
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import Logger

from hidvae.errors import TrainingError
from hidvae.training.loggers import log_epoch


class TrainingLog:
    """Rows of numbers, one per epoch, kept in memory and in a CSV file.

    The rows travel in the checkpoint (``rows``), so a resumed training continues the same table.
    """

    def __init__(
        self, stage: str, file: Path | None, rows: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Begin with some rows; without a file, they are kept in memory alone."""
        self.rows: list[dict[str, Any]] = [dict(row) for row in rows]
        self._logger = logging.getLogger(f"hidvae.{stage}")
        self._file = file
        self.loggers: list[Logger] = []
        """Further places for the rows to come."""

    @property
    def logger_versions(self) -> dict[str, str]:
        """What each logger calls this training, for the checkpoint."""
        return {str(one.name): str(one.version) for one in self.loggers}

    def add(self, row: Mapping[str, Any], message: str) -> None:
        """Append a row, rewrite the CSV file, and log ``message``."""
        self.rows.append(dict(row))
        if self._file is not None:
            self.write(self._file)
        log_epoch(self.loggers, row)
        self._logger.info(message)

    def write(self, file: Path) -> None:
        """Write all rows, with the columns of any; a reader never sees half a file."""
        file.parent.mkdir(parents=True, exist_ok=True)
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        temporary = file.with_name(f"{file.name}.writing")
        with temporary.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(temporary, file)


def check_finite(loss: float, learning_rate_key: str) -> None:
    """Stop a training whose loss is no number any more.

    Raises:
        TrainingError: Names the setting to lower.
    """
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss became {loss}: the training has diverged; lower {learning_rate_key} and run "
            "the command again (delete the checkpoint folder beside the stage first)"
        )


class Stopwatch:
    """Wall time of this process's part of a stage, and whether a period has passed."""

    def __init__(self, seconds_before: float = 0.0) -> None:
        self._started = time.perf_counter() - seconds_before
        self._last = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall seconds, those of earlier, resumed attempts included."""
        return time.perf_counter() - self._started

    def is_due(self, period_seconds: float) -> bool:
        """Whether ``period_seconds`` have passed since the last time this said yes."""
        now = time.perf_counter()
        if now - self._last < period_seconds:
            return False
        self._last = now
        return True
