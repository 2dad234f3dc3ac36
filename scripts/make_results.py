"""Run the experiments behind docs/results.md, and write that page from what they measured.

    python scripts/make_results.py run --data FOLDER --rows final      # default config + baselines
    python scripts/make_results.py run --data FOLDER --rows ablation   # one part off in each row
    python scripts/make_results.py run --data FOLDER --rows cold       # items held out of training
    python scripts/make_results.py run --data FOLDER --rows final --seeds 1 --config FILE.gin
    python scripts/make_results.py page                                # results/*.json -> the page

Each experiment is an ordinary run under runs/results/; one that is there and whole is not repeated,
and a stage that another of them has made with the same settings, inputs and seed is copied. With
--jobs they run side by side (set OMP_NUM_THREADS to the cores that each may have).
Baselines are trained once, with seed 0. Delete runs/results/ after a change to the code.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from results_page import write_page

from hidvae.config import Config, load_config
from hidvae.evaluation.baselines.by_name import ALL
from hidvae.evaluation.bootstrap import paired_bootstrap
from hidvae.evaluation.evaluate_run import METRICS, RANKS, rankers_of
from hidvae.evaluation.metrics import ndcg_at, recall_at
from hidvae.run.run import Run
from hidvae.store.artifacts import read_json, write_json

RUNS = Path("runs/results")
RESULTS = Path("results")
PAGE = Path("docs/results.md")
FULL = "full"
K = 10
RESAMPLES = 1000

SHORT = [
    "TokenizerConfig.epochs=20",
    "RetrieverConfig.epochs=6",
    "GraphConfig.weights=(4.0,)",
    "EvaluationConfig.beam_width=20",
    "EvaluationConfig.cutoffs=(5, 10)",
]
"""The schedule and the search of every ablation row; the graph's weight is the one that validation
mostly chooses, so that no row has to choose it again."""
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
    "without decode-time fusion": ["GraphConfig.weights=(0.0,)"],
}
ROWS: dict[str, dict[str, list[str]]] = {
    "final": {"default": []},
    "ablation": {row: [*SHORT, *overrides] for row, overrides in ABLATION.items()},
    "cold": {"default": ["DatasetConfig.cold_item_share=0.05"]},
}
"""Per kind of experiment: row -> settings; every row is run with every seed."""


def main() -> None:
    """Parse the command line and run."""
    start_log()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run experiments and keep what they measured")
    run.add_argument("--data", type=Path, required=True, help="folder with items and interactions")
    run.add_argument("--rows", choices=tuple(ROWS), required=True)
    run.add_argument("--seeds", type=int, default=3, help="seeds of every row, from 0 on")
    run.add_argument(
        "--config", type=Path, action="append", default=[], help="gin file; repeatable"
    )
    run.add_argument(
        "--set", action="append", default=[], dest="overrides", help="setting of every row"
    )
    run.add_argument(
        "--baselines", nargs="+", default=[ALL], help="of the final and cold rows; all by default"
    )
    run.add_argument("--jobs", type=int, default=1, help="experiments that run side by side")
    commands.add_parser("page", help="write docs/results.md from results/*.json")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run_rows(
            arguments.data,
            arguments.rows,
            arguments.seeds,
            arguments.config,
            arguments.overrides,
            tuple(arguments.baselines),
            arguments.jobs,
        )
    write_page(RESULTS, PAGE)


def start_log() -> None:
    """Log of this process to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")


