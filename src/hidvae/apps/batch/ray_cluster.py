"""The shards of a job on the workers of a Ray cluster, by Ray Data."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from hidvae import errors
from hidvae.apps.batch.shards import UNFINISHED
from hidvae.apps.batch.workers import Job, Outcome, ShardWorker, Workers

MOST_TRIES = 5
"""Workers that may die over one shard; Ray itself would go on for ever."""
_SECONDS_TO_ANSWER = 10.0
_OBJECT_STORE_BYTES = 128 * 2**20
"""For a cluster of our own; only names and counts pass through it."""


def map_on_ray(
    job: Job, input: Path, output: Path, shards: Sequence[str], workers: Workers
) -> Iterator[Outcome]:
    """What became of each shard, in the order in which they are done.

    A worker is a Ray actor that loads the model once. When one dies, by a signal, for want of
    memory or with its machine, Ray Data starts another and gives it the shard that was under way.

    Raises:
        MissingExtraError: If Ray is not installed.
        ServerError: If the cluster cannot be reached, or a shard's workers keep dying.
        HidvaeError: Whatever the job finds wrong with a shard.
    """
    ray = _import_ray()
    with _cluster(ray, workers), _quiet(logging.getLogger("ray.data")):
        number = workers.number or int(ray.cluster_resources().get("CPU", 1)) // workers.threads
        number = max(1, min(number, len(shards)))
        names = ray.data.from_items(
            [{"shard": shard} for shard in shards], override_num_blocks=len(shards)
        )
        names.context.enable_progress_bars = False  # the job logs every shard
        done = names.map(
            _RayWorker,
            fn_constructor_args=(job, input, output, workers.threads),
            compute=ray.data.ActorPoolStrategy(size=number, max_tasks_in_flight_per_actor=1),
            num_cpus=workers.threads,
            runtime_env={"env_vars": _thread_limits(workers.threads)},
        )
        try:
            for row in done.iter_rows():
                yield _outcome(row)
        except ray.exceptions.RayTaskError:
            raise  # a mistake in the code, to be seen with its traceback
        except ray.exceptions.RayError as error:
            raise errors.ServerError(
                f"the Ray cluster failed ({_last_line(error)}); see that its machines are up and "
                "have this package, and run the same command again (finished shards stay)"
            ) from error


class _RayWorker:
    """A ``ShardWorker`` whose errors travel as rows, so that the user gets their one line."""

    def __init__(self, job: Job, input: Path, output: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._worker = ShardWorker(job, input, output)
        self._output = output

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            with _counted_tries(self._output, row["shard"]):
                outcome = dataclasses.asdict(self._worker(row["shard"]))
        except errors.HidvaeError as error:
            # The nearest public class: a more special one may be made from more than a message.
            public = next(kind for kind in type(error).__mro__ if hasattr(errors, kind.__name__))
            outcome = {"error": public.__name__, "message": str(error)}
        except OSError as error:
            message = f"{error.filename or row['shard']}: {error.strerror or error}; check the path"
            outcome = {"error": "ArtifactError", "message": message}
        return {"outcome": json.dumps(outcome)}


@contextmanager
def _counted_tries(output: Path, shard: str) -> Iterator[None]:
    """Note a try on disk, where it outlives the worker, until the block ends with or without error.

    Raises:
        ServerError: If too many workers died over this shard.
    """
    tries = output / f".{shard}.tries{UNFINISHED}"
    with tries.open("ab") as file:
        file.write(b".")
    if tries.stat().st_size > MOST_TRIES:
        raise errors.ServerError(
            f"{shard}: expected a worker to live through it; found {MOST_TRIES} that died; give "
            "workers more memory, or split the shard, and run the same command again (finished "
            "shards stay)"
        )
    try:
        yield
    finally:
        tries.unlink(missing_ok=True)


def _outcome(row: dict[str, Any]) -> Outcome:
    outcome = json.loads(row["outcome"])
    if "error" in outcome:
        raise getattr(errors, outcome["error"])(outcome["message"])
    return Outcome(**outcome)


@contextmanager
def _cluster(ray: Any, workers: Workers) -> Iterator[None]:
    """The cluster that this process is connected to, else the one that is asked for."""
    if ray.is_initialized():
        yield
        return
    address = workers.ray or "local"
    settings: dict[str, Any] = {"address": address}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters is raised
        settings["num_cpus"] = workers.number and workers.number * workers.threads
        settings["object_store_memory"] = _OBJECT_STORE_BYTES
        settings["include_dashboard"] = False
    try:
        _knock(address)
        ray.init(**settings, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise errors.ServerError(
            f"--ray {address}: expected a Ray cluster to work on; {_last_line(error)}; start one "
            "with `ray start --head`, or use --ray local"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_ANSWER).close()


@contextmanager
def _quiet(noisy: logging.Logger) -> Iterator[None]:
    """Nothing below an error from this logger within the block; the job has its own lines."""
    before = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        yield
    finally:
        noisy.setLevel(before)


def _import_ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise errors.MissingExtraError(
            'several workers need Ray, which is not installed; run pip install "hidvae[ray]", or '
            "leave out --ray and --workers"
        ) from error
    return ray


def _thread_limits(threads: int) -> dict[str, str]:
    """For the libraries that read it from the environment when they are imported."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    return dict.fromkeys(names, str(threads))


def _last_line(error: Exception) -> str:
    """Of what Ray says, which may be a traceback."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip(" .")
