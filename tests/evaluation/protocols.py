"""A ranker's lists under both history protocols."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hidvae.data.interactions import Sequences
from hidvae.evaluation.metrics import both_protocols
from hidvae.ranking.ranker import Ranker


class Protocols(NamedTuple):
    including: np.ndarray
    excluding: np.ndarray


def protocols(
    ranker: Ranker, histories: Sequences, k: int, allowed: np.ndarray | None = None
) -> Protocols:
    """(U, k) each; scores fall, and stand where there are items."""
    items, scores = ranker.rank(histories, k, None, allowed)
    assert items.shape == scores.shape
    assert ((items < 0) == np.isneginf(scores)).all()
    assert (scores[:, 1:] <= scores[:, :-1]).all()
    return Protocols(*both_protocols(items, histories, k))
