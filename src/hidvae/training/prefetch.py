"""Batches on the training device, on a GPU copied while the step before is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

Batch = TypeVar("Batch", bound=tuple[Tensor, ...])
T = TypeVar("T")


def on_device(
    batches: Iterable[tuple[Batch, float]], device: torch.device
) -> Iterator[tuple[Batch, float]]:
    """Batches, which are named tuples of tensors, with their weights, in the order given."""
    if not _has_streams(device):
        return ((_each(batch, lambda t: t.to(device)), weight) for batch, weight in batches)
    stream = torch.cuda.Stream(device)

    def begin(weighed: tuple[Batch, float]) -> tuple[Batch, float]:
        batch, weight = weighed
        with torch.cuda.stream(stream):
            # From pinned memory, or the CPU would wait for the copy.
            return _each(batch, lambda t: t.pin_memory().to(device, non_blocking=True)), weight

    def end(weighed: tuple[Batch, float]) -> None:
        step = torch.cuda.current_stream(device)
        step.wait_stream(stream)
        for tensor in weighed[0]:
            tensor.record_stream(step)  # its memory is not free before the step has read it

    return one_ahead(batches, begin, end)


def one_ahead(
    values: Iterable[T], begin: Callable[[T], T], end: Callable[[T], None]
) -> Iterator[T]:
    """What ``begin`` makes of each value, begun before the one in front of it is handed out.

    Args:
        values: In order.
        begin: Starts work on a value and does not wait for it.
        end: Is called before the value is handed out, to wait.
    """
    begun = map(begin, values)
    following = next(begun, None)
    while following is not None:
        value = following
        end(value)
        following = next(begun, None)
        yield value


def _has_streams(device: torch.device) -> bool:
    """Whether a copy goes on while the device computes."""
    return device.type == "cuda"


def _each(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """A named tuple of the changed tensors."""
    return type(batch)(*(change(tensor) for tensor in batch))
