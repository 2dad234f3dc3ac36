"""One line per epoch: to the log, to a CSV file that other programs can follow, to loggers."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import Logger

from hidvae.store.files import atomic_write
from hidvae.training.loggers import log_epoch

LOG = "log.csv"

logger = logging.getLogger("hidvae.training")


class TrainingLog:
    """Rows of numbers, one per epoch, kept in memory and in a CSV file.

    The rows travel in the checkpoint (``rows``), so a resumed training continues the same table.
    """

    def __init__(self, file: Path | None) -> None:
        """Begin without rows; without a file, they are kept in memory alone."""
        self.rows: list[dict[str, Any]] = []
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
        logger.info(message)

    def write(self, file: Path) -> None:
        """Write all rows, with the columns of any; a reader never sees half a file."""
        file.parent.mkdir(parents=True, exist_ok=True)
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        with (
            atomic_write(file) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as handle,
        ):
            writer = csv.DictWriter(handle, columns)
            writer.writeheader()
            writer.writerows(self.rows)


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
