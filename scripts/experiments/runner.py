"""Rows of settings times seeds, each an ordinary run; a stage that two of them share is made once.

The runs lie under runs/results/DATASET/EXPERIMENT/ and are not repeated: delete that folder after a
change to the code.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hidvae.config import Config, load_config
from hidvae.run.run import Run
from hidvae.store.artifacts import describe_machine, git_commit

RUNS = Path("runs/results")
DEFAULT: Mapping[str, Sequence[str]] = {"default": ()}
"""One row, with no setting of its own."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    data: Path
    """Folder of raw tables."""
    num_seeds: int = 3
    """Of every row, from 0 on."""
    files: Sequence[Path] = ()
    """Gin files of every row."""
    overrides: Sequence[str] = ()
    """Settings of every row."""
    num_jobs: int = 1
    """Runs that are made side by side."""
    baselines: tuple[str, ...] = ("all",)
    """Of the final and cold rows."""
    sources: tuple[str, ...] = ("majority", "neighbours", "clusters")
    """Of tags."""


@dataclass(frozen=True)
class Trial:
    """One row with one seed."""

    config: Config
    path: Path
    until: str | None = field(default=None)
    """Command of the last stage; None makes all."""

    def make(self) -> None:
        """Make what is missing; stages with the same settings and inputs are copied."""
        others = [run for run in sorted(RUNS.glob("*/*/*/")) if run != self.path]
        Run(self.path).make(self.config, reuse=others, until=self.until)


def make_runs(
    name: str,
    request: Request,
    rows: Mapping[str, Sequence[str]] = DEFAULT,
    *,
    until: str | None = None,
    bindings: Mapping[int, Sequence[str]] | None = None,
    data: Path | None = None,
) -> dict[str, list[Trial]]:
    """Make the runs of an experiment, seed by seed.

    Args:
        name: Of the experiment.
        request: Data, seeds, settings of every row.
        rows: Row -> its settings.
        until: Command of the last stage; None makes all.
        bindings: Seed -> further settings of its runs, which win over those of the row.
        data: Folder of the tables where it is not the request's.

    Returns:
        Row -> its runs by seed.
    """
    runs: dict[str, list[Trial]] = {row: [] for row in rows}
    for seed in range(request.num_seeds):
        for row, settings in rows.items():
            config = load_config(
                request.files,
                [
                    *request.overrides,
                    *settings,
                    f"DatasetConfig.folder={data or request.data}",
                    f"RunConfig.seed={seed}",
                    *(bindings or {}).get(seed, ()),
                ],
            )
            path = RUNS / request.data.name / name / f"{_slug(row)}-seed-{seed}"
            runs[row].append(Trial(config, path, until))
    by_seed = [run for of_seed in zip(*runs.values(), strict=True) for run in of_seed]
    if request.num_jobs > 1:
        _make_side_by_side(by_seed, request.num_jobs)
    for run in by_seed:
        run.make()
    return runs


def public_settings(config: Config, data: Path) -> dict[str, Any]:
    """All settings as JSON, without the place of the data."""
    settings = config.to_json()
    settings["dataset"]["folder"] = data.name  # where it lies is nobody's business
    return settings


def made_here() -> dict[str, Any]:
    """Machine and commit of this process."""
    return {"machine": describe_machine(), "git_commit": git_commit()}


def start_log() -> None:
    """Log of this process to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")


def _make_side_by_side(runs: Sequence[Trial], num_jobs: int) -> None:
    """Make all, several at a time; the first alone, as all share stages.

    Each is a process of its own, started afresh: a forked one could not use a GPU.
    """
    runs[0].make()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_jobs, mp_context=context, initializer=start_log) as pool:
        for waiting in [pool.submit(run.make) for run in runs[1:]]:
            waiting.result()


def _slug(row: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in row).split())
