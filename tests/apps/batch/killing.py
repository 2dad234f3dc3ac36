"""A job whose first worker dies; a module of its own, so that Ray's workers can import it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from hidvae.apps.batch.workers import Counts, Job, Work


@dataclass(frozen=True)
class KillsFirstWorker:
    """As ``job``, but the first worker that gets a shard is killed before it has done it."""

    job: Job
    marker: Path

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def columns(self) -> Mapping[str, str]:
        return self.job.columns

    @property
    def made_with(self) -> Mapping[str, Any]:
        return self.job.made_with

    def load(self) -> Work:
        work = self.job.load()

        def killed_once(path: Path) -> tuple[pl.DataFrame, Counts]:
            if not self.marker.exists():
                self.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return work(path)

        return killed_once
