"""Dropout whose mask costs one random byte per element on the CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """Like ``nn.Dropout``, but several times faster on the CPU.

    There, the random numbers of ``nn.Dropout`` cost more than the layer they follow. This draws 64
    random bits for eight elements and compares bytes, so the rate is rounded to 1/256 (and the
    scale fits the rounded rate). On other devices it is ``nn.Dropout``.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Zero elements of x at ``rate`` and scale the rest, in training only."""
        if not self.training or self.rate == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate)
        threshold = round(self.rate * 256)
        if threshold == 0:
            return x
        if threshold == 256:
            return torch.zeros_like(x)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64)
        words.random_(-(2**63), None)  # all 64 bits, where random_() would leave the sign bit 0
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= threshold
        return x * kept.to(x.dtype).mul_(256 / (256 - threshold))

    def extra_repr(self) -> str:
        """The rate, for ``print(model)``."""
        return f"rate={self.rate}"
