from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hidvae.errors import DataError, ShapeError
from hidvae.semantic_ids.collisions import (
    colliding_groups,
    collision_rate,
    disambiguate,
    reassign,
)


def draw_problem(seed: int, sizes: list[int], num_items: int, dim: int = 3):
    """Random latents, codebooks, and codes with collisions."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(num_items, dim)).astype(np.float32)
    codebooks = [rng.normal(size=(size, dim)).astype(np.float32) for size in sizes]
    codes = np.column_stack([rng.integers(0, size, num_items) for size in sizes])
    return latents, codebooks, codes


def reconstruct(codebooks, codes):
    return sum(book.astype(np.float64)[codes[:, level]] for level, book in enumerate(codebooks))


def cost_of(latents, codebooks, codes):
    return float(((latents.astype(np.float64) - reconstruct(codebooks, codes)) ** 2).sum())


@st.composite
def problems(draw):
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    capacity = int(np.prod(sizes))
    num_items = draw(st.integers(1, capacity) | st.just(capacity))
    latents, codebooks, codes = draw_problem(draw(st.integers(0, 2**31)), sizes, num_items)
    if draw(st.booleans()):
        latents[:] = latents[0]
    if draw(st.booleans()):
        codes[:] = codes[0]
    return latents, codebooks, codes


def test_collision_rate_counts_distinct_ids():
    assert collision_rate(np.array([[0, 1], [0, 1], [0, 2], [0, 1]])) == 1 - 2 / 4
    assert collision_rate(np.array([[0, 1], [1, 0]])) == 0.0
    assert collision_rate(np.empty((0, 3), dtype=np.int64)) == 0.0


def test_colliding_groups_are_the_items_that_share_an_id():
    codes = np.array([[1, 0], [0, 3], [1, 0], [0, 2], [0, 3], [1, 0]])
    assert [group.tolist() for group in colliding_groups(codes)] == [[1, 4], [0, 2, 5]]
    assert colliding_groups(np.array([[0], [1]])) == []


def test_ids_beyond_64_bits_are_told_apart():
    codes = np.full((3, 8), 2**20)
    codes[1, 0] = 0
    assert [group.tolist() for group in colliding_groups(codes)] == [[0, 2]]


@given(problems())
def test_disambiguate_numbers_items_within_their_group(problem):
    _, _, codes = problem
    parted, size = disambiguate(codes)
    assert collision_rate(parted) == 0.0
    np.testing.assert_array_equal(parted[:, :-1], codes)
    assert parted[:, -1].max() + 1 == size
    for group in colliding_groups(codes):
        np.testing.assert_array_equal(parted[group, -1], np.arange(len(group)))


@given(problems())
def test_reassign_leaves_no_collision_and_moves_only_colliding_items(problem):
    latents, codebooks, codes = problem
    before = codes.copy()
    result = reassign(latents, codebooks, codes)
    assert collision_rate(result.codes) == 0.0
    assert (result.codes >= 0).all()
    assert (result.codes < [len(book) for book in codebooks]).all()
    np.testing.assert_array_equal(codes, before)
    np.testing.assert_array_equal(result.moved, np.flatnonzero((result.codes != codes).any(axis=1)))
    colliding = np.concatenate([*colliding_groups(codes), np.empty(0, dtype=int)])
    assert set(result.moved) <= set(colliding)
    moved = result.moved
    assert result.cost_before == pytest.approx(cost_of(latents[moved], codebooks, codes[moved]))
    assert result.cost_after == pytest.approx(
        cost_of(latents[moved], codebooks, result.codes[moved])
    )


@pytest.mark.parametrize("sizes", [[2, 2, 2], [4, 4], [3, 3, 3], [1, 5], [2, 3, 4]])
def test_a_full_catalogue_takes_every_id_once(sizes):
    capacity = int(np.prod(sizes))
    latents, codebooks, codes = draw_problem(7, sizes, capacity)
    result = reassign(latents, codebooks, codes)
    every_id = sorted(itertools.product(*(range(size) for size in sizes)))
    assert sorted(map(tuple, result.codes.tolist())) == every_id


@given(st.integers(0, 2**31), st.integers(2, 5))
@settings(max_examples=40)
def test_within_a_prefix_the_cost_is_least_of_all_assignments(seed, num_items):
    latents, codebooks, codes = draw_problem(seed, [2, 5], num_items)
    codes[:, 0] = 1  # one prefix
    colliding = np.concatenate([*colliding_groups(codes), np.empty(0, dtype=int)]).astype(int)
    result = reassign(latents, codebooks, codes)
    held = set(np.delete(codes[:, 1], colliding).tolist())
    free = [code for code in range(5) if code not in held]
    costs = []
    for chosen in itertools.permutations(free, len(colliding)):
        candidate = codes.copy()
        candidate[colliding, 1] = chosen
        costs.append(cost_of(latents, codebooks, candidate))
    assert (result.codes[:, 0] == 1).all()
    assert cost_of(latents, codebooks, result.codes) == pytest.approx(min(costs))


def test_a_surplus_moves_its_cheapest_item_to_the_nearest_prefix_with_room():
    prefixes = np.array([[0.0, 0.0], [10.0, 0.0], [3.0, 0.0]])
    last = np.array([[2.0, 5.0], [-2.0, 5.0]])  # two items fit under a prefix
    # Squared distance to prefix 2 minus that to prefix 0, where all three are: 9, 0.6, 6. So
    # item 1 moves, though item 2 is nearer to prefix 2; what is left of it is (-1.6, 5).
    latents = np.array([[0.0, 0.0], [1.4, 5.0], [0.5, 0.0]])
    result = reassign(latents, [prefixes, last], np.zeros((3, 2), dtype=int))
    assert result.codes.tolist() == [[0, 1], [2, 1], [0, 0]]
    assert result.moved.tolist() == [0, 1]


def test_a_surplus_keeps_its_first_code_while_a_sibling_prefix_has_room():
    latents, codebooks, _ = draw_problem(3, [3, 3, 4], 10)
    result = reassign(latents, codebooks, np.ones((10, 3), dtype=int))
    assert (result.codes[:, 0] == 1).all()  # 12 IDs begin with 1
    assert collision_rate(result.codes) == 0.0


def test_equal_items_are_parted_the_same_way_every_time():
    latents, codebooks, codes = draw_problem(5, [4, 4, 4], 50)
    latents[:] = latents[0]
    codes[:] = codes[0]
    first, second = (reassign(latents, codebooks, codes) for _ in range(2))
    assert collision_rate(first.codes) == 0.0
    np.testing.assert_array_equal(first.codes, second.codes)


def test_reassign_without_collisions_changes_nothing():
    latents, codebooks, _ = draw_problem(2, [3, 3], 3)
    codes = np.array([[0, 0], [0, 1], [2, 2]])
    result = reassign(latents, codebooks, codes)
    np.testing.assert_array_equal(result.codes, codes)
    assert len(result.moved) == 0
    assert (result.cost_before, result.cost_after) == (0.0, 0.0)


def test_reassigning_twice_changes_nothing_more():
    latents, codebooks, codes = draw_problem(11, [4, 4], 14)
    once = reassign(latents, codebooks, codes)
    assert len(once.moved) > 0
    assert len(reassign(latents, codebooks, once.codes).moved) == 0


def test_more_items_than_ids_fail_up_front():
    latents, codebooks, codes = draw_problem(0, [2, 2], 5)
    with pytest.raises(DataError, match=r"5 items does not fit 2\^2 = 4 IDs; raise Tokenizer"):
        reassign(latents, codebooks, codes)


def test_a_code_out_of_range_is_named():
    latents, codebooks, codes = draw_problem(0, [3, 3], 4)
    codes[2, 1] = 3
    with pytest.raises(DataError, match=r"row 2, level 1: expected a code in \[0, 3\); found 3"):
        reassign(latents, codebooks, codes)


def test_a_latent_that_is_not_finite_is_named():
    latents, codebooks, codes = draw_problem(0, [3, 3], 4)
    latents[3, 1] = np.nan
    with pytest.raises(DataError, match="latents row 3, column 1: expected a finite number"):
        reassign(latents, codebooks, codes)


def test_arrays_that_disagree_are_named():
    latents, codebooks, codes = draw_problem(0, [3, 3], 4)
    with pytest.raises(ShapeError, match="same N"):
        reassign(latents[:3], codebooks, codes)
    with pytest.raises(ShapeError, match="found 1 codebooks and codes of 2 levels"):
        reassign(latents, codebooks[:1], codes)
    with pytest.raises(ShapeError, match=r"codebook of level 1: expected \(K, 3\)"):
        reassign(latents, [codebooks[0], codebooks[1][:, :2]], codes)
