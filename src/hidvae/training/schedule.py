"""Learning rate as a function of the step alone, so that resuming needs no scheduler state."""

from __future__ import annotations

import math


def warmup_cosine(step: int, total_steps: int, warmup_steps: int = 0, floor: float = 0.01) -> float:
    """Factor on the peak learning rate: linear warm-up, then cosine decay to ``floor``.

    Args:
        step: From 0.
        total_steps: Steps of the whole training; later steps stay at the floor.
        warmup_steps: Steps until the factor is 1; at most half of ``total_steps`` is used.
        floor: Last factor, in [0, 1].
    """
    warmup_steps = min(warmup_steps, total_steps // 2)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
