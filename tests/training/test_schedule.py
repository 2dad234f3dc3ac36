from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidvae.training.schedule import warmup_cosine


def test_endpoints() -> None:
    assert warmup_cosine(0, 100) == 1
    assert warmup_cosine(100, 100) == pytest.approx(0.01)
    assert warmup_cosine(1000, 100) == pytest.approx(0.01)
    assert warmup_cosine(50, 100, floor=0.2) == pytest.approx(0.6), "half-way between 1 and 0.2"


def test_warm_up_is_linear_and_ends_at_the_peak() -> None:
    assert [warmup_cosine(step, 100, warmup_steps=4) for step in range(5)] == [
        1 / 4,
        2 / 4,
        3 / 4,
        1,
        1,
    ]


def test_a_long_warm_up_takes_half_the_training() -> None:
    assert warmup_cosine(4, 10, warmup_steps=1000) == 1
    assert warmup_cosine(10, 10, warmup_steps=1000) == pytest.approx(0.01)


@given(
    total=st.integers(0, 60),
    warmup=st.integers(0, 80),
    floor=st.floats(0, 1),
)
def test_up_then_down_and_always_within_bounds(total: int, warmup: int, floor: float) -> None:
    factors = [warmup_cosine(step, total, warmup, floor) for step in range(total + 3)]
    peak = min(warmup, total // 2)
    rise, fall = factors[:peak], factors[peak:]
    assert rise == sorted(rise)
    assert all(a >= b - 1e-12 for a, b in zip(fall, fall[1:], strict=False))
    assert all(0 <= factor <= 1 + 1e-12 for factor in factors)
    assert all(factor >= floor - 1e-12 for factor in fall)
    assert all(factor > 0 for factor in rise)
