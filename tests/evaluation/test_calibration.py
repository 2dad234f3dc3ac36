"""Expected calibration error against cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hidvae.errors import ShapeError
from hidvae.evaluation.calibration import (
    calibration_bins,
    calibration_error_by_chance,
    expected_calibration_error,
)


def test_error_is_the_gap_of_each_bin_weighed_by_its_size() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.25, 0.25])
    is_right = np.array([True, True, True, False, False, False])
    expected = 4 / 6 * abs(0.75 - 0.95) + 2 / 6 * abs(0.0 - 0.25)
    assert expected_calibration_error(confidence, is_right) == pytest.approx(expected)


def test_bins_hold_means_and_only_those_with_an_answer() -> None:
    bins = calibration_bins(np.array([0.92, 0.98, 0.25]), np.array([True, False, True]))
    assert bins.confidence == pytest.approx([0.25, 0.95])
    assert bins.accuracy == pytest.approx([1, 1 / 2])
    assert bins.counts.tolist() == [1, 2]


def test_a_certain_answer_falls_into_the_last_bin() -> None:
    assert expected_calibration_error(np.ones(3), np.ones(3, bool)) == 0
    assert expected_calibration_error(np.ones(3), np.zeros(3, bool)) == 1


def test_confidences_that_are_true_have_a_small_error() -> None:
    draw = np.random.default_rng(0)
    confidence = draw.random(20_000)
    is_right = draw.random(20_000) < confidence
    assert expected_calibration_error(confidence, is_right) < 0.01
    assert expected_calibration_error(confidence**0.3, is_right) > 0.1


def test_few_answers_err_by_chance_as_much_as_true_confidences_do() -> None:
    assert calibration_error_by_chance(np.ones(10)) == 0  # what is certain cannot err
    # One coin is always half off; a hundred are off by sqrt(2 / (pi n)) / 2 in the mean.
    assert calibration_error_by_chance(np.full(1, 0.5)) == 0.5
    assert calibration_error_by_chance(np.full(100, 0.5)) == pytest.approx(0.0399, rel=0.1)
    assert calibration_error_by_chance(np.random.default_rng(0).random(20_000)) < 0.01


@pytest.mark.parametrize("sizes", [(0, 0), (2, 3)])
def test_sizes_that_disagree_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match="one confidence per answer"):
        expected_calibration_error(np.zeros(sizes[0]), np.zeros(sizes[1], bool))
