"""How the log is cut: leave-one-out, or by held-out items that only the test asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hidvae.data.interactions import Sequences
from hidvae.errors import DataError

MIN_EVENTS = 3
"""Fewest events of a user who is tested: one each to train, to validate and to test."""
MIN_WARM_EVENTS = 2
"""Warm events that a cold test event needs before it: one to validate, one to predict that from."""


TRAIN, VALIDATION, TEST, LEFT_OUT = range(4)
"""What an event is for. What is left out is an event of a held-out item, or later than the test."""
PARTS = ("train", "validation", "test", "left out")
"""The same in words."""


@dataclass(frozen=True, eq=False)
class Split:
    """What each event of U users is for; E events in all."""

    sequences: Sequences
    """(U) all events."""
    parts: NDArray[np.uint8]
    """(E,) ``TRAIN``, ``VALIDATION``, ``TEST`` or ``LEFT_OUT``; in this order within a user, and at
    most one event each to validate and to test."""
    cold_items: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Rising item_index of the items held out of training and validation; the test targets are all
    among them. Empty under leave-one-out."""

    @cached_property
    def train(self) -> Sequences:
        """(U) training histories, which everything learns from; row u is user u."""
        return self.sequences.where(self.parts == TRAIN)

    @cached_property
    def validation_users(self) -> NDArray[np.int64]:
        """(V,) rows of the users who validate, rising."""
        return self._users_of(VALIDATION)

    @cached_property
    def validation_histories(self) -> Sequences:
        """(V) what a validation target is predicted from: the user's training history."""
        return _rows(self.train, self.validation_users)

    @cached_property
    def validation_targets(self) -> NDArray[np.int64]:
        """(V,) item_index of the event after the training history."""
        return self._items_of(VALIDATION)

    @cached_property
    def test_users(self) -> NDArray[np.int64]:
        """(T,) rows of the users who test, rising."""
        return self._users_of(TEST)

    @cached_property
    def test_histories(self) -> Sequences:
        """(T) what a test target is predicted from: training history and validation target."""
        return _rows(self.sequences.where(self.parts <= VALIDATION), self.test_users)

    @cached_property
    def test_targets(self) -> NDArray[np.int64]:
        """(T,) item_index."""
        return self._items_of(TEST)

    def _users_of(self, part: int) -> NDArray[np.int64]:
        events = np.flatnonzero(self.parts == part)
        return np.searchsorted(self.sequences.offsets, events, side="right") - 1

    def _items_of(self, part: int) -> NDArray[np.int64]:
        return self.sequences.items[self.parts == part].astype(np.int64)


def _rows(sequences: Sequences, users: NDArray[np.int64]) -> Sequences:
    return sequences if users.size == sequences.num_users else sequences.take(users)


def leave_one_out(sequences: Sequences) -> Split:
    """The last event of each user tests, the second last validates, as P5 and TIGER do.

    What the protocol does not prevent: it cuts each user's events at that user's own end, not at
    one date. Training may therefore hold events of other users that are later than a test event,
    so trends of the future can leak, and numbers are higher than in a live system. An item that a
    user repeats can be both in the history and the target. It does ensure that no training
    history holds its own user's validation or test event.

    Users with fewer than three events train on all of them and are not tested. Where no training
    history would be left with two events, which is one to predict the next from, nobody validates.
    """
    parts = np.full(sequences.items.size, TRAIN, np.uint8)
    lengths = sequences.lengths
    ends = sequences.offsets[1:][lengths >= MIN_EVENTS]
    if (lengths == MIN_EVENTS - 1).any() or (lengths > MIN_EVENTS).any():
        parts[ends - 2] = VALIDATION
    parts[ends - 1] = TEST
    return Split(sequences, parts)


def hold_out_items(sequences: Sequences, cold_items: NDArray[np.integer]) -> Split:
    """Hold items out of training and validation, and let the test ask for them.

    A user's test is the last event of a cold item with at least ``MIN_WARM_EVENTS`` warm ones (of
    any other item) before it; those are the history, and the last of them validates. Later events
    are left out, so that no training history is later than its own user's test. Users
    without such an event train and validate on all their warm events. A user with a single warm
    event has nothing to predict a validation target from, and gives nothing.

    Args:
        sequences: U users' events in time order.
        cold_items: item_index of the items to hold out.

    Raises:
        DataError: If no user can be tested.
    """
    is_cold = np.zeros(1 + int(max(sequences.items.max(initial=0), cold_items.max())), dtype=bool)
    is_cold[cold_items] = True
    is_cold_event = is_cold[sequences.items]  # (E,)
    user = np.repeat(np.arange(sequences.num_users), sequences.lengths)  # (E,)
    warm_so_far = np.concatenate([[0], np.cumsum(~is_cold_event)])  # (E + 1,) before each event
    warm_before = warm_so_far[:-1] - warm_so_far[sequences.offsets[user]]
    tests = np.flatnonzero(is_cold_event & (warm_before >= MIN_WARM_EVENTS))  # of any user, rising
    end = sequences.offsets[1:].copy()  # (U,) where each user's history ends
    end[user[tests]] = tests  # of a user's several the last stays
    test_users = np.flatnonzero(end < sequences.offsets[1:])
    if not test_users.size:
        raise DataError(
            f"expected users with {MIN_WARM_EVENTS} events of other items before one of a held-out "
            f"item; found none for {cold_items.size} held-out items; raise "
            "DatasetConfig.cold_item_share"
        )
    warm = np.flatnonzero(~is_cold_event & (np.arange(user.size) < end[user]))  # rising
    parts = np.full(user.size, LEFT_OUT, np.uint8)
    parts[warm] = TRAIN
    last = warm[np.diff(user[warm], append=-1) != 0]  # of each user with a warm event
    has_history = np.bincount(user[warm], minlength=1)[user[last]] >= MIN_WARM_EVENTS
    parts[last] = np.where(has_history, VALIDATION, LEFT_OUT)
    parts[end[test_users]] = TEST
    return Split(sequences, parts, np.unique(cold_items).astype(np.int64))


def draw_cold_items(sequences: Sequences, share: float, seed: int) -> NDArray[np.int64]:
    """Rising item_index of a share, at least one, of the items that have events.

    Raises:
        DataError: If there are no events.
    """
    items = np.unique(sequences.items).astype(np.int64)
    if not items.size:
        raise DataError("expected at least 1 event to draw held-out items from; found none")
    count = max(1, round(share * items.size))
    return np.sort(np.random.default_rng(seed).permutation(items)[:count])


def choose_users(num_users: int, wanted: int, seed: int) -> np.ndarray:
    """Rows of the users that validate: all if 0 are wanted, else that many, drawn."""
    if wanted == 0 or wanted >= num_users:
        return np.arange(num_users)
    return np.sort(np.random.default_rng(seed).permutation(num_users)[:wanted])
