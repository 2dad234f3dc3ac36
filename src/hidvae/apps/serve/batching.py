"""Micro-batching: requests that wait at the same time are searched together.

The model runs in one thread; while it works on a batch, the next one gathers. The event loop never
waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

from hidvae.ranking.explain import Recommendation
from hidvae.ranking.filters import Filters
from hidvae.ranking.recommender import Recommender

T = TypeVar("T")

logger = logging.getLogger(__name__)


class TooBusy(Exception):
    """More requests wait than the server accepts."""


@dataclass(frozen=True)
class BatchKey:
    """What lists have in common that can be searched in one batch."""

    recommender: Recommender  # compared by identity
    k: int
    exclude_history: bool
    filters: Filters
    beam_width: int | None


@dataclass(eq=False)
class _Waiting:
    key: BatchKey
    history: list[str]
    deadline: float
    """Of ``time.monotonic()``."""
    answer: asyncio.Future[list[Recommendation]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Batcher:
    """Gathers histories and searches those of one key together."""

    def __init__(
        self,
        executor: Executor,
        *,
        max_batch: int = 64,
        max_wait_seconds: float = 0.002,
        max_waiting: int = 1024,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        """Set the limits.

        Args:
            executor: Of one thread, in which the model runs.
            max_batch: Most histories of a search.
            max_wait_seconds: How long the first of a batch waits for others.
            max_waiting: Most histories that may wait.
            on_batch: Told the size of each batch and how many seconds its search took.
        """
        self.max_batch = max_batch
        self.max_wait_seconds = max_wait_seconds
        self.max_waiting = max_waiting
        self._executor = executor
        self._on_batch = on_batch
        self._waiting: deque[_Waiting] = deque()
        self._num_alone = 0
        self._has_waiting = asyncio.Event()
        self._is_full = asyncio.Event()

    @property
    def num_waiting(self) -> int:
        """Histories that no search has taken yet, and calls that are not done."""
        return len(self._waiting) + self._num_alone

    def check(self, num_more: int = 1) -> None:
        """Whether so many further histories may wait.

        Raises:
            TooBusy: If not.
        """
        if self.num_waiting + num_more > self.max_waiting:
            raise TooBusy(f"{self.num_waiting} histories wait already; try again in a second")

    async def recommend(
        self, key: BatchKey, histories: list[list[str]], deadline: float = math.inf
    ) -> list[list[Recommendation]]:
        """A list for each history of at least one item.

        A search ends when the last deadline of those in its batch has passed.

        Raises:
            TooBusy: If too many wait already.
            DataError, ConfigError, SearchTimeout: As ``Recommender.recommend``.
        """
        self.check(len(histories))
        entries = [_Waiting(key, history, deadline) for history in histories]
        self._waiting.extend(entries)
        self._has_waiting.set()
        if len(self._waiting) >= self.max_batch:
            self._is_full.set()
        # A request that gives up cancels its futures, and the search skips them.
        answers = await asyncio.gather(*(entry.answer for entry in entries), return_exceptions=True)
        lists = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            lists.append(answer)
        return lists

    async def alone(self, call: Callable[[], T]) -> T:
        """Call in the model's thread, between two batches; counts as a history that waits.

        Raises:
            TooBusy: If too many wait already.
        """
        self.check()
        self._num_alone += 1
        try:
            # A request that gives up cancels the call, unless it has begun.
            return await asyncio.get_running_loop().run_in_executor(self._executor, call)
        finally:
            self._num_alone -= 1

    async def run(self) -> None:
        """Search batch after batch, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._has_waiting.wait()
            self._is_full.clear()
            if len(self._waiting) < self.max_batch:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._is_full.wait(), self.max_wait_seconds)
            batch = self._take()
            if not batch:
                continue
            started = time.perf_counter()
            try:
                lists = await loop.run_in_executor(self._executor, _search, batch)
            except Exception as error:
                for entry in batch:
                    if not entry.answer.done():
                        entry.answer.set_exception(error)
                continue
            self._on_batch(len(batch), time.perf_counter() - started)
            for entry, found in zip(batch, lists, strict=True):
                if not entry.answer.done():
                    entry.answer.set_result(found)

    def _take(self) -> list[_Waiting]:
        """The oldest entry and those behind it with the same key; others keep their place."""
        batch: list[_Waiting] = []
        left: deque[_Waiting] = deque()
        for entry in self._waiting:
            if entry.answer.done():
                continue
            if len(batch) < self.max_batch and (not batch or entry.key == batch[0].key):
                batch.append(entry)
            else:
                left.append(entry)
        self._waiting = left
        if not left:
            self._has_waiting.clear()
        return batch


def _search(batch: list[_Waiting]) -> list[list[Recommendation]]:
    key = batch[0].key
    return key.recommender.recommend_many(
        [entry.history for entry in batch],
        key.k,
        exclude_history=key.exclude_history,
        filters=key.filters,
        beam_width=key.beam_width,
        deadline=max(entry.deadline for entry in batch),
    )
