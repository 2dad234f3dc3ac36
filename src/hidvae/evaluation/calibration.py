"""Whether a confidence of 0.8 is right in 80 of 100 cases."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hidvae.errors import ShapeError


class CalibrationBins(NamedTuple):
    """What was said and what was right in the bins that hold an answer."""

    confidence: npt.NDArray[np.float64]
    """(B,) mean confidence."""
    accuracy: npt.NDArray[np.float64]
    """(B,)."""
    counts: npt.NDArray[np.int64]
    """(B,) answers, at least 1."""


def calibration_bins(
    confidence: npt.NDArray[np.floating], is_right: npt.NDArray[np.bool_], num_bins: int = 10
) -> CalibrationBins:
    """Sort answers by confidence into bins of equal width.

    Args:
        confidence: (n,) in [0, 1], n at least 1.
        is_right: (n,).
        num_bins: Of [0, 1].

    Raises:
        ShapeError: If the inputs disagree on n, or n is 0.
    """
    if confidence.shape != is_right.shape or not confidence.size:
        raise ShapeError(
            "expected one confidence per answer, at least one; found "
            f"{confidence.shape} and {is_right.shape}"
        )
    bins = np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    is_taken = counts > 0
    taken = counts[is_taken]
    said = np.bincount(bins, weights=confidence, minlength=num_bins)[is_taken]
    right = np.bincount(bins, weights=is_right, minlength=num_bins)[is_taken]
    return CalibrationBins(said / taken, right / taken, taken)


def expected_calibration_error(
    confidence: npt.NDArray[np.floating], is_right: npt.NDArray[np.bool_], num_bins: int = 10
) -> float:
    """Mean distance between confidence and accuracy, over bins of equal width.

    Formula: sum over bins b of n_b / n |accuracy(b) - mean confidence(b)|.

    Args:
        confidence: (n,) in [0, 1], n at least 1.
        is_right: (n,).
        num_bins: Of [0, 1].

    Raises:
        ShapeError: If the inputs disagree on n, or n is 0.

    Source: Naeini et al. 2015, as in arXiv:1706.04599.
    """
    bins = calibration_bins(confidence, is_right, num_bins)
    gaps = np.abs(bins.accuracy - bins.confidence)
    return float((gaps * bins.counts).sum() / bins.counts.sum())


def calibration_error_by_chance(
    confidence: npt.NDArray[np.floating], num_bins: int = 10, draws: int = 200
) -> float:
    """What ``expected_calibration_error`` is in the mean if every confidence is exactly true.

    Not 0: of few answers, the share that is right differs from the confidence by luck.

    Args:
        confidence: (n,) in [0, 1], n at least 1.
        num_bins: Of [0, 1].
        draws: Of right and wrong, always the same ones.

    Raises:
        ShapeError: If n is 0.
    """
    generator = np.random.default_rng(0)
    errors = [
        expected_calibration_error(
            confidence, generator.random(len(confidence)) < confidence, num_bins
        )
        for _ in range(draws)
    ]
    return float(np.mean(errors))
