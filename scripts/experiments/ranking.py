"""Metrics of runs: the default beside the baselines, one part off in each row, cold items.

A baseline is trained once, with seed 0, and serves all seeds of ours.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
from scripts.experiments.runner import DEFAULT, Request, Trial, make_runs, public_settings

from hidvae.evaluation.bootstrap import paired_bootstrap
from hidvae.evaluation.evaluate_run import METRICS, RANKS, rankers_of
from hidvae.evaluation.metrics import ndcg_at, recall_at
from hidvae.ranking.graph_weight import CHOSEN
from hidvae.store.artifacts import read_json, read_stage
from hidvae.store.cache import CACHE_VARIABLE

FULL = "full"
K = 10
RESAMPLES = 1000

SHORT = [
    "TokenizerConfig.epochs=20",
    "RetrieverConfig.epochs=6",
    "GraphConfig.weights=(4.0,)",
    "GraphConfig.likeness_weights=(6.0,)",
    "EvaluationConfig.beam_width=20",
    "EvaluationConfig.cutoffs=(5, 10)",
]
"""The schedule and the search of every ablation row; graph and likeness have the weights that
validation mostly chooses, so that no row has to choose them again."""
NO_ALIGNMENT = "TokenizerConfig.tag_alignment_weight=0"
NO_PREDICTION = "TokenizerConfig.tag_prediction_weight=0"
PER_CODE = [
    "RetrieverConfig.architecture=item_decoder",
    "RetrieverConfig.dim=192",
    "RetrieverConfig.num_heads=4",
    "RetrieverConfig.dropout=0.3",
    "RetrieverConfig.batch_tokens=256",
    "RetrieverConfig.learning_rate=0.004",
    "RetrieverConfig.order_noise=1.5",
    "RetrieverConfig.weight_average=0",
]
"""The code decoder with the settings that were best for it (docs/experiments.md)."""
ABLATION: dict[str, list[str]] = {
    FULL: [],
    "without tags (no hierarchical supervision)": [NO_ALIGNMENT, NO_PREDICTION],
    "without tag alignment": [NO_ALIGNMENT],
    "without tag prediction": [NO_PREDICTION],
    "without uniqueness loss": ["TokenizerConfig.uniqueness_weight=0"],
    "without collaborative signal": ["EmbeddingConfig.cooccurrence_dim=0"],
    "without content input": ["RetrieverConfig.content_input=False"],
    "without codes in an item's vector": ["RetrieverConfig.code_input=False"],
    "one softmax per code (item_decoder)": PER_CODE,
    "… over whole codebooks, without prefix normalisation": [
        *PER_CODE,
        "RetrieverConfig.prefix_normalized=False",
    ],
    "without decode-time fusion": [
        "GraphConfig.weights=(0.0,)",
        "GraphConfig.likeness_weights=(0.0,)",
    ],
}
COLD = {"default": ["DatasetConfig.cold_item_share=0.05"]}


def final(request: Request) -> dict[str, Any]:
    """The default settings beside the baselines; wall time counts from the raw files on."""
    with (
        tempfile.TemporaryDirectory() as cache,
        patch.dict(os.environ, {CACHE_VARIABLE: cache}),  # no vector is there yet
    ):
        return _beside_baselines("final", request, DEFAULT)


def cold(request: Request) -> dict[str, Any]:
    """The same with items held out of training."""
    return _beside_baselines("cold", request, COLD)


def ablation(request: Request) -> dict[str, Any]:
    """One part off in each row, on a short schedule, without baselines."""
    rows = {row: [*SHORT, *settings] for row, settings in ABLATION.items()}
    bindings = {seed: ["EvaluationConfig.baselines=()"] for seed in range(request.num_seeds)}
    runs = make_runs("ablation", request, rows, bindings=bindings)
    ranks = {row: _ranks(of_row) for row, of_row in runs.items()}
    return {
        **_settings(request, SHORT),
        "rows": {
            row: _row(request, ABLATION[row], of_row, is_brief=True) for row, of_row in runs.items()
        },
        "comparisons": {row: compare_rows(of_row, ranks[FULL]) for row, of_row in ranks.items()},
    }


def _beside_baselines(
    name: str,
    request: Request,
    rows: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """One row of every seed; the first seed has the baselines."""
    bindings = {
        seed: [f"EvaluationConfig.baselines={() if seed else request.baselines}"]
        for seed in range(request.num_seeds)
    }
    ((row, runs),) = make_runs(name, request, rows, bindings=bindings).items()
    found = _row(request, rows[row], runs)
    return {
        **_settings(request),
        "rows": {row: found},
        "comparisons": compare_rankers(found["runs"], _ranks(runs)),
    }


def _settings(request: Request, overrides: Sequence[str] = ()) -> dict[str, Any]:
    files = [str(file) for file in request.files]
    return {"config_files": files, "overrides": [*request.overrides, *overrides]}


def _row(
    request: Request, settings: Sequence[str], runs: Sequence[Trial], is_brief: bool = False
) -> dict[str, Any]:
    """Settings and metrics of one row."""
    config = public_settings(runs[0].config, request.data)
    for section, name in (("run", "seed"), ("evaluation", "baselines")):
        del config[section][name]  # they differ between the runs of a row
    measured = [measure_run(run, is_brief) for run in runs]
    return {"overrides": list(settings), "config": config, "runs": measured}


def measure_run(run: Trial, is_brief: bool) -> dict[str, Any]:
    """Metrics of one run, with seed, commit, machine and wall time.

    Args:
        run: Made.
        is_brief: Keep the metrics of test alone, without slices.
    """
    retriever = read_stage(run.path / "retriever", produced_by="hidvae train")
    metrics = read_json(run.path / "evaluation" / METRICS)
    del metrics["comparisons"]  # of this seed alone; pooled ones are kept
    for scored in rankers_of(metrics).values():
        for key in [key for key in scored if key.startswith(("test", "validation", "cold"))]:
            if is_brief and not key.startswith("test"):
                del scored[key]
            elif is_brief:
                del scored[key]["slices"]
    return {
        "seed": run.config.run.seed,
        "commit": retriever.manifest["git_commit"],
        "machine": retriever.manifest["machine"],
        "num_parameters": retriever.facts["num_parameters"],
        "num_epochs": retriever.facts["num_epochs"],
        "chosen": {"epoch": retriever.metrics["best_epoch"], **_weights(run)},
        "metrics": metrics,
    }


def _weights(run: Trial) -> dict[str, float]:
    """What validation chose to add to the retriever's scores, by name."""
    chosen = read_json(run.path / "graph" / CHOSEN)
    return {name: value for name, value in chosen.items() if isinstance(value, float)}


