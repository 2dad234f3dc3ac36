"""A server under load, while items come and go and the model is loaded anew.

    python benchmarks/bench_serve.py --run runs/results/amazon-beauty-2014/final/default-seed-0
    python benchmarks/bench_serve.py                                      # the demo catalogue

``hidvae serve`` answers from a copy of the run in a process of its own. First clients ask as fast
as they get answers: how many requests a second it can do. Then requests come at random moments,
``--rate`` a second whether or not earlier ones are answered, for ``--seconds``; an answer's time
counts from the moment at which its request was due. Meanwhile an item is added, or the last one
removed, every few seconds, and every now and then the run looks as if it had been trained again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import torch
from bench_run import DEMO, QUICK
from harness import Bar, argument_parser, print_table, report, set_threads

from hidvae.config import load_config
from hidvae.data.prepare import load_dataset
from hidvae.run.run import Run
from hidvae.store.artifacts import MANIFEST, read_stage

K, BEAMS = 10, 50
CHANGE_SECONDS, RELOAD_SECONDS = 3.0, 20.0
TOKEN = "of the benchmark"
MIN_RATE, MAX_P99_MS = 100.0, 250.0


@dataclass
class Answers:
    """What came back."""

    seconds: list[float] = field(default_factory=list)
    """Of each answer."""
    statuses: Counter[str] = field(default_factory=Counter)
    versions: set[int] = field(default_factory=set)
    started: float = field(default_factory=time.perf_counter)
    took: float = 0.0
    """Seconds until the last answer."""

    @property
    def errors(self) -> int:
        """Requests without a good answer."""
        return self.statuses.total() - self.statuses["200"]

    def as_row(self) -> dict[str, float]:
        """Rates and percentiles."""
        p50, p95, p99, most = 1000 * np.percentile(self.seconds, [50, 95, 99, 100])
        return {
            "requests": self.statuses.total(),
            "requests_per_second": len(self.seconds) / self.took,
            "p50_ms": float(p50),
            "p95_ms": float(p95),
            "p99_ms": float(p99),
            "max_ms": float(most),
            "errors": self.errors,
        }


class Load:
    """Asks a server for the next items of real users."""

    def __init__(self, client: aiohttp.ClientSession, histories: list[list[str]]) -> None:
        self.client = client
        self.histories = histories
        self.draw = np.random.default_rng(0)

    async def ask(self, answers: Answers, due: float) -> None:
        """One request that was due at some moment."""
        history = self.histories[self.draw.integers(len(self.histories))]
        body = {"users": [{"history": history}], "k": K, "beam_width": BEAMS}
        try:
            async with self.client.post("/recommend", json=body) as response:
                found = await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            answers.statuses[type(error).__name__] += 1
            return
        answers.statuses[str(response.status)] += 1
        if response.status == 200:
            assert len(found["results"][0]["items"]) == K
            answers.versions.add(found["version"])
        answers.seconds.append(time.perf_counter() - due)
        answers.took = time.perf_counter() - answers.started

    async def as_fast_as_it_goes(self, num_clients: int, seconds: float) -> Answers:
        """Each client asks again when it has its answer."""
        answers = Answers()

        async def keep_asking() -> None:
            while time.perf_counter() < answers.started + seconds:
                await self.ask(answers, time.perf_counter())

        await asyncio.gather(*(keep_asking() for _ in range(num_clients)))
        return answers

    async def at_a_rate(self, rate: float, seconds: float) -> Answers:
        """Requests at random moments, so many a second in the mean."""
        gaps = self.draw.exponential(1 / rate, size=int(rate * seconds))
        answers = Answers()
        async with asyncio.TaskGroup() as tasks:
            for due in answers.started + np.cumsum(gaps):
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.create_task(self.ask(answers, due))
        return answers


async def change_items(
    client: aiohttp.ClientSession, made: Counter[str], every: float, count: int = 1_000_000
) -> None:
    """Add an item, remove it, and so on."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for number in range(count):
        await asyncio.sleep(every)
        item_id = f"bench-{number // 2}"
        if number % 2 == 0:
            item = {"item_id": item_id, "title": f"brush of soft hair, number {number}"}
            request = client.post("/items", json={"items": [item]}, headers=headers)
        else:
            request = client.delete(f"/items/{item_id}", headers=headers)
        async with request as response:
            made["changes" if response.status == 200 else "failed changes"] += 1


async def train_again(run: Path, made: Counter[str], every: float) -> None:
    """Have the run look as if its retriever had been written anew; without end."""
    manifest = run / "retriever" / MANIFEST
    while True:
        await asyncio.sleep(every)
        copy = manifest.with_suffix(".copy")
        shutil.copyfile(manifest, copy)
        os.replace(copy, manifest)
        made["swaps"] += 1


