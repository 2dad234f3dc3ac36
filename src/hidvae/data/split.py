"""Leave-one-out: the last event tests, the second last validates, the rest trains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hidvae.data.interactions import Interactions, Sequences
from hidvae.errors import DataError

MIN_EVENTS = 3
"""Fewest events of a user: one each to train, to validate and to test."""


@dataclass(frozen=True, eq=False)
class Split:
    """Histories and targets of every user; row u is the same user everywhere."""

    train: Sequences
    """All but the last two events of each user."""
    validation_histories: Sequences
    """What a validation target is predicted from; equals ``train``."""
    validation_targets: NDArray[np.int64]
    """(U,) item_index of the second last event."""
    test_histories: Sequences
    """What a test target is predicted from: all but the last event."""
    test_targets: NDArray[np.int64]
    """(U,) item_index of the last event."""


def leave_one_out(interactions: Interactions) -> Split:
    """Split each user's events as P5 and TIGER do.

    What the protocol does not prevent: it cuts each user's events at that user's own end, not at
    one date. Training may therefore hold events of other users that are later than a test event,
    so trends of the future can leak, and numbers are higher than in a live system. An item that a
    user repeats can be both in the history and the target. It does ensure that no training
    history holds its own user's validation or test event.

    Raises:
        DataError: If a user has fewer than three events.
    """
    sequences = interactions.sequences
    if (short := np.flatnonzero(sequences.lengths < MIN_EVENTS)).size:
        first = int(short[0])
        raise DataError(
            f"expected at least {MIN_EVENTS} events per user; found {short.size} users with fewer, "
            f"first {interactions.user_ids[first]!r} with {int(sequences.lengths[first])}; "
            "drop them before the split"
        )
    ends = sequences.offsets[1:]
    train = sequences.without_last(2)
    return Split(
        train=train,
        validation_histories=train,
        validation_targets=sequences.items[ends - 2].astype(np.int64),
        test_histories=sequences.without_last(1),
        test_targets=sequences.items[ends - 1].astype(np.int64),
    )