def _ranks(runs: Sequence[Trial]) -> list[pl.DataFrame]:
    return [pl.read_parquet(run.path / "evaluation" / RANKS, glob=False) for run in runs]


def compare_rankers(
    runs: Sequence[dict[str, Any]], ranks: Sequence[pl.DataFrame]
) -> dict[str, dict[str, Any]]:
    """Each mode of ours minus each baseline and each later mode, pooled over the seeds."""
    names = list(rankers_of(runs[0]["metrics"]))
    own = [name for name in names if name not in runs[0]["metrics"]["baselines"]]
    return {
        name: {other: paired_differences(ranks, name, ranks, other) for other in names[place:]}
        for place, name in enumerate(own, start=1)
    }


def compare_rows(
    ranks: Sequence[pl.DataFrame], full: Sequence[pl.DataFrame]
) -> dict[str, dict[str, Any]]:
    """Each mode of an ablation row minus the same mode of the full model."""
    modes = {column.partition("/")[0]: None for column in ranks[0].columns if "/" in column}
    return {mode: paired_differences(ranks, mode, full, mode) for mode in modes}


def paired_differences(
    first: Sequence[pl.DataFrame], name: str, second: Sequence[pl.DataFrame], other: str
) -> dict[str, dict[str, Any]]:
    """One ranker minus another by key of the metrics; per user the mean over the seeds.

    Args:
        first: ``ranks.parquet`` of each seed.
        name: Ranker of ``first``.
        second: The same users' ranks, of as many seeds as there are.
        other: Ranker of ``second``; a baseline stands in the first seed alone.
    """
    differences: dict[str, dict[str, Any]] = {}
    for column in first[0].columns:
        ranker, _, key = column.partition("/")
        if ranker == name and not key.startswith("validation"):
            differences[key] = {
                f"{metric}@{K}": paired_bootstrap(
                    user_means(first, column, metric),
                    user_means(second, f"{other}/{key}", metric),
                    RESAMPLES,
                    np.random.default_rng(0),
                ).to_json()
                for metric in ("recall", "ndcg")
            }
    return differences


def user_means(ranks: Sequence[pl.DataFrame], column: str, metric: str) -> np.ndarray:
    """(U,) a metric of each user who has a rank there, mean over the seeds that have it."""
    of_user = {"recall": recall_at, "ndcg": ndcg_at}[metric]
    values = [
        of_user(frame[column].drop_nulls().to_numpy(), K)
        for frame in ranks
        if column in frame.columns
    ]
    means: np.ndarray = np.mean(values, axis=0)
    return means
