"""Requests that wait together are searched together, and do not disturb each other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hidvae.apps.serve.batching import Batcher, BatchKey, TooBusy
from hidvae.errors import DataError
from hidvae.ranking.filters import Filters


class Slow:
    """A recommender that answers with its histories, once it may."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, list[list[str]]]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def recommend_many(self, histories: list[list[str]], k: int, **_: Any) -> list[Any]:
        self.batches.append((k, histories))
        assert self.may_answer.wait(10)
        if ["wrong"] in histories:
            raise DataError("a wrong history")
        return [[f"{k} after {history[0]}"] for history in histories]


def key(recommender: Slow, k: int = 1) -> BatchKey:
    return BatchKey(recommender, k, True, Filters(), None)  # type: ignore[arg-type]


def with_batcher(
    test: Callable[[Batcher, Slow], Coroutine[Any, Any, None]], **limits: Any
) -> list[tuple[int, list[list[str]]]]:
    """Run a test beside a batcher; the batches that were searched."""
    slow = Slow()

    async def run() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(executor, **limits)
            task = asyncio.create_task(batcher.run())
            try:
                await asyncio.wait_for(test(batcher, slow), 20)
            finally:
                slow.may_answer.set()
                task.cancel()

    asyncio.run(run())
    return slow.batches


def test_what_comes_within_the_wait_is_one_batch_and_everybody_has_their_own_answer() -> None:
    async def test(batcher: Batcher, slow: Slow) -> None:
        asked = (batcher.recommend(key(slow), [[str(n)], [f"{n}b"]]) for n in range(5))
        for n, answer in enumerate(await asyncio.gather(*asked)):
            assert answer == [[f"1 after {n}"], [f"1 after {n}b"]]

    batches = with_batcher(test, max_wait_seconds=0.2)
    assert [len(histories) for _, histories in batches] == [10]


def test_while_a_search_runs_the_next_batch_gathers() -> None:
    async def test(batcher: Batcher, slow: Slow) -> None:
        slow.may_answer.clear()
        tasks = []
        for n in range(6):
            tasks.append(asyncio.create_task(batcher.recommend(key(slow), [[str(n)]])))
            while n == 0 and not slow.batches:
                await asyncio.sleep(0.001)
        slow.may_answer.set()
        await asyncio.gather(*tasks)

    batches = with_batcher(test, max_wait_seconds=0.0)
    assert [len(histories) for _, histories in batches] == [1, 5]


def test_no_batch_is_larger_than_allowed_and_a_full_one_does_not_wait() -> None:
    async def test(batcher: Batcher, slow: Slow) -> None:
        await batcher.recommend(key(slow), [[str(n)] for n in range(9)])

    batches = with_batcher(test, max_batch=3, max_wait_seconds=5.0)  # 20 s would be over
    assert [len(histories) for _, histories in batches] == [3, 3, 3]


def test_different_keys_are_not_mixed_and_the_oldest_comes_first() -> None:
    async def test(batcher: Batcher, slow: Slow) -> None:
        ks = [1, 2, 1, 3, 2]
        answers = await asyncio.gather(
            *(batcher.recommend(key(slow, k), [[str(n)]]) for n, k in enumerate(ks))
        )
        assert answers == [[[f"{k} after {n}"]] for n, k in enumerate(ks)]

    batches = with_batcher(test, max_wait_seconds=0.05)
    assert batches == [(1, [["0"], ["2"]]), (2, [["1"], ["4"]]), (3, [["3"]])]


def test_a_failure_is_that_of_its_batch_alone_and_the_batcher_goes_on() -> None:
    async def test(batcher: Batcher, slow: Slow) -> None:
        wrong, right = await asyncio.gather(
            batcher.recommend(key(slow, 1), [["wrong"], ["other"]]),
            batcher.recommend(key(slow, 2), [["right"]]),
            return_exceptions=True,
        )
        assert isinstance(wrong, DataError)
        assert right == [["2 after right"]]
        assert await batcher.recommend(key(slow, 1), [["later"]]) == [["1 after later"]]

    with_batcher(test)


def test_who_gave_up_is_not_searched_for() -> None:
    async def test(batcher: Batcher, slow: Slow) -> None:
        slow.may_answer.clear()
        first = asyncio.create_task(batcher.recommend(key(slow), [["first"]]))
        while not slow.batches:
            await asyncio.sleep(0.001)
        gone = asyncio.create_task(batcher.recommend(key(slow), [["gone"]]))
        stays = asyncio.create_task(batcher.recommend(key(slow), [["stays"]]))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        slow.may_answer.set()
        assert await first == [["1 after first"]] and await stays == [["1 after stays"]]

    batches = with_batcher(test)
    assert batches == [(1, [["first"]]), (1, [["stays"]])]


def test_more_than_may_wait_are_refused() -> None:
    async def test(batcher: Batcher, slow: Slow) -> None:
        slow.may_answer.clear()
        first = asyncio.create_task(batcher.recommend(key(slow), [["first"]]))
        while not slow.batches:
            await asyncio.sleep(0.001)
        waits = asyncio.create_task(batcher.recommend(key(slow), [["a"], ["b"]]))
        await asyncio.sleep(0.01)
        batcher.check(1)
        with pytest.raises(TooBusy, match="2 histories wait"):
            batcher.check(2)
        with pytest.raises(TooBusy):
            await batcher.recommend(key(slow), [["c"], ["d"]])
        slow.may_answer.set()
        assert len(await first) == 1 and len(await waits) == 2
        batcher.check(3)

    with_batcher(test, max_waiting=3)


def test_nobody_asks_for_nothing() -> None:
    async def test(batcher: Batcher, slow: Slow) -> None:
        assert await batcher.recommend(key(slow), []) == []

    assert with_batcher(test) == []
