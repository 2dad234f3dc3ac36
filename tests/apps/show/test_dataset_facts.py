from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidvae.apps.show.dataset_facts import Distribution, Popularity

NUMBERS = st.lists(st.integers(0, 100_000), min_size=1, max_size=60)


@given(NUMBERS, st.integers(2, 20))
def test_bins_hold_everything_once_and_touch(numbers: list[int], max_bins: int) -> None:
    bins = Distribution.of(numbers).bins(max_bins)
    assert sum(entry.count for entry in bins) == len(numbers)
    assert (bins[0].low, bins[-1].high) == (min(numbers), max(numbers))
    assert len(bins) <= max_bins + 1
    for entry, following in zip(bins, bins[1:], strict=False):
        assert entry.high + 1 == following.low
    for entry in bins:
        assert entry.count == sum(entry.low <= number <= entry.high for number in numbers)


@given(NUMBERS)
def test_quartiles_are_reached_numbers(numbers: list[int]) -> None:
    expected = np.quantile(numbers, [0, 0.25, 0.5, 0.75, 1], method="inverted_cdf")
    spread = Distribution.of(numbers)
    assert spread.quartiles == expected.tolist()
    assert spread.size == len(numbers)
    assert spread.mean == pytest.approx(np.mean(numbers))


def test_share_at_least_counts_the_number_itself() -> None:
    spread = Distribution.of([0, 2, 2, 5])
    assert [spread.share_at_least(number) for number in (0, 1, 2, 3, 6)] == [
        1,
        3 / 4,
        3 / 4,
        1 / 4,
        0,
    ]


def test_bins_grow_in_proportion_and_zero_stands_alone() -> None:
    bins = Distribution.of([0, 1, 10, 100, 1000]).bins(6)
    assert bins[0].label == "0"
    assert bins[0].count == 1
    widths = [entry.high - entry.low + 1 for entry in bins[1:]]
    assert widths == sorted(widths)
    assert widths[-1] > 100 * widths[0]
    assert [entry.label for entry in Distribution.of([3, 4, 6]).bins()] == ["3", "4", "5", "6"]


def test_popularity_by_hand() -> None:
    per_item = np.array([1] * 150 + [0, 150])  # 300 events on 152 items
    popularity = Popularity.of(per_item)
    assert popularity.num_for_half == 1
    assert Popularity.of(np.array([1, 1, 1, 1, 1])).num_for_half == 3
    assert popularity.top_shares == {"1 %": 151 / 300, "10 %": (150 + 15) / 300}  # 2, 16 items
    assert popularity.ranks[0] == 1
    assert popularity.ranks[-1] == 152
    assert popularity.events_at_rank[[0, 1, -1]].tolist() == [150, 1, 0]


def test_popularity_of_many_items_is_thinned_and_exact_where_it_is_shown() -> None:
    per_item = np.random.default_rng(0).integers(0, 1000, 5000)
    popularity = Popularity.of(per_item)
    assert popularity.ranks.size <= 300
    assert (popularity.events_at_rank == np.sort(per_item)[::-1][popularity.ranks - 1]).all()
