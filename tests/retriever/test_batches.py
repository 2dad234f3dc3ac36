"""Training batches hold every transition once, and nothing else."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hidvae.data.interactions import Sequences
from hidvae.retriever.batches import TrainingBatches, reading_batches
from hidvae.retriever.interface import HistoryBatch

from .tiny import rows_of

some_histories = st.lists(
    st.lists(st.integers(0, 30), min_size=0, max_size=9), min_size=0, max_size=12
)
both_modes = pytest.mark.parametrize("every_position", [True, False])


def epoch(
    lists: list[list[int]], every_position: bool, seed: int = 0, **more: float
) -> list[HistoryBatch]:
    options = {"max_history": 8, "batch_tokens": 16, **more}
    batches = TrainingBatches(Sequences.from_lists(lists), every_position=every_position, **options)  # type: ignore[arg-type]
    return batches.epoch(np.random.default_rng(seed))


def transitions(batches: list[HistoryBatch]) -> Counter[tuple[int, tuple[int, ...], int]]:
    """How often (user, what was read, what was to be predicted) is in the batches."""
    return Counter(
        (user, tuple(items[: position + 1]), target)
        for items, targets, user in rows_of(batches)
        for position, target in enumerate(targets)
        if target >= 0
    )


def windows(batches: list[HistoryBatch]) -> list[tuple[int, list[int]]]:
    """User and all items of every row, its last target included."""
    found = []
    for items, targets, user in rows_of(batches):
        read = [item for item in items if item >= 0]
        found.append((user, [*read, targets[len(read) - 1]]))
    return found


@both_modes
@given(lists=some_histories, seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_every_transition_exactly_once(every_position: bool, lists, seed: int) -> None:
    expected = Counter(
        (user, tuple(history[:position]), history[position])
        for user, history in enumerate(lists)
        for position in range(1, len(history))
    )
    assert transitions(epoch(lists, every_position, seed)) == expected


@both_modes
@given(lists=some_histories, tokens=st.integers(1, 40), max_history=st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_shape_of_batches(every_position: bool, lists, tokens: int, max_history: int) -> None:
    for batch in epoch(lists, every_position, batch_tokens=tokens, max_history=max_history):
        assert batch.items.shape == batch.targets.shape
        assert batch.users.shape == (len(batch.items),)
        assert batch.items.numel() <= tokens or len(batch.items) == 1
        assert batch.items.shape[1] <= max_history
        read = batch.items >= 0
        assert read[:, 0].all()  # nobody's history is empty
        assert read[:, -1].any()  # no column of padding alone
        assert (read.int().diff(dim=1) <= 0).all()  # padding on the right
        if every_position:
            assert ((batch.targets >= 0) == read).all()
        else:
            assert ((batch.targets >= 0).sum(dim=1) == 1).all()
            last = read.sum(dim=1) - 1
            assert (batch.targets.gather(1, last.unsqueeze(1)) >= 0).all()


@both_modes
def test_rows_of_a_batch_have_similar_lengths(every_position: bool) -> None:
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, 30, rng.integers(2, 9)).tolist() for _ in range(300)]
    batches = epoch(lists, every_position, batch_tokens=64)
    positions = sum(batch.items.numel() for batch in batches)
    real = sum(int((batch.items >= 0).sum()) for batch in batches)
    assert real / positions > 0.95


@both_modes
def test_an_epoch_depends_on_its_generator_alone(every_position: bool) -> None:
    rng = np.random.default_rng(1)
    lists = [rng.integers(0, 30, 14).tolist() for _ in range(20)]
    batches = TrainingBatches(
        Sequences.from_lists(lists), 8, 16, every_position=every_position, order_noise=1.5
    )
    first = rows_of(batches.epoch(np.random.default_rng([3, 1])))
    batches.epoch(np.random.default_rng([3, 2]))
    assert rows_of(batches.epoch(np.random.default_rng([3, 1]))) == first
    assert rows_of(batches.epoch(np.random.default_rng([3, 2]))) != first


@both_modes
def test_order_of_batches_and_their_rows_is_shuffled(every_position: bool) -> None:
    lists = [[user, 20] for user in range(20)]
    orders = [
        [user for _, _, user in rows_of(epoch(lists, every_position, seed, batch_tokens=4))]
        for seed in range(2)
    ]
    assert orders[0] != orders[1] != sorted(orders[1])
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))


@given(lists=some_histories, max_history=st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_long_histories_keep_their_latest_items_before_each_target(lists, max_history) -> None:
    found = transitions(epoch(lists, False, max_history=max_history))
    assert found == Counter(
        (user, tuple(history[max(0, position - max_history) : position]), history[position])
        for user, history in enumerate(lists)
        for position in range(1, len(history))
    )


def test_a_long_history_is_read_through_a_window_that_moves() -> None:
    history = list(range(20))
    starts = Counter()
    for seed in range(200):
        ((_, window),) = windows(epoch([history], True, seed, max_history=4))
        assert window == history[window[0] : window[0] + 5]
        starts[window[0]] += 1
    assert set(starts) == set(range(16))  # the first and the last items too


@both_modes
def test_nothing_to_learn_from(every_position: bool) -> None:
    assert list(epoch([], every_position)) == []
    assert list(epoch([[3], [], [7]], every_position)) == []


@given(
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=9), min_size=0, max_size=20),
    st.integers(1, 8),
    st.integers(1, 10),
)
@settings(max_examples=50, deadline=None)
def test_reading_covers_every_row_once(lists, max_history: int, batch_size: int) -> None:
    histories = Sequences.from_lists(lists)
    numbers = np.arange(100, 100 + len(lists))
    seen = {}
    for rows, items, users in reading_batches(histories, max_history, batch_size, numbers):
        assert 1 <= len(rows) <= batch_size
        assert len(items) == len(users) == len(rows)
        assert (items[:, -1] >= 0).any()
        for row, read, user in zip(rows.tolist(), items.tolist(), users.tolist(), strict=True):
            assert row not in seen
            assert user == 100 + row
            seen[row] = [item for item in read if item >= 0]
            assert read == seen[row] + [-1] * (len(read) - len(seen[row]))
    assert [seen[row] for row in range(len(lists))] == [h[-max_history:] for h in lists]


def test_readers_without_a_number_are_unknown() -> None:
    ((_, _, users),) = reading_batches(Sequences.from_lists([[1], [2, 3]]), 4, 10)
    assert users.tolist() == [-1, -1]


def test_order_noise_moves_neighbours_and_keeps_the_items() -> None:
    history = list(range(8))
    seen = set()
    for seed in range(30):
        ((items, targets, _),) = rows_of(epoch([history], True, seed, order_noise=1.5))
        order = [items[0], *[target for target in targets if target >= 0]]
        assert sorted(order) == history
        assert max(abs(place - item) for place, item in enumerate(order)) <= 1
        seen.add(tuple(order))
    assert len(seen) > 3
    ((items, _, _),) = rows_of(epoch([history], True, order_noise=0.0))
    assert [item for item in items if item >= 0] == history[:-1]
