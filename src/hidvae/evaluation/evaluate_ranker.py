"""Score any recommender by item over the full catalogue, under both history protocols.

One ranked list per user gives two results: with the items of the history left in the list
(``including``) and with them left out (``excluding``). Every number says which one it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hidvae.data.interactions import Sequences
from hidvae.errors import ConfigError, DataError, ShapeError
from hidvae.evaluation.bootstrap import PairedDifference, bootstrap_interval, paired_bootstrap
from hidvae.evaluation.metrics import (
    both_protocols,
    coverage_at,
    diversity_at,
    invalid_rate,
    is_in_history,
    ndcg_at,
    novelty_at,
    popularity_bias_at,
    recall_at,
    target_ranks,
)
from hidvae.ranking.ranker import Ranked, Ranker

__all__ = [
    "EvaluationResult",
    "MetricValue",
    "Ranked",
    "Ranker",
    "compare",
    "evaluate_ranker",
    "format_table",
    "list_cutoff",
    "score_ranking",
]

MetricValue = float | int | list[float] | None
"""A JSON value; None where the metric is a mean over nothing."""
Protocol = Literal["including", "excluding"]
IntArray = npt.NDArray[np.integer]

_LIST_CUTOFF = 10
"""Cut-off of coverage, novelty, popularity bias, diversity and the cold slice, if asked for."""


@dataclass(frozen=True)
class EvaluationResult:
    """One ranker's metrics on one split, and the ranks they came from."""

    name: str
    """The ranker's name."""
    including: dict[str, MetricValue]
    """Metrics with items of the history left in the ranking."""
    excluding: dict[str, MetricValue]
    """Metrics with items of the history left out."""
    including_ranks: npt.NDArray[np.int64]
    """(U,), rank of the target from 1, 0 below the longest cut-off."""
    excluding_ranks: npt.NDArray[np.int64]
    """(U,), the same with the history left out."""

    def metrics(self, protocol: Protocol) -> dict[str, MetricValue]:
        """The metrics of one protocol."""
        return self.including if protocol == "including" else self.excluding

    def ranks(self, protocol: Protocol) -> npt.NDArray[np.int64]:
        """The per-user ranks of one protocol."""
        return self.including_ranks if protocol == "including" else self.excluding_ranks

    def to_json(self) -> dict[str, Any]:
        """The metrics of both protocols; ranks are left out (they are an array)."""
        return {"name": self.name, "including": self.including, "excluding": self.excluding}


