from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from hidvae.training.prefetch import on_device, one_ahead
from training.fake_streams import fake_streams


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


def numbered(count: int) -> list[tuple[Pair, float]]:
    return [(Pair(torch.full((3,), n), torch.tensor(n)), n / 2) for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_on_the_cpu_nothing_is_copied_and_nothing_is_made_ahead(count: int) -> None:
    batches, asked = numbered(count), []

    def asking() -> Iterator[tuple[Pair, float]]:
        for batch in batches:
            asked.append(batch)
            yield batch

    found = on_device(asking(), torch.device("cpu"))
    for place, (wanted, wanted_weight) in enumerate(batches):
        batch, weight = next(found)
        assert len(asked) == place + 1
        assert isinstance(batch, Pair) and weight == wanted_weight
        assert batch.first is wanted.first and batch.second is wanted.second
    assert next(found, None) is None


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_each_is_begun_before_the_one_in_front_is_handed_out(count: int) -> None:
    events: list[tuple[str, int]] = []

    def begin(value: int) -> int:
        events.append(("begin", value))
        return value

    for value in one_ahead(range(count), begin, lambda value: events.append(("end", value))):
        events.append(("use", value))
    wanted = [("begin", 0)] if count else []
    for value in range(count):
        wanted.append(("end", value))
        wanted += [("begin", value + 1)] if value + 1 < count else []
        wanted.append(("use", value))
    assert events == wanted


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_copied_ahead_they_are_the_same_in_the_same_order(count: int) -> None:
    batches = numbered(count)
    with fake_streams() as pinned:
        found = on_device(iter(batches), torch.device("cpu"))
        for place, (wanted, wanted_weight) in enumerate(batches):
            batch, weight = next(found)
            assert len(pinned) == 2 * min(place + 2, count), "this batch's tensors and the next's"
            assert isinstance(batch, Pair) and weight == wanted_weight
            assert torch.equal(batch.first, wanted.first)
            assert torch.equal(batch.second, wanted.second)
        assert next(found, None) is None