def run_rows(
    data: Path,
    kind: str,
    num_seeds: int,
    files: Sequence[Path],
    overrides: Sequence[str],
    baselines: tuple[str, ...] = (ALL,),
    num_jobs: int = 1,
) -> None:
    """Run every row with every seed; what is measured is stored after each row."""
    measured: dict[str, Any] = {
        "config_files": [str(file) for file in files],
        "overrides": [*overrides, *(SHORT if kind == "ablation" else [])],
        "rows": {},
        "comparisons": {},
    }
    ranks: dict[str, list[pl.DataFrame]] = {}
    is_brief = kind == "ablation"
    folder = RUNS / data.name / kind
    experiments: dict[str, list[tuple[Config, Path]]] = {row: [] for row in ROWS[kind]}
    for seed in range(num_seeds):
        for row, settings in ROWS[kind].items():
            # One training of a baseline serves all seeds of ours, and no ablation needs one.
            of_seed = baselines if not is_brief and seed == 0 else ()
            bindings = [
                f"DatasetConfig.folder={data}",
                # In a final row, wall time counts from the raw files on.
                f"EmbeddingConfig.use_cache={kind != 'final'}",
                f"RunConfig.seed={seed}",
                f"EvaluationConfig.baselines={of_seed}",
            ]
            config = load_config(files, [*overrides, *settings, *bindings])
            experiments[row].append((config, folder / f"{_slug(row)}-seed-{seed}"))
    if num_jobs > 1:
        run_side_by_side(experiments, is_brief, num_jobs)
    for row, settings in ROWS[kind].items():
        runs = [run_experiment(config, output, is_brief) for config, output in experiments[row]]
        measured["rows"][row] = {
            "overrides": [name for name in settings if name not in SHORT],
            "config": _public(experiments[row][0][0], data),
            "runs": runs,
        }
        ranks[row] = [
            pl.read_parquet(output / "evaluation" / RANKS) for _, output in experiments[row]
        ]
        if is_brief:
            measured["comparisons"][row] = compare_rows(ranks[row], ranks[FULL])
        else:
            measured["comparisons"] = compare_rankers(runs, ranks[row])
        RESULTS.mkdir(exist_ok=True)
        write_json(RESULTS / f"{data.name}-{kind}.json", measured)


def run_side_by_side(
    experiments: Mapping[str, Sequence[tuple[Config, Path]]], is_brief: bool, num_jobs: int
) -> None:
    """Run all experiments, several at a time, seed by seed; the first alone, as all share stages.

    Each is a process of its own, started afresh: a forked one could not use a GPU.
    """
    by_seed = [each for of_seed in zip(*experiments.values(), strict=True) for each in of_seed]
    run_experiment(*by_seed[0], is_brief)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_jobs, mp_context=context, initializer=start_log) as pool:
        waiting = [pool.submit(run_experiment, *each, is_brief) for each in by_seed[1:]]
        for each in waiting:
            each.result()


def run_experiment(config: Config, output: Path, is_brief: bool) -> dict[str, Any]:
    """One run; its metrics with seed, commit, machine and wall time.

    Args:
        config: All settings.
        output: The run.
        is_brief: Keep the metrics of test alone, without slices.
    """
    others = sorted(RUNS.glob("*/*/*/"))
    folders = Run(output).make(config, reuse=[run for run in others if run != output])
    manifest = folders["retriever"].manifest
    metrics = read_json(output / "evaluation" / METRICS)
    del metrics["comparisons"]  # of this seed alone; pooled ones are kept
    for scored in rankers_of(metrics).values():
        for key in [key for key in scored if key.startswith(("test", "validation", "cold"))]:
            if is_brief and not key.startswith("test"):
                del scored[key]
            elif is_brief:
                del scored[key]["slices"]
    return {
        "seed": config.run.seed,
        "commit": manifest["git_commit"],
        "machine": manifest["machine"],
        "num_parameters": folders["retriever"].facts["num_parameters"],
        "num_epochs": folders["retriever"].facts["num_epochs"],
        "metrics": metrics,
    }


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


def _public(config: Config, data: Path) -> dict[str, Any]:
    settings = config.to_json()
    settings["dataset"]["folder"] = data.name  # where it lies is nobody's business
    for section, name in (("run", "seed"), ("evaluation", "baselines")):
        del settings[section][name]  # they differ between the runs of a row
    return settings


def _slug(row: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in row).split())


if __name__ == "__main__":
    main()