def evaluate_ranker(
    ranker: Ranker,
    histories: Sequences,
    targets: IntArray,
    *,
    num_items: int,
    cutoffs: Sequence[int],
    popularity: IntArray,
    tags: IntArray | None = None,
    bootstrap_samples: int = 1000,
    seed: int = 0,
    batch_size: int = 256,
    user_index: IntArray | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvaluationResult:
    """Rank every user in batches and score the lists under both protocols.

    Without users all metrics are None.

    Args:
        ranker: What to score.
        histories: U histories.
        targets: (U,), item_index of each user's next item.
        num_items: N, size of the catalogue.
        cutoffs: Cut-offs k; lists are as long as the largest.
        popularity: (N,), events per item in *training*; 0 marks a cold item.
        tags: (N, L), tag id per level, -1 unknown; None leaves diversity out.
        bootstrap_samples: Resamples for the intervals; 0 leaves the intervals out.
        seed: Of the resamples.
        batch_size: Users per call of the ranker.
        user_index: (U,), rows of the users in the dataset; default 0 … U - 1.
        allowed: (N,), the items that may be ranked; default all. Every target is one.
        on_progress: Called with (users done, users) after each batch.

    Raises:
        ShapeError: If the inputs or the ranker's lists disagree on a dimension.
        DataError: If a target is out of range or not allowed, or a list holds an item that is not
            allowed.
        ConfigError: If there is no cut-off or one is below 1.
    """
    targets = np.asarray(targets)
    top_k = max(_checked_cutoffs(cutoffs))
    users = np.arange(histories.num_users) if user_index is None else np.asarray(user_index)
    _check_inputs(histories, targets, users, num_items, batch_size)
    if allowed is not None:
        _check_allowed(allowed, targets, num_items)
    including = np.empty((histories.num_users, top_k), dtype=np.int64)
    excluding = np.empty_like(including)
    for start in range(0, histories.num_users, batch_size):
        rows = np.arange(start, min(start + batch_size, histories.num_users))
        batch = histories.take(rows)
        ranked = ranker.rank(batch, top_k, users[rows], allowed).items
        _check_ranked(ranker.name, ranked, batch, top_k, num_items, allowed)
        including[rows], excluding[rows] = both_protocols(ranked, batch, top_k)
        if on_progress is not None:
            on_progress(int(rows[-1]) + 1, histories.num_users)
    num_repeats = int(is_in_history(targets[:, None], histories).sum())
    scored = {}
    for protocol, ranked in (("including", including), ("excluding", excluding)):
        metrics, ranks = score_ranking(
            ranked,
            targets,
            num_items=num_items,
            cutoffs=cutoffs,
            popularity=popularity,
            tags=tags,
            bootstrap_samples=bootstrap_samples,
            seed=seed,
        )
        # Targets that are in the history: out of reach when the history is left out.
        scored[protocol] = ({**metrics, "num_repeat_targets": num_repeats}, ranks)
    return EvaluationResult(
        name=ranker.name,
        including=scored["including"][0],
        excluding=scored["excluding"][0],
        including_ranks=scored["including"][1],
        excluding_ranks=scored["excluding"][1],
    )


def score_ranking(
    ranked: IntArray,
    targets: IntArray,
    *,
    num_items: int,
    cutoffs: Sequence[int],
    popularity: IntArray,
    tags: IntArray | None = None,
    bootstrap_samples: int = 1000,
    seed: int = 0,
) -> tuple[dict[str, MetricValue], npt.NDArray[np.int64]]:
    """Score ranked lists of one protocol.

    Args:
        ranked: (U, R), item_index best first, -1 padding; R at least the largest cut-off.
        targets: (U,), item_index.
        num_items: N.
        cutoffs: Cut-offs k of recall and NDCG. The list metrics use 10, or the largest cut-off
            where 10 is not one of them.
        popularity: (N,), events per item in training.
        tags: (N, L) or None, which leaves diversity out.
        bootstrap_samples: Resamples for the intervals; 0 leaves the intervals out.
        seed: Of the resamples.

    Returns:
        Metrics by name (``recall@10``, ``recall@10_ci``: [low, high], ``ndcg@10``, …,
        ``coverage@10``, ``novelty@10``, ``popularity_bias@10``, ``diversity@10``,
        ``cold_num_users``, ``cold_recall@10``, ``invalid_rate``, ``num_users``), all JSON values,
        and the (U,) ranks. What is a mean over nothing is None.

    Raises:
        ShapeError: If the inputs disagree on U, N or R.
        ConfigError: If there is no cut-off or one is below 1.
    """
    ranked, targets, popularity = np.asarray(ranked), np.asarray(targets), np.asarray(popularity)
    cutoffs = _checked_cutoffs(cutoffs)
    ranks = target_ranks(ranked, targets)
    _check_scored(ranked, targets, popularity, tags, num_items, max(cutoffs))
    names = [f"{name}@{k}" for name in ("recall", "ndcg") for k in cutoffs]
    values = np.stack(
        [recall_at(ranks, k) for k in cutoffs] + [ndcg_at(ranks, k) for k in cutoffs], axis=1
    )  # (U, 2 * len(cutoffs))
    metrics: dict[str, MetricValue] = {"num_users": int(targets.size)}
    means = values.mean(axis=0).tolist() if targets.size else [None] * len(names)
    metrics.update(zip(names, means, strict=True))
    if bootstrap_samples > 0 and targets.size:
        generator = np.random.default_rng(seed)
        ends = bootstrap_interval(values, bootstrap_samples, generator)
        for name, low, high in zip(names, *ends.tolist(), strict=True):
            metrics[f"{name}_ci"] = [low, high]
    k = list_cutoff(cutoffs)
    metrics[f"coverage@{k}"] = coverage_at(ranked, k, num_items) if targets.size else None
    metrics[f"novelty@{k}"] = _or_none(novelty_at(ranked, k, popularity))
    metrics[f"popularity_bias@{k}"] = _or_none(popularity_bias_at(ranked, k, popularity))
    if tags is not None:
        metrics[f"diversity@{k}"] = _or_none(diversity_at(ranked, k, np.asarray(tags)))
    is_cold = popularity[targets] == 0
    metrics["cold_num_users"] = int(is_cold.sum())
    cold_recall = recall_at(ranks[is_cold], k)
    metrics[f"cold_recall@{k}"] = float(cold_recall.mean()) if cold_recall.size else None
    metrics["invalid_rate"] = invalid_rate(ranked, num_items) if targets.size else None
    return metrics, ranks


def list_cutoff(cutoffs: Sequence[int]) -> int:
    """Cut-off of the list metrics, slices and comparisons: 10, or the largest without a 10."""
    return _LIST_CUTOFF if _LIST_CUTOFF in cutoffs else max(cutoffs)


def compare(
    first: EvaluationResult,
    second: EvaluationResult,
    *,
    metric: Literal["recall", "ndcg"] = "ndcg",
    k: int = 10,
    protocol: Protocol = "excluding",
    bootstrap_samples: int = 1000,
    seed: int = 0,
) -> PairedDifference:
    """Paired bootstrap of one metric of two rankers on the same users, first minus second.

    Raises:
        ShapeError: If the results are of different numbers of users.
        DataError: If there are no users.
        ConfigError: If ``metric`` is unknown.
    """
    per_user = {"recall": recall_at, "ndcg": ndcg_at}
    if metric not in per_user:
        raise ConfigError(f"expected metric recall or ndcg, found {metric!r}")
    of = per_user[metric]
    return paired_bootstrap(
        of(first.ranks(protocol), k),
        of(second.ranks(protocol), k),
        bootstrap_samples,
        np.random.default_rng(seed),
    )


def format_table(
    rows: Mapping[str, Mapping[str, MetricValue]], columns: Sequence[str] | None = None
) -> str:
    """Metrics as an aligned plain-text table, one line per name.

    Args:
        rows: Name of the line (a ranker, a protocol, …) -> metrics by name.
        columns: Metrics to show; default: every single number that some row has, in order.

    Returns:
        Lines joined by newlines; a metric that a row lacks, or that is a mean over nothing,
        shows as "-"; an interval as "low..high".
    """
    if columns is None:
        columns = list(
            dict.fromkeys(
                key
                for metrics in rows.values()
                for key, value in metrics.items()
                if not isinstance(value, list)
            )
        )
    table = [["", *columns]]
    table += [
        [name, *(_cell(metrics.get(key)) for key in columns)] for name, metrics in rows.items()
    ]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        ).rstrip()
        for line in table
    )


