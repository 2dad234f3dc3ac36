"""Whatever tables a person has: exit 0 with counts that add up, or one line and nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.oddities.check import attempt
from tests.oddities.grammar import draw

DRAWS, PER_TEST = 200, 20
ONCE_BROKEN = (10155,)
"""Seeds that the long job found: added items whose ids are floats could not be printed."""


@pytest.mark.parametrize("first", range(0, DRAWS, PER_TEST))
def test_any_table_is_taken_or_refused_in_one_line(first: int, tmp_path: Path) -> None:
    results = [attempt(seed, tmp_path) for seed in range(first, first + PER_TEST)]
    assert "recommended" in results  # else the grammar draws nothing that can be used


def test_a_seed_draws_the_same_tables() -> None:
    assert draw(17) == draw(17)
    assert draw(17).files != draw(18).files


@pytest.mark.parametrize("seed", ONCE_BROKEN)
def test_what_was_broken_once(seed: int, tmp_path: Path) -> None:
    assert attempt(seed, tmp_path) == "recommended"
