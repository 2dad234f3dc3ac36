"""The evaluation of a run: metrics with intervals beside the baselines, differences, slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from hidvae.apps.show.figures import grouped_bars, intervals
from hidvae.apps.show.formats import (
    bounds_of,
    difference,
    number,
    percent,
    score,
    score_with_interval,
)
from hidvae.apps.show.page import figures, heading, paragraph, table
from hidvae.errors import ArtifactError, NotTrainedError
from hidvae.evaluation.evaluate_run import METRICS, METRICS_FORMAT, rankers_of
from hidvae.run.run import Run
from hidvae.store.artifacts import read_json

Metrics = Mapping[str, Any]

MAIN_TASK = "test_excluding_history"
_RULES = {MAIN_TASK: "History excluded from the ranking", "test": "History included"}
_SLICES = {
    "target_popularity": ("Training events of the target", "training events of the target"),
    "history_length": ("Length of the history", "events of the history"),
}
_OF_LISTS = ("coverage", "novelty", "popularity_bias", "diversity")


def read_metrics(run: Path) -> Metrics:
    """``metrics.json`` of a run.

    Raises:
        NotTrainedError: If the run has not been evaluated, or nobody could be tested.
        ArtifactError: If it was evaluated by an older version.
    """
    folder = Run(run).folder("evaluation")
    if folder.config.get("metrics_format") != METRICS_FORMAT:
        raise ArtifactError(
            f"{folder.path} was written by another version; run `hidvae evaluate --output {run}`"
        )
    metrics: Metrics = read_json(folder.path / METRICS)
    if reason := metrics.get("not_tested"):
        raise NotTrainedError(reason)
    return metrics


def metric_parts(run: Path) -> Iterator[Markup]:
    """Every ranker on the test targets, by both history rules."""
    metrics = read_metrics(run)
    k = list_cutoff_of(metrics)
    rankers = rankers_of(metrics)
    yield paragraph(
        f"{number(metrics['test']['num_users'])} users, all items ranked, seed {metrics['seed']}; "
        "in brackets 95 % intervals over the users. Invalid recommendations: "
        f"{percent(metrics['test']['invalid_rate'])}."
    )
    for task, rule in _RULES.items():
        yield heading(rule)
        drawn = []
        for metric in (f"recall@{k}", f"ndcg@{k}"):
            values = [ranker[task][metric] for ranker in rankers.values()]
            bounds = [bounds_of(ranker[task], metric) for ranker in rankers.values()]
            name = f"{task}-{metric.partition('@')[0]}"
            drawn.append((metric, intervals(name, list(rankers), values, bounds, x=metric)))
        yield figures(drawn)
        rows = [
            (metric, *(score_with_interval(ranker[task], metric) for ranker in rankers.values()))
            for metric in _metric_names(metrics[task])
        ]
        yield table(rows, ("", *rankers), numbers=range(1, len(rankers) + 1))


def difference_parts(run: Path) -> Iterator[Markup]:
    """Each mode of the run minus each baseline, paired by user."""
    metrics = read_metrics(run)
    if not metrics["comparisons"]:
        yield paragraph("Nothing to compare with (EvaluationConfig.bootstrap_samples, .baselines).")
    for own, others in metrics["comparisons"].items():
        yield heading(f"{own} minus …")
        for task, rule in _RULES.items():
            names = list(next(iter(others.values()))[task])
            rows = [
                (other, *(difference(found[task][name]) for name in names))
                for other, found in others.items()
            ]
            header = (rule, *names)
            yield table(rows, header, numbers=range(1, len(names) + 1))


def slice_parts(run: Path) -> Iterator[Markup]:
    """Metrics by popularity of the target, by length of the history, and on cold items."""
    metrics = read_metrics(run)
    rankers, k = rankers_of(metrics), list_cutoff_of(metrics)
    for key, (title, of_what) in _SLICES.items():
        yield heading(title)
        buckets = [bucket["bucket"] for bucket in metrics[MAIN_TASK]["slices"][key]]
        users = [bucket["num_users"] for bucket in metrics[MAIN_TASK]["slices"][key]]
        found = {name: ranker[MAIN_TASK]["slices"][key] for name, ranker in rankers.items()}
        metric_values = {
            metric: {name: [b[metric] for b in of_ranker] for name, of_ranker in found.items()}
            for metric in (f"recall@{k}", f"ndcg@{k}")
        }
        values = metric_values[f"ndcg@{k}"]
        drawn = grouped_bars(f"slice-{key}", buckets, values, x=of_what, y=f"ndcg@{k}")
        yield figures([(f"ndcg@{k} on test, history excluded", drawn)])
        for metric, values in metric_values.items():
            rows = [
                (bucket, number(users[row]), *(score(values[name][row]) for name in rankers))
                for row, bucket in enumerate(buckets)
            ]
            header = (metric, "users", *rankers)
            yield table(rows, header, numbers=range(1, len(rankers) + 2))
    yield heading("Cold items")
    yield from _cold(metrics, k)


def list_cutoff_of(metrics: Metrics) -> str:
    """The cut-off k of what is measured on lists: 10, or what the run has instead."""
    return next(name.partition("@")[2] for name in metrics["test"] if name.startswith("coverage@"))


def _cold(metrics: Metrics, k: str) -> Iterator[Markup]:
    if "cold" not in metrics:
        cold = metrics[MAIN_TASK]
        yield paragraph(
            "No item was held out of everything (DatasetConfig.cold_item_share). Targets without a "
            f"training event: {number(cold['cold_num_users'])} users, "
            f"recall@{k} {score(cold[f'cold_recall@{k}'])}."
        )
        return
    guess = metrics["random_guess"]
    yield paragraph(
        f"{number(guess['num_cold_items'])} items were held out of everything but the test; here "
        "they are ranked among themselves."
    )
    task = "cold_excluding_history"
    rankers = rankers_of(metrics)
    rows = [
        (
            metric,
            *(score_with_interval(ranker[task], metric) for ranker in rankers.values()),
            score(guess[metric]),
        )
        for metric in (f"recall@{k}", f"ndcg@{k}")
    ]
    yield table(rows, ("", *rankers, "a random order"), numbers=range(1, len(rankers) + 2))


def _metric_names(metrics: Metrics) -> list[str]:
    return [
        name
        for name in metrics
        if name.partition("@")[0] in ("recall", "ndcg", *_OF_LISTS) and not name.endswith("_ci")
    ]