def _cell(value: MetricValue) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return "..".join(f"{end:.4f}" for end in value)
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _checked_cutoffs(cutoffs: Sequence[int]) -> list[int]:
    if not cutoffs or min(cutoffs) < 1:
        raise ConfigError(f"expected cut-offs of at least 1, found {list(cutoffs)}; e.g. 5, 10")
    return sorted(set(cutoffs))


def _check_inputs(
    histories: Sequences, targets: IntArray, users: IntArray, num_items: int, batch_size: int
) -> None:
    if batch_size < 1:
        raise ConfigError(f"expected batch_size of at least 1, found {batch_size}; e.g. 256")
    for name, array in (("targets", targets), ("user_index", users)):
        if array.shape != (histories.num_users,):
            raise ShapeError(
                f"expected {name} of shape ({histories.num_users},), one per history; found "
                f"{array.shape}"
            )
    _check_targets(targets, num_items)


def _check_allowed(allowed: npt.NDArray[np.bool_], targets: IntArray, num_items: int) -> None:
    if allowed.shape != (num_items,) or allowed.dtype != np.bool_:
        raise ShapeError(
            f"expected allowed as ({num_items},) booleans, one per item; found shape "
            f"{allowed.shape} of {allowed.dtype}"
        )
    if (is_out := ~allowed[targets]).any():
        user = int(np.argmax(is_out))
        raise DataError(
            f"expected every target among the allowed items, found item index "
            f"{int(targets[user])} of user row {user} outside; it could never be found"
        )


def _check_targets(targets: IntArray, num_items: int) -> None:
    is_outside = (targets < 0) | (targets >= num_items)
    if is_outside.any():
        user = int(np.argmax(is_outside))
        raise DataError(
            f"expected targets in [0, {num_items}), found {int(targets[user])} for user row "
            f"{user}; use the catalogue that the split was made with"
        )


def _check_scored(
    ranked: IntArray,
    targets: IntArray,
    popularity: IntArray,
    tags: IntArray | None,
    num_items: int,
    longest: int,
) -> None:
    _check_targets(targets, num_items)
    if ranked.shape[1] < longest:
        raise ShapeError(
            f"expected ranked lists of at least {longest} positions (the largest cut-off), found "
            f"{ranked.shape[1]}; rank more items or lower the cut-offs"
        )
    for name, array in (("popularity", popularity), ("tags", tags)):
        if array is not None and np.shape(array)[0] != num_items:
            raise ShapeError(
                f"expected {name} of {num_items} items, found {np.shape(array)[0]} rows; use the "
                "same catalogue"
            )


def _check_ranked(
    name: str,
    ranked: IntArray,
    batch: Sequences,
    top_k: int,
    num_items: int,
    allowed: npt.NDArray[np.bool_] | None,
) -> None:
    width = min(num_items, top_k + int(batch.lengths.max()))
    if ranked.ndim != 2 or len(ranked) != batch.num_users or ranked.shape[1] < width:
        raise ShapeError(
            f"ranker {name}: expected lists of shape ({batch.num_users}, {width}) or wider, found "
            f"{ranked.shape}; rank k items and as many as the longest history has, and pad with -1"
        )
    if allowed is not None:
        items = ranked[(ranked >= 0) & (ranked < num_items)]
        outside = items[~allowed[items]]
        if outside.size:
            raise DataError(
                f"ranker {name}: expected only allowed items in its lists, found item index "
                f"{int(outside[0])}; give it the score minus infinity"
            )
