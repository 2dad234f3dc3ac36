"""Which items a training step sets its targets against, where all would be too many."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from hidvae.data.interactions import Sequences


class NegativeSampler(nn.Module):
    """Draws items as often as they occur in training, and says how probably each was drawn.

    A step's alternatives are its own targets and ``count`` further draws. Frequent items stand
    among them more often than they should compete; a softmax over the alternatives is set right
    by taking the log of that probability from each logit.

    Source: sampled softmax (Jean et al., arXiv:1412.2007); the correction for negatives of the same
        batch, Yi et al., Sampling-Bias-Corrected Neural Modeling, RecSys 2019.
    """

    # Whole numbers, so that no precision of the training rounds them.
    occurrences: Tensor
    """(N,), in the training histories."""
    occurrences_up_to: Tensor
    """(N,), of all items up to and with each."""
    times_target: Tensor
    """(N,), occurrences but the first ones of the histories, which are never to be predicted."""

    def __init__(self, histories: Sequences, num_items: int, count: int) -> None:
        """Build.

        Args:
            histories: That the targets come from.
            num_items: N.
            count: Items to draw beside a step's targets.
        """
        super().__init__()
        self.count = count
        occurrences = np.bincount(histories.items, minlength=num_items)
        starts = histories.offsets[:-1][histories.lengths > 0]
        firsts = np.bincount(histories.items[starts], minlength=num_items)
        for name, numbers in (
            ("occurrences", occurrences),
            ("occurrences_up_to", np.cumsum(occurrences)),
            ("times_target", occurrences - firsts),
        ):
            self.register_buffer(name, torch.from_numpy(numbers), persistent=False)
        self._num_occurrences = int(occurrences.sum())
        self._num_targets = self._num_occurrences - len(starts)

    def draw(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """A step's alternatives, ascending and each once, all targets (n,) among them.

        Returns: Items (C,), and (C,) float32 the log of the probability that n targets and
            ``count`` draws hold each.
        """
        place = torch.randint(self._num_occurrences, (self.count,), device=targets.device)
        drawn = torch.searchsorted(self.occurrences_up_to, place, right=True)
        items = torch.cat([targets, drawn]).unique()
        of_draws = self.occurrences[items].double() / self._num_occurrences
        of_targets = self.times_target[items].double() / self._num_targets
        log_missed = self.count * torch.log1p(-of_draws) + len(targets) * torch.log1p(-of_targets)
        return items, torch.log(-torch.expm1(log_missed)).float()
