"""A free ID: the item's own if nobody has it, else the nearest one under the longest prefix."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidvae.errors import DataError
from hidvae.semantic_ids.free_ids import free_id

BOOKS = [np.array([[0.0], [10.0], [20.0]]), np.array([[0.0], [1.0], [2.0]])]
NONE = np.empty((0, 2), dtype=np.int64)


def test_its_own_codes_are_taken_if_they_are_free() -> None:
    own = np.array([1, 2])
    # Even where others would be nearer: the tokenizer knows best.
    np.testing.assert_array_equal(free_id(np.array([0.0]), BOOKS, own, NONE), own)


def test_the_last_code_gives_way_first() -> None:
    own = np.array([1, 1])
    taken = np.array([[1, 1], [0, 0]])
    # 11.4 is nearer to 10 + 2 than to 10 + 0.
    np.testing.assert_array_equal(free_id(np.array([11.4]), BOOKS, own, taken), [1, 2])


def test_a_full_prefix_gives_way_to_the_nearest_with_room() -> None:
    taken = np.array([[1, code] for code in range(3)])
    found = free_id(np.array([16.0]), BOOKS, np.array([1, 2]), taken)
    np.testing.assert_array_equal(found, [2, 0])  # 20 is nearer to 16 than 0 is


def test_a_number_parts_items_where_ids_have_one() -> None:
    taken = np.array([[1, 1, 0], [1, 1, 2], [0, 0, 0]])
    own = np.array([1, 1])
    found = free_id(np.array([11.0]), BOOKS, own, taken, num_numbers=3)
    np.testing.assert_array_equal(found, [1, 1, 1])
    full = np.array([[1, 1, number] for number in range(3)])
    found = free_id(np.array([11.9]), BOOKS, own, full, num_numbers=3)
    np.testing.assert_array_equal(found, [1, 2, 0])


def test_no_id_left_is_said() -> None:
    every = np.array(list(itertools.product(range(3), range(3))))
    with pytest.raises(DataError, match="all of them taken by 9 items"):
        free_id(np.array([0.0]), BOOKS, np.array([0, 0]), every)


@given(st.integers(0, 2**9 - 2), st.floats(-5, 30), st.booleans())
def test_it_is_free_and_the_prefix_is_kept_while_there_is_room(
    which: int, latent: float, has_numbers: bool
) -> None:
    """Against every subset of the nine IDs that leaves one free."""
    every = list(itertools.product(range(3), range(3)))
    others = [ids for bit, ids in enumerate(every) if which >> bit & 1]
    taken = np.array(others, dtype=np.int64).reshape(-1, 2)
    if has_numbers:  # one number, so the same nine
        taken = np.column_stack([taken, np.zeros(len(taken), dtype=np.int64)])
    own = np.array([1, 1])
    found = free_id(np.array([latent]), BOOKS, own, taken, num_numbers=int(has_numbers))
    assert found.tolist() not in taken.tolist()
    under_own = {ids for ids in every if ids[0] == 1} - {tuple(row[:2]) for row in taken.tolist()}
    assert (found[0] == 1) == bool(under_own)
