"""Which items a training step sets its targets against, where all would be too many."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


class NegativeSampler(nn.Module):
    """Draws items as often as they occur in training, and says how probably each was drawn.

    A step's alternatives are its own targets and ``count`` further draws. Frequent items stand
    among them more often than they should compete; a softmax over the alternatives is set right
    by taking the log of that probability from each logit.

    Source: sampled softmax (Jean et al., arXiv:1412.2007); the correction for negatives of the same
        batch, Yi et al., Sampling-Bias-Corrected Neural Modeling, RecSys 2019.
    """

    share: Tensor
    """(N,), of all training events."""
    cumulative: Tensor
    """(N,) float64, ending in 1."""

    def __init__(self, item_counts: npt.NDArray[np.integer], count: int) -> None:
        """Build.

        Args:
            item_counts: (N,), how often each item occurs in training; not all 0.
            count: Items to draw beside a step's targets.
        """
        super().__init__()
        self.count = count
        up_to = np.cumsum(item_counts, dtype=np.float64)
        self.register_buffer("share", torch.from_numpy(item_counts / up_to[-1]), persistent=False)
        self.register_buffer("cumulative", torch.from_numpy(up_to / up_to[-1]), persistent=False)

    def draw(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """A step's alternatives, ascending and each once, all targets (n,) among them.

        Returns: Items (C,), and (C,) float32 the log of the probability that n targets and
            ``count`` draws hold each.
        """
        place = torch.rand(self.count, dtype=torch.float64, device=targets.device)
        drawn = torch.searchsorted(self.cumulative, place, right=True)
        items = torch.cat([targets, drawn]).unique()
        missed = (len(targets) + self.count) * torch.log1p(-self.share[items])
        return items, torch.log(-torch.expm1(missed)).float()
