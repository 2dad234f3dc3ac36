"""One job over many shards: what a worker does with a shard, and who the workers are."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl
import torch

from hidvae.apps.batch.shards import (
    check_columns,
    check_output,
    list_shards,
    make_output,
    read_record,
    write_shard,
)
from hidvae.errors import ConfigError
from hidvae.log import in_stage
from hidvae.store.artifacts import fingerprint_file

logger = logging.getLogger("hidvae.apps.batch")

Counts = Mapping[str, int]
Work = Callable[[Path], tuple[pl.DataFrame, Counts]]
"""From an input shard to the rows of the output shard, and what is to be counted."""


@dataclass(frozen=True)
class Workers:
    """Who does the work.

    Raises:
        ConfigError: If a number is out of range.
    """

    number: int | None = None
    """Processes, each with a model of its own. None is one without Ray, and on a Ray cluster as
    many as its CPUs allow."""
    ray: str | None = None
    """None for this process (or, for more than one worker, "local"), "local" for a Ray cluster on
    this machine that ends with the job, or the address of a running one ("auto" finds it)."""
    threads: int = 1
    """Threads of each worker. Results are the same to the bit only for the same number of them."""

    def __post_init__(self) -> None:
        for name, value in (("--workers", self.number), ("--threads", self.threads)):
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected at least 1; found {value}")

    @property
    def uses_ray(self) -> bool:
        """Whether Ray is needed."""
        return self.ray is not None or (self.number or 1) > 1


class Job(Protocol):
    """What is done with each shard; small, as it is sent to every worker in place of a model."""

    @property
    def name(self) -> str:
        """For log lines."""
        ...

    @property
    def columns(self) -> Mapping[str, str]:
        """Columns that an input shard must have, as for ``check_columns``."""
        ...

    @property
    def made_with(self) -> Mapping[str, Any]:
        """All that a result depends on besides the shard; JSON values."""
        ...

    def load(self) -> Work:
        """Read the model from the run's folder."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What became of a shard."""

    shard: str
    counts: Counts
    """What the job counted, "rows" among it."""
    is_new: bool
    """False if the output shard was there already, made from the same."""


class ShardWorker:
    """Makes one output shard after the other; loads the model when the first one needs it."""

    def __init__(self, job: Job, input: Path, output: Path) -> None:
        self._job, self._input, self._output = job, input, output
        self._work: Work | None = None

    def __call__(self, shard: str) -> Outcome:
        """Make the output shard, unless it is there and made from the same.

        Raises:
            HidvaeError: Whatever the job finds wrong with the shard.
        """
        source, target = self._input / shard, self._output / shard
        made_from = {
            "job": self._job.name,
            **self._job.made_with,
            "input": fingerprint_file(source),
        }
        record = read_record(target)
        if record is not None and record.get("made_from") == made_from:
            return Outcome(shard, record["counts"], is_new=False)
        if self._work is None:
            self._work = self._job.load()
        frame, counts = self._work(source)
        counts = {"rows": frame.height, **counts}
        write_shard(frame, target, {"made_from": made_from, "counts": counts})
        return Outcome(shard, counts, is_new=True)


def run_job(
    job: Job, input: Path, output: Path, shards: Sequence[str], workers: Workers
) -> Counter[str]:
    """Do a job on all shards that are not done.

    Args:
        job: What to do.
        input: Folder of the shards, which every worker can read.
        output: Folder for the results, which every worker can write.
        shards: Names in ``input``.
        workers: Who does it.

    Returns: Sums of what the job counted, over all shards, done now or earlier.

    Raises:
        MissingExtraError: If Ray is needed and not installed.
        ServerError: If the Ray cluster cannot be reached, or its workers keep dying.
        HidvaeError: Whatever the job finds wrong with a shard.
    """
    totals: Counter[str] = Counter()
    num_new = 0
    with in_stage(job.name):
        outcomes = _outcomes(job, input.resolve(), output.resolve(), shards, workers)
        for number, outcome in enumerate(outcomes, start=1):
            totals.update(outcome.counts)
            num_new += outcome.is_new
            state = _spoken(outcome.counts) if outcome.is_new else "up to date"
            logger.info("%d of %d, %s: %s", number, len(shards), outcome.shard, state)
        logger.info("%d shards, %d of them new; %s", len(shards), num_new, _spoken(totals))
    return totals


def open_shards(input: Path, output: Path, columns: Mapping[str, str]) -> list[str]:
    """Names of the input shards, their columns checked, with an output folder to write to.

    Raises:
        DataError: If there are none, or one lacks a column or has one of the wrong type.
        ConfigError: If both folders are one.
    """
    shards = list_shards(input)
    for shard in shards:  # before the work, so that a bad one shows in seconds and not in hours
        check_columns(input / shard, columns)
    check_output(output, input, shards)
    make_output(output)
    return shards


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Let PyTorch use so many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _outcomes(
    job: Job, input: Path, output: Path, shards: Sequence[str], workers: Workers
) -> Iterator[Outcome]:
    """What became of each shard, in the order in which they are done."""
    if workers.uses_ray:
        from hidvae.apps.batch.ray_cluster import map_on_ray

        yield from map_on_ray(job, input, output, shards, workers)
        return
    worker = ShardWorker(job, input, output)
    with limited_threads(workers.threads):
        for shard in shards:
            yield worker(shard)


def _spoken(counts: Counts) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