@contextlib.contextmanager
def serving(run: Path, threads: int) -> Iterator[str]:
    """A server of a run, by its address."""
    command = [sys.executable, "-m", "hidvae", "serve", str(run), "--port", "0"]
    command += ["--threads", str(threads)]
    env = {**os.environ, "HIDVAE_TOKEN": TOKEN}
    with (
        (run.parent / "server.log").open("w+") as log,
        subprocess.Popen(command, env=env, stderr=log) as server,
    ):
        try:
            while not (found := re.search(r"on (http://\S+)", _text(run.parent / "server.log"))):
                if server.poll() is not None:
                    raise SystemExit(_text(run.parent / "server.log"))
                time.sleep(0.1)
            yield found[1]
        finally:
            server.terminate()
            server.wait()
            warnings = [
                line for line in _text(run.parent / "server.log").splitlines() if " failed" in line
            ]
            print("\n".join(warnings[:10]), end="\n" if warnings else "")


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


async def load(url: str, run: Path, arguments: Any) -> dict[str, Any]:
    """All of it against one server."""
    dataset = load_dataset(read_stage(run / "dataset", produced_by="hidvae prepare"))
    item_ids, of_users = dataset.catalogue.item_ids, dataset.split.test_histories
    histories = [[item_ids[item] for item in of_users[u].tolist()] for u in range(len(of_users))]
    made: Counter[str] = Counter()
    connector = aiohttp.TCPConnector(limit=0)  # as many connections as there are open requests
    timeout = aiohttp.ClientTimeout(total=70)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as client:
        asking = Load(client, histories)
        await change_items(client, Counter(), 0.0, count=2)  # waits for the text encoder
        await asking.as_fast_as_it_goes(arguments.clients, arguments.seconds / 10)  # warms up
        fast = await asking.as_fast_as_it_goes(arguments.clients, arguments.seconds / 5)
        pace = arguments.seconds / 300 if arguments.quick else 1.0
        meanwhile = [
            asyncio.create_task(change_items(client, made, CHANGE_SECONDS * pace)),
            asyncio.create_task(train_again(run, made, RELOAD_SECONDS * pace)),
        ]
        answers = await asking.at_a_rate(arguments.rate, arguments.seconds)
        for task in meanwhile:
            task.cancel()
        await asyncio.gather(*meanwhile, return_exceptions=True)
        async with client.get("/metrics") as response:
            metrics = await response.text()
    taken_up = re.search(r'hidvae_reloads_total\{outcome="taken up"\} (\S+)', metrics)
    return {
        "as_fast_as_it_goes": {"clients": arguments.clients, **fast.as_row()},
        "at_a_rate": {"asked_per_second": arguments.rate, **answers.as_row()},
        "statuses": dict(answers.statuses + fast.statuses),
        "versions_seen": len(answers.versions),
        "changes": made["changes"],
        "failed_changes": made["failed changes"],
        "swaps": int(float(taken_up[1])) if taken_up else 0,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Serve, ask, report."""
    parser = argument_parser(__doc__)
    parser.add_argument("--run", type=Path, help="folder of a trained run; the demo by default")
    parser.add_argument("--rate", type=float, default=110.0, help="requests a second")
    parser.add_argument("--clients", type=int, default=16, help="who ask as fast as it goes")
    parser.add_argument("--seconds", type=float, help="at that rate; 300, or 3 with --quick")
    arguments = parser.parse_args(argv)
    arguments.seconds = arguments.seconds or (3.0 if arguments.quick else 300.0)
    arguments.threads = arguments.threads or max(1, torch.get_num_threads() // 2)  # its default
    set_threads(arguments)  # only so that the section names them
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        if arguments.run:
            shutil.copytree(arguments.run, run)
        else:
            settings = ["RunConfig.device=cpu", *(QUICK if arguments.quick else [])]
            Run(run).make(load_config([DEMO], settings))
        with serving(run, arguments.threads) as url:
            found = asyncio.run(load(url, run, arguments))
    rows = [{"": name, **found[name]} for name in ("as_fast_as_it_goes", "at_a_rate")]
    shown = ("", *(key for key in rows[1] if key in rows[0] and key))
    print_table([{key: row[key] for key in shown} for row in rows])
    print({key: value for key, value in found.items() if not isinstance(value, dict)})
    at_rate = found["at_a_rate"]
    bars = [
        Bar("requests_per_second", at_rate["requests_per_second"], MIN_RATE, is_minimum=True),
        Bar("p99_ms", at_rate["p99_ms"], MAX_P99_MS),
        Bar("errors", float(at_rate["errors"] + found["failed_changes"]), 0.0),
    ]
    name = arguments.run.resolve().name if arguments.run else "demo"
    report("serve", arguments, {"run": name, "seconds": arguments.seconds, **found}, bars)


if __name__ == "__main__":
    main()
