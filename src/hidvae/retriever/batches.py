"""Histories to padded tensors, in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hidvae.data.interactions import Sequences
from hidvae.retriever.interface import HistoryBatch


@dataclass(frozen=True)
class TrainingBatches:
    """Batches of one epoch after the other; what epoch e holds depends on its generator alone.

    With ``every_position`` a history is one row, and each of its positions predicts the next item.
    Without, every (prefix, next item) pair is a row of its own, as an encoder needs it.
    """

    histories: Sequences
    """Training histories; those of fewer than two items teach nothing."""
    max_history: int
    """Most items that the model reads, T."""
    batch_tokens: int
    """Positions per batch, padding included."""
    every_position: bool
    order_noise: float = 0.0
    """See ``RetrieverConfig.order_noise``."""

    def epoch(self, generator: np.random.Generator) -> EpochBatches:
        """All batches of an epoch, shuffled; rows of a batch have similar lengths."""
        windows, users = self._windows(generator)  # (n, T + 1): inputs and the last target
        windows = _move_some(windows, self.order_noise, generator)
        lengths = (windows >= 0).sum(axis=1)
        kept = np.flatnonzero(lengths >= 2)
        # Longest first, ties in random order; the batches are shuffled at the end.
        order = kept[np.lexsort([generator.random(len(kept)), -lengths[kept]])]
        rows = list(self._cut(lengths, order))
        shuffled = [rows[index] for index in generator.permutation(len(rows))]
        return EpochBatches(windows, users, shuffled, self.every_position)

    def _windows(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Windows (n, T + 1) of item_index, -1 on the right, and the user of each."""
        width = self.max_history + 1
        lengths = self.histories.lengths
        users = np.flatnonzero(lengths >= 2)
        if self.every_position:  # one window a user; of a longer history, a random one
            surplus = np.maximum(lengths[users] - width, 0)
            starts = self.histories.offsets[users] + generator.integers(0, surplus + 1)
            sizes = np.minimum(lengths[users], width)
        else:  # one window per target
            count = lengths[users] - 1
            users = np.repeat(users, count)
            first_of_user = np.repeat(np.cumsum(count) - count, count)
            target = np.arange(len(users)) - first_of_user + 1  # position in the history, from 1
            sizes = np.minimum(target + 1, width)
            starts = self.histories.offsets[users] + target + 1 - sizes
        column = np.arange(width)
        inside = column < sizes[:, None]
        index = np.where(inside, starts[:, None] + column, 0)
        return np.where(inside, self.histories.items[index], -1).astype(np.int32), users

    def _cut(self, lengths: np.ndarray, order: np.ndarray) -> Iterator[np.ndarray]:
        """Rows of each batch, in the order given, which is longest first."""
        start = 0
        while start < len(order):
            longest = lengths[order[start]] - 1
            rows = order[start : start + max(1, self.batch_tokens // longest)]
            yield rows
            start += len(rows)


@dataclass(frozen=True)
class EpochBatches(Sequence[HistoryBatch]):
    """The batches of an epoch, each padded when it is asked for: a long log is held once."""

    windows: np.ndarray
    """(n, T + 1) item_index, -1 on the right: inputs and the last target."""
    users: np.ndarray
    """(n,)."""
    rows: list[np.ndarray]
    """Of each batch, longest window first."""
    every_position: bool
    """See ``TrainingBatches``."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> HistoryBatch:  # type: ignore[override]
        rows = self.rows[index]
        width = int((self.windows[rows[0]] >= 0).sum())
        windows = self.windows[rows, :width].astype(np.int64)
        targets = windows[:, 1:].copy()
        items = np.where(targets >= 0, windows[:, :-1], -1)
        if not self.every_position:
            last = (targets >= 0).sum(axis=1) - 1
            only = np.full_like(targets, -1)
            each = np.arange(len(targets))
            only[each, last] = targets[each, last]
            targets = only
        return HistoryBatch(
            torch.from_numpy(items), torch.from_numpy(targets), torch.from_numpy(self.users[rows])
        )


def reading_batches(
    histories: Sequences, max_history: int, batch_size: int, user_index: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor]]:
    """Histories to read when ranking, sorted by length so that little is padding.

    Yields: Row numbers (B,) of ``histories``, items (B, T) with -1 on the right, users (B,).
    """
    lengths = np.minimum(histories.lengths, max_history)
    order = np.argsort(lengths, kind="stable")
    users = np.full(len(lengths), -1) if user_index is None else np.asarray(user_index)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        width = max(1, int(lengths[rows].max()))
        items = histories.take(rows).padded(width)
        yield rows, torch.from_numpy(items), torch.from_numpy(users[rows].astype(np.int64))


def _move_some(windows: np.ndarray, noise: float, generator: np.random.Generator) -> np.ndarray:
    """Sort by position plus a draw from [0, noise); padding stays at the end."""
    if noise == 0:
        return windows
    place = np.arange(windows.shape[1]) + noise * generator.random(windows.shape)
    order = np.argsort(np.where(windows >= 0, place, np.inf), axis=1, kind="stable")
    return np.take_along_axis(windows, order, axis=1)
