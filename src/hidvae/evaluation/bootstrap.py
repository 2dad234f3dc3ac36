"""Percentile bootstrap over users: how far a mean would move with other users.

A resample draws U users with replacement. Users with equal values are interchangeable, so a
resample is drawn as multinomial counts over the *distinct* values. That is the same distribution,
costs next to nothing for rank metrics (a few dozen distinct values), and makes the result
independent of the order of users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hidvae.errors import ConfigError, DataError, ShapeError

FloatArray = npt.NDArray[np.float64]

_COUNTS_PER_BLOCK = 4_000_000


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two rankers' means on the same users, first minus second."""

    mean: float
    """Mean over users of first - second."""
    low: float
    """Lower end of the confidence interval of the mean difference."""
    high: float
    """Upper end."""
    p_value: float
    """Two-sided: how often resampled users would reverse (or level) the sign of the difference."""

    def to_json(self) -> dict[str, float | list[float]]:
        """JSON values, under the names that ``metrics.json`` uses."""
        return {
            "difference": self.mean,
            "ci": [self.low, self.high],
            "p_value": self.p_value,
        }


def bootstrap_means(
    values: npt.ArrayLike, num_samples: int, generator: np.random.Generator
) -> FloatArray:
    """Means of resampled users; the columns of one row share the resample.

    Args:
        values: (U, C) or (U,), one row per user, one column per metric; U at least 1.
        num_samples: S, resamples, at least 1.
        generator: Source of the resamples.

    Returns:
        (S, C), or (S,) for values of shape (U,).

    Raises:
        DataError: If there is no user or a value is not finite.
        ShapeError: If ``values`` has more than two dimensions.
        ConfigError: If ``num_samples`` is below 1.

    Source: Efron and Tibshirani, 1993, chapter 6.
    """
    table = _checked_values(values)
    if num_samples < 1:
        raise ConfigError(f"expected at least 1 bootstrap sample, found {num_samples}; e.g. 1000")
    columns = table.reshape(table.shape[0], -1)  # (U, C)
    distinct, count = np.unique(columns, axis=0, return_counts=True)  # (V, C), (V,)
    num_users = columns.shape[0]
    share = count / num_users
    block = max(1, _COUNTS_PER_BLOCK // distinct.shape[0])
    means = [
        generator.multinomial(num_users, share, size=min(block, num_samples - start)) @ distinct
        for start in range(0, num_samples, block)
    ]
    sampled: FloatArray = np.concatenate(means) / num_users  # (S, C)
    return sampled[:, 0] if table.ndim == 1 else sampled


def bootstrap_interval(
    values: npt.ArrayLike,
    num_samples: int,
    generator: np.random.Generator,
    confidence: float = 0.95,
) -> FloatArray:
    """Percentile confidence interval of the mean over users.

    Args:
        values: (U, C) or (U,), one row per user.
        num_samples: Resamples, at least 1.
        generator: Source of the resamples.
        confidence: Share of the resampled means inside the interval, in (0, 1).

    Returns:
        (2, C) or (2,): lower and upper ends.

    Raises:
        ConfigError: If ``confidence`` is out of range; and as ``bootstrap_means``.
    """
    means = bootstrap_means(values, num_samples, generator)
    return np.asarray(np.quantile(means, _tails(confidence), axis=0), dtype=np.float64)


def paired_bootstrap(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    num_samples: int,
    generator: np.random.Generator,
    confidence: float = 0.95,
) -> PairedDifference:
    """Compare two rankers on the same users: mean difference, interval and two-sided p.

    With d* the resampled mean differences, p = min(1, 2 (1 + min(#{d* <= 0}, #{d* >= 0}))
    / (S + 1)); adding one keeps p above 0, so it is never smaller than 2 / (S + 1).

    Args:
        first: (U,), a metric per user.
        second: (U,), the same metric of the other ranker, users in the same order.
        num_samples: S, resamples, at least 1.
        generator: Source of the resamples.
        confidence: Of the interval, in (0, 1).

    Raises:
        ShapeError: If the inputs are not both (U,).
        DataError: If there is no user or a value is not finite.

    Source: Efron and Tibshirani, 1993, chapter 15; interval inverted to a p-value.
    """
    left, right = _checked_values(first), _checked_values(second)
    if left.ndim != 1 or left.shape != right.shape:
        raise ShapeError(
            f"expected two arrays (U,) of the same users, found {left.shape} and {right.shape}; "
            "score both rankers on the same split"
        )
    difference = left - right
    means = bootstrap_means(difference, num_samples, generator)
    low, high = np.quantile(means, _tails(confidence))
    num_reversed = min(int((means <= 0).sum()), int((means >= 0).sum()))
    p_value = min(1.0, 2.0 * (1 + num_reversed) / (num_samples + 1))
    return PairedDifference(float(difference.mean()), float(low), float(high), p_value)


def _tails(confidence: float) -> list[float]:
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"expected a confidence between 0 and 1, found {confidence}; e.g. 0.95")
    return [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0]


def _checked_values(values: npt.ArrayLike) -> FloatArray:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim not in (1, 2):
        raise ShapeError(f"expected values of shape (U,) or (U, C), found {table.shape}")
    if table.shape[0] == 0:
        raise DataError("expected values of at least 1 user, found none; check the split")
    if not np.isfinite(table).all():
        row = int(np.argwhere(~np.isfinite(table))[0, 0])
        raise DataError(f"expected finite values, found {table[row]} for user row {row}")
    return table
