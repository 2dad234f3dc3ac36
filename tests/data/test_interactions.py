from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidvae.data.interactions import (
    Interactions,
    Sequences,
    count_repeats,
    length_statistics,
)
from hidvae.errors import ShapeError

LISTS = st.lists(st.lists(st.integers(0, 50), max_size=8), max_size=6)


def as_lists(sequences: Sequences) -> list[list[int]]:
    return [sequences[u].tolist() for u in range(sequences.num_users)]


@given(LISTS)
def test_from_lists_and_back(lists: list[list[int]]) -> None:
    sequences = Sequences.from_lists(lists)
    assert as_lists(sequences) == lists
    assert sequences.lengths.tolist() == [len(entry) for entry in lists]
    assert sequences.items.dtype == np.int32
    assert sequences.offsets.dtype == np.int64


@given(LISTS, st.integers(0, 9))
def test_last_agrees_with_a_loop(lists: list[list[int]], n: int) -> None:
    assert as_lists(Sequences.from_lists(lists).last(n)) == [e[max(len(e) - n, 0) :] for e in lists]


@given(LISTS, st.integers(0, 9))
def test_without_last_agrees_with_a_loop(lists: list[list[int]], n: int) -> None:
    cut = Sequences.from_lists(lists).without_last(n)
    assert as_lists(cut) == [e[: max(len(e) - n, 0)] for e in lists]


@given(LISTS, st.integers(1, 9), st.integers(-2, -1))
def test_padded_agrees_with_a_loop(lists: list[list[int]], n: int, pad: int) -> None:
    matrix = Sequences.from_lists(lists).padded(n, pad=pad)
    expected = [e[-n:] + [pad] * (n - len(e[-n:])) for e in lists]
    assert matrix.dtype == np.int64
    assert matrix.tolist() == expected
    assert matrix.shape == (len(lists), n)


@given(LISTS, st.data())
def test_take_agrees_with_a_loop(lists: list[list[int]], data: st.DataObject) -> None:
    users = data.draw(st.lists(st.integers(0, len(lists) - 1)) if lists else st.just([]))
    sequences = Sequences.from_lists(lists)
    assert as_lists(sequences.take(users)) == [lists[u] for u in users]
    mask = np.array([u in users for u in range(len(lists))], dtype=bool)
    assert as_lists(sequences.take(mask)) == [e for u, e in enumerate(lists) if u in users]


def test_single_user_access() -> None:
    sequences = Sequences.from_lists([[1, 2], [3]])
    assert sequences[-1].tolist() == [3]
    with pytest.raises(IndexError, match=r"user 2 is outside \[0, 2\)"):
        sequences[2]


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 2, 1, 3], []])
def test_offsets_that_do_not_fit_are_refused(offsets: list[int]) -> None:
    with pytest.raises(ShapeError, match="offsets"):
        Sequences(np.arange(3, dtype=np.int32), np.array(offsets, dtype=np.int64))


def test_as_many_users_as_sequences() -> None:
    with pytest.raises(ShapeError, match=r"one user id per sequence \(1\); found 2"):
        Interactions(["a", "b"], Sequences.from_lists([[1]]))


@given(LISTS)
def test_repeats_agree_with_a_loop(lists: list[list[int]]) -> None:
    assert count_repeats(Sequences.from_lists(lists)) == sum(len(e) - len(set(e)) for e in lists)


def test_length_statistics() -> None:
    found = length_statistics([3, 4, 9, 4])
    assert found == {"min": 3, "mean": (3 + 4 + 9 + 4) / 4, "median": 4.0, "max": 9}
