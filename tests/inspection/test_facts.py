from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidvae.inspection.facts import Distribution

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
