"""Pretends that the CPU copies like a GPU: nothing has arrived until somebody waits for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from hidvae.training import prefetch


class FakeStream:
    """Copies that were begun and that nobody has waited for."""

    def __init__(self, device: torch.device) -> None:
        self.begun: list[tuple[Tensor, Tensor]] = []

    def wait_stream(self, other: FakeStream) -> None:
        for arrived, source in other.begun:
            arrived.copy_(source)
        other.begun.clear()


@contextlib.contextmanager
def fake_streams() -> Iterator[list[Tensor]]:
    """Inside, ``on_device`` copies one batch ahead; yields the tensors that were pinned."""
    step, current, pinned = FakeStream(torch.device("cpu")), [], []

    @contextlib.contextmanager
    def stream(inner: FakeStream) -> Iterator[None]:
        current.append(inner)
        yield
        current.pop()

    def pin_memory(tensor: Tensor) -> Tensor:
        pinned.append(tensor)
        arriving = torch.full_like(tensor, -99)
        current[-1].begun.append((arriving, tensor))
        return arriving

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefetch, "_has_streams", lambda device: True)
        patch.setattr(torch.cuda, "Stream", FakeStream)
        patch.setattr(torch.cuda, "stream", stream)
        patch.setattr(torch.cuda, "current_stream", lambda device: step)
        patch.setattr(Tensor, "pin_memory", pin_memory)
        patch.setattr(Tensor, "record_stream", lambda tensor, stream: None)
        yield pinned
