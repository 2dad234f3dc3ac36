"""Whether a confidence of 0.8 is right in 80 of 100 cases."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hidvae.errors import ShapeError


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
    if confidence.shape != is_right.shape or not confidence.size:
        raise ShapeError(
            "expected one confidence per answer, at least one; found "
            f"{confidence.shape} and {is_right.shape}"
        )
    bins = np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1)
    gaps = np.bincount(bins, weights=is_right - confidence, minlength=num_bins)
    return float(np.abs(gaps).sum() / confidence.size)
