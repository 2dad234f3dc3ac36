from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidvae.data.interactions import Sequences
from hidvae.data.split import draw_cold_items, hold_out_items, leave_one_out
from hidvae.errors import DataError


@given(st.lists(st.integers(0, 9), max_size=6))
def test_train_never_holds_a_target_and_the_parts_restore_the_whole(lengths: list[int]) -> None:
    starts = np.cumsum([0, *lengths])  # every event its own item, so items are positions
    lists = [list(range(starts[i], starts[i + 1])) for i in range(len(lengths))]
    split = leave_one_out(Sequences.from_lists(lists))
    tested = [u for u, length in enumerate(lengths) if length >= 3]
    assert split.test_users.tolist() == tested
    if not any(length == 2 or length > 3 for length in lengths):  # nothing else to learn from
        assert not split.validation_users.size
        assert all(split.train[u].tolist() == lists[u][:2] for u in tested)
        return
    assert split.validation_users.tolist() == tested
    for place, u in enumerate(tested):
        validation, test = int(split.validation_targets[place]), int(split.test_targets[place])
        assert not {validation, test} & set(split.train[u].tolist())
        assert test not in split.test_histories[place]
        assert [*split.train[u].tolist(), validation, test] == lists[u]
        assert [*split.validation_histories[place].tolist(), validation, test] == lists[u]
        assert [*split.test_histories[place].tolist(), test] == lists[u]
    for u in set(range(len(lists))) - set(tested):  # short users train on all they have
        assert split.train[u].tolist() == lists[u]
    assert not set(split.test_targets.tolist()) & set(split.train.items.tolist())
    assert split.validation_targets.dtype == split.test_targets.dtype == np.int64


@given(
    st.lists(st.lists(st.integers(0, 7), max_size=8), min_size=1, max_size=6),
    st.sets(st.integers(0, 7), min_size=1, max_size=3),
)
def test_held_out_items_are_asked_for_by_the_test_alone(
    lists: list[list[int]], cold: set[int]
) -> None:
    """Against the rule, user by user; items repeat."""
    expected = {}  # row: (warm events before the test, test item or None)
    for row, events in enumerate(lists):
        tests = [
            place
            for place, item in enumerate(events)
            if item in cold and sum(earlier not in cold for earlier in events[:place]) >= 2
        ]
        end = tests[-1] if tests else len(events)
        warm = [item for item in events[:end] if item not in cold]
        expected[row] = (warm, events[end] if tests else None)
    sequences, cold_items = Sequences.from_lists(lists), np.array(sorted(cold))
    if all(test is None for _, test in expected.values()):
        with pytest.raises(DataError, match="found none for .* held-out items; raise"):
            hold_out_items(sequences, cold_items)
        return
    split = hold_out_items(sequences, cold_items)
    assert split.cold_items.tolist() == sorted(cold)
    for sequence in (split.train, split.validation_histories, split.test_histories):
        assert not cold & set(sequence.items.tolist())
    assert not cold & set(split.validation_targets.tolist())
    assert cold >= set(split.test_targets.tolist())
    assert split.validation_users.tolist() == [row for row in expected if len(expected[row][0]) > 1]
    assert split.test_users.tolist() == [row for row in expected if expected[row][1] is not None]
    for row, (warm, _) in expected.items():
        assert split.train[row].tolist() == warm[:-1]
    for place, row in enumerate(split.validation_users.tolist()):
        assert split.validation_histories[place].tolist() == expected[row][0][:-1]
        assert split.validation_targets[place] == expected[row][0][-1]
    for place, row in enumerate(split.test_users.tolist()):
        assert split.test_histories[place].tolist() == expected[row][0]
        assert split.test_targets[place] == expected[row][1]


def test_cold_items_are_a_share_of_those_with_events() -> None:
    sequences = Sequences.from_lists([np.arange(100, 300), [5, 5, 5]])
    drawn = draw_cold_items(sequences, 0.1, seed=3)
    assert drawn.size == 20 and set(drawn.tolist()) <= {5, *range(100, 300)}
    assert (np.diff(drawn) > 0).all()
    assert drawn.tolist() == draw_cold_items(sequences, 0.1, seed=3).tolist()
    assert drawn.tolist() != draw_cold_items(sequences, 0.1, seed=4).tolist()
    assert draw_cold_items(sequences, 1e-9, seed=0).size == 1
    with pytest.raises(DataError, match="at least 1 event"):
        draw_cold_items(Sequences.from_lists([]), 0.1, seed=0)


def test_a_leave_one_out_split_tests_everybody_and_holds_nothing_out() -> None:
    split = leave_one_out(Sequences.from_lists([[1, 2, 3], [4, 5, 6, 7]]))
    assert split.test_users.tolist() == split.validation_users.tolist() == [0, 1]
    assert split.cold_items.size == 0
