"""Two runs on the same test users: who finds more targets, and by more than chance?

Nothing is ranked anew; the ranks of both evaluations are put side by side.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from hidvae.errors import ConfigError, DataError
from hidvae.evaluation.bootstrap import PairedDifference, paired_bootstrap
from hidvae.evaluation.evaluate_run import RANKS
from hidvae.evaluation.metrics import ndcg_at, recall_at

if TYPE_CHECKING:
    from hidvae.run.run import Run

_METRICS = {"recall": recall_at, "ndcg": ndcg_at}
_RULES = {"excluded": "hidvae/test_excluding_history", "included": "hidvae/test"}
"""History rule -> column of the ranks."""
_SAMPLES = 1000
_USER, _TARGET = "user_id", "target"


@dataclass(frozen=True)
class MetricOfBoth:
    """One metric of two runs, under one history rule."""

    metric: str
    """Such as ``ndcg@10``."""
    history: str
    """``excluded`` or ``included``."""
    first: float
    second: float
    difference: PairedDifference
    """First minus second."""


@dataclass(frozen=True)
class RunComparison:
    """Two runs on the users that both test with the same target."""

    num_users: int
    left_out: int
    """Users that only one of them tests, or that they test with different targets."""
    metrics: tuple[MetricOfBoth, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        rows = [{**asdict(row), **row.difference.to_json()} for row in self.metrics]
        return {"num_users": self.num_users, "left_out": self.left_out, "metrics": rows}


def compare_runs(first: Run, second: Run, k: int = 10) -> RunComparison:
    """Compare two evaluated runs, user by user.

    Users and targets are matched by their ids, so the runs may have read different tables, as long
    as some users end with the same item.

    Args:
        first: A run.
        second: The one that it is compared with.
        k: Cut-off of the metrics, at least 1, at most the largest cut-off of either evaluation.

    Raises:
        ConfigError: If k is out of range.
        DataError: If they have no such user in common.
        NotTrainedError: If one was not evaluated.
    """
    frames = [_ranks_of(run, k) for run in (first, second)]
    both = frames[0].join(frames[1], on=[_USER, _TARGET], suffix="/second")
    if both.is_empty():
        raise DataError(
            f"{second.path}: expected test users that {first.path} tests with the same target; "
            "found none; compare runs of one log"
        )
    metrics = []
    for history, column in _RULES.items():
        for name, at in _METRICS.items():
            of_first, of_second = (
                at(both[each].to_numpy().astype(np.int64), k)
                for each in (column, f"{column}/second")
            )
            difference = paired_bootstrap(of_first, of_second, _SAMPLES, np.random.default_rng(0))
            means = float(of_first.mean()), float(of_second.mean())
            metrics.append(MetricOfBoth(f"{name}@{k}", history, *means, difference))
    tested = pl.concat([frame.select(_USER) for frame in frames]).n_unique()
    return RunComparison(both.height, tested - both.height, tuple(metrics))


def _ranks_of(run: Run, k: int) -> pl.DataFrame:
    """A row per test user: ids of the user and the target, and the target's ranks."""
    folder = run.folder("evaluation")
    largest = max(folder.config["cutoffs"])
    if not 1 <= k <= largest:
        raise ConfigError(
            f"k: expected 1 to {largest}, the largest cut-off that {run.path} was evaluated with; "
            f"found {k}; see EvaluationConfig.cutoffs"
        )
    dataset = run.dataset
    split = dataset.split
    users = np.array(dataset.interactions.user_ids, dtype=object)[split.test_users]
    items = np.array(dataset.catalogue.item_ids, dtype=object)[split.test_targets]
    tested = pl.DataFrame(
        {
            "user_index": pl.Series(split.test_users, dtype=pl.Int64),
            _USER: pl.Series(users.tolist(), dtype=pl.String),
            _TARGET: pl.Series(items.tolist(), dtype=pl.String),
        }
    )
    ranks = pl.read_parquet(folder.path / RANKS, glob=False).select(
        pl.col("user_index").cast(pl.Int64), *_RULES.values()
    )
    # Where a sample was evaluated, the others have no rank.
    return tested.join(ranks.drop_nulls(), on="user_index").drop("user_index")
