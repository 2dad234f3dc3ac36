"""Histories of all users as one flat array, and the users they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hidvae.errors import ShapeError


@dataclass(frozen=True, eq=False)
class Sequences:
    """Item sequences of U users, one after the other in one array (E events in all)."""

    items: NDArray[np.int32]
    """(E,) item_index, in time order within a user."""
    offsets: NDArray[np.int64]
    """(U + 1,) user u has items[offsets[u]:offsets[u + 1]]."""

    def __post_init__(self) -> None:
        if self.items.ndim != 1 or self.offsets.ndim != 1 or self.offsets.size == 0:
            raise ShapeError(
                "expected items (E,) and offsets (U + 1,); found shapes "
                f"{self.items.shape} and {self.offsets.shape}"
            )
        ends = (int(self.offsets[0]), int(self.offsets[-1]))
        if ends != (0, self.items.size) or (np.diff(self.offsets) < 0).any():
            raise ShapeError(
                f"expected offsets rising from 0 to {self.items.size} (one per event); found "
                f"them from {ends[0]} to {ends[1]}, smallest step "
                f"{int(np.diff(self.offsets).min(initial=0))}"
            )

    @classmethod
    def from_lists(cls, lists: Iterable[ArrayLike]) -> Sequences:
        """One sequence per list of item_index; a list may be empty."""
        arrays = [np.asarray(entry, dtype=np.int32).reshape(-1) for entry in lists]
        offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
        np.cumsum([array.size for array in arrays], out=offsets[1:])
        items = np.concatenate([*arrays, np.empty(0, dtype=np.int32)])
        return cls(items, offsets)

    @property
    def num_users(self) -> int:
        """Number of sequences U."""
        return self.offsets.size - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(U,) events of each user."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return self.num_users

    def __getitem__(self, user: int) -> NDArray[np.int32]:
        """Items of one user, oldest first (a view); negative numbers count from the end."""
        if not -self.num_users <= user < self.num_users:
            raise IndexError(f"user {user} is outside [0, {self.num_users})")
        user %= self.num_users
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def take(self, users: ArrayLike) -> Sequences:
        """The sequences of some users, in the order given.

        Args:
            users: (n,) user numbers in [0, U), repeats allowed; or a (U,) mask.
        """
        chosen = np.asarray(users)
        if chosen.dtype == np.bool_:
            chosen = np.flatnonzero(chosen)
        chosen = chosen.astype(np.int64, copy=False).reshape(-1)
        return self._gather(self.offsets[:-1][chosen], self.lengths[chosen])

    def last(self, max_length: int) -> Sequences:
        """The latest ``max_length`` items of each user, fewer where there are fewer."""
        lengths = np.minimum(self.lengths, max_length)
        return self._gather(self.offsets[1:] - lengths, lengths)

    def without_last(self, count: int) -> Sequences:
        """Each sequence without its latest ``count`` items; shorter ones become empty."""
        return self._gather(self.offsets[:-1], np.maximum(self.lengths - count, 0))

    def padded(self, max_length: int, pad: int = -1) -> NDArray[np.int64]:
        """The latest ``max_length`` items as a matrix, oldest first, padding on the right.

        Returns:
            (U, max_length) item_index, left-aligned; ``pad`` where a sequence is shorter.
        """
        cut = self.last(max_length)
        matrix = np.full((self.num_users, max_length), pad, dtype=np.int64)
        matrix[np.arange(max_length) < cut.lengths[:, None]] = cut.items
        return matrix

    def where(self, is_kept: NDArray[np.bool_]) -> Sequences:
        """Each sequence without the events that a mask (E,) leaves out."""
        so_far = np.zeros(is_kept.size + 1, dtype=np.int64)
        np.cumsum(is_kept, out=so_far[1:])
        return Sequences(self.items[is_kept], so_far[self.offsets])

    def _gather(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Sequences:
        """One sequence per (start, length) window of ``items``."""
        offsets = np.zeros(lengths.size + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        index = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Sequences(self.items[index], offsets)


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who did what, in time order: user u of ``sequences`` is ``user_ids[u]``."""

    user_ids: list[str]
    sequences: Sequences

    def __post_init__(self) -> None:
        if len(self.user_ids) != self.sequences.num_users:
            raise ShapeError(
                f"expected one user id per sequence ({self.sequences.num_users}); "
                f"found {len(self.user_ids)}"
            )


def count_items(sequences: Sequences, num_items: int) -> NDArray[np.int64]:
    """(N,) events of each item: in training histories, an item's popularity."""
    return np.bincount(sequences.items, minlength=num_items)


def count_repeats(sequences: Sequences) -> int:
    """Events whose user had the same item before."""
    users = np.repeat(np.arange(sequences.num_users, dtype=np.int64), sequences.lengths)
    width = int(sequences.items.max(initial=0)) + 1
    distinct = np.unique(users * width + sequences.items).size
    return int(sequences.items.size - distinct)


def length_statistics(lengths: Sequence[int] | NDArray[np.int64]) -> dict[str, float]:
    """Smallest, mean, median and largest sequence length, as JSON values."""
    values = np.asarray(lengths)
    return {
        "min": int(values.min()),
        "mean": round(float(values.mean()), 3),
        "median": float(np.median(values)),
        "max": int(values.max()),
    }
