"""The stage evaluate: score a trained run by item, beside its baselines.

The only place where the test targets are ranked, once per ranker. Validation is scored here once
more, with the final model and all users, so that both splits are measured alike. ``own_rankers``
says in which modes the run itself is scored.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hidvae.config import Config, EvaluationConfig
from hidvae.data.interactions import Sequences, count_items
from hidvae.data.split import Split, choose_users
from hidvae.evaluation.baselines.by_name import (
    ALL,
    BASELINES,
    build_baseline,
    chosen_baselines,
)
from hidvae.evaluation.evaluate_ranker import (
    EvaluationResult,
    Protocol,
    Ranker,
    compare,
    evaluate_ranker,
    list_cutoff,
)
from hidvae.evaluation.metrics import ndcg_at, recall_at
from hidvae.evaluation.slices import slice_metrics
from hidvae.log import in_stage
from hidvae.ranking.ranker import GenerativeRanker
from hidvae.store.artifacts import StageWriter, read_json, write_json

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from hidvae.run.run import Run

METRICS = "metrics.json"
RANKS = "ranks.parquet"
MODEL_ALONE = "hidvae, model alone"
"""The generator without the item graph at decoding."""
SUFFIX: dict[Protocol, str] = {"including": "", "excluding": "_excluding_history"}
"""What a history rule adds to the name of a task."""
METRICS_FORMAT = 2
"""Raised when the keys of metrics.json change, so that older evaluations are made again."""
NOBODY = "no user has three events, so nobody could be tested, and there are no metrics"
"""In metrics.json as ``not_tested``, where that is so."""
_LOG_EVERY_SECONDS = 30.0
_SCORES_AT_ONCE = 2**27  # half a gigabyte


IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Task:
    """Targets to rank: a split of the log, and what may be ranked."""

    name: str
    """test, validation or cold; with a suffix per history rule, a key of the metrics."""
    users: IntArray
    """(V,) rows of the users in the dataset."""
    histories: Sequences
    """(V) what the rankers are given."""
    targets: IntArray
    """(V,) item_index."""
    allowed: npt.NDArray[np.bool_] | None = None
    """(N,) the items that may be ranked; None means all."""


Results = dict[str, EvaluationResult]
"""One ranker's results by task."""


def own_rankers(run: Run, config: EvaluationConfig) -> dict[str, Ranker]:
    """The modes in which the run itself is scored, by name; the first is the main one.

    Items that were added or removed since the training play no part. The main one's metrics stand
    at the top of ``metrics.json``, further ones under ``variants``.
    """
    recommender = run.as_trained
    recommender.beam_width = config.beam_width
    rankers: dict[str, Ranker] = {recommender.name: recommender}
    if recommender.graph is not None or recommender.reranker is not None:
        rankers[MODEL_ALONE] = GenerativeRanker(
            recommender.retriever, config.beam_width, recommender.max_history, name=MODEL_ALONE
        )
    return rankers


def tasks_of(split: Split, num_items: int, max_users: int = 0, seed: int = 0) -> list[Task]:
    """Test, validation, and where items are held out, the test among these items alone.

    Args:
        split: Of the dataset.
        num_items: N.
        max_users: Most users of each, drawn; 0 takes all.
        seed: Of the draw.
    """

    def task(
        name: str,
        users: npt.NDArray[np.int64],
        histories: Sequences,
        targets: npt.NDArray[np.int64],
    ) -> Task:
        rows = choose_users(len(users), max_users, seed)
        return Task(name, users[rows], histories.take(rows), targets[rows])

    test = task("test", split.test_users, split.test_histories, split.test_targets)
    tasks = [
        test,
        task(
            "validation",
            split.validation_users,
            split.validation_histories,
            split.validation_targets,
        ),
    ]
    if split.cold_items.size:
        is_cold = np.zeros(num_items, dtype=np.bool_)
        is_cold[split.cold_items] = True
        tasks.append(dataclasses.replace(test, name="cold", allowed=is_cold))
    return tasks


def evaluation_settings(config: Config) -> dict[str, Any]:
    """The settings that change the stage's result, as its manifest keeps them."""
    settings = {**dataclasses.asdict(config.evaluation), "metrics_format": METRICS_FORMAT}
    if ALL in config.evaluation.baselines:  # of another version it stands for others
        settings["all_baselines"] = BASELINES
    if {"sasrec", "sasrec_content", ALL} & {*config.evaluation.baselines}:
        settings["sasrec"] = dataclasses.asdict(config.sasrec)
    return settings


def evaluate_run(run: Run, config: Config, stage: StageWriter) -> None:
    """Score the run and the baselines; write ``metrics.json`` and ``ranks.parquet``.

    One ranker is in memory at a time. Baselines that are trained and not there yet are trained,
    below the run in ``baselines``.

    Raises:
        ConfigError: If a baseline is unknown.
    """
    settings, seed = config.evaluation, config.run.seed
    baseline_names = chosen_baselines(settings.baselines, run.embeddings)
    dataset = run.dataset
    num_items = dataset.catalogue.num_items
    tasks = tasks_of(dataset.split, num_items, settings.max_users, seed)
    popularity = count_items(dataset.split.train, num_items)
    score = partial(
        _score,
        tasks=tasks,
        popularity=popularity,
        tags=run.tags.ids,
        config=settings,
        seed=seed,
    )
    if not tasks[0].targets.size:
        stage.decide(NOBODY)
    started = time.perf_counter()
    own = {name: score(name, ranker) for name, ranker in own_rankers(run, settings).items()}
    own_seconds = time.perf_counter() - started
    baselines: dict[str, Results] = {}
    for name in baseline_names:
        with in_stage(name):
            ranker = build_baseline(name, run, config)
        baselines[name] = score(name, ranker)
    all_seconds = time.perf_counter() - started
    described = partial(_described, tasks=tasks, popularity=popularity, config=settings)
    main, *further = own
    num_cold = dataset.split.cold_items.size
    metrics = {
        **described(own[main]),
        "variants": {name: described(own[name]) for name in further},
        "baselines": {name: described(results) for name, results in baselines.items()},
        "comparisons": _comparisons(own, baselines, settings, seed),
        **({} if tasks[0].targets.size else {"not_tested": NOBODY}),
        **({"random_guess": _random_guess(num_cold, settings)} if num_cold else {}),
        "seed": seed,
        "semantic_ids": read_json(run.folder("semantic_ids").path / "quality.json"),
        "wall_seconds": {
            **run.wall_seconds(stage.inputs),
            "evaluate": round(own_seconds, 3),
            "baselines": round(all_seconds - own_seconds, 3),
        },
    }
    write_json(stage.path / METRICS, metrics)
    frame = _ranks_frame({**own, **baselines}, tasks, max(settings.cutoffs))
    frame.write_parquet(stage.path / RANKS)
    stage.metrics |= metrics


def rankers_of(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What ``metrics.json`` holds of each ranker, by name: the run's modes, then the baselines."""
    return {"hidvae": metrics, **metrics["variants"], **metrics["baselines"]}


def _score(
    name: str,
    ranker: Ranker,
    *,
    tasks: list[Task],
    popularity: npt.NDArray[np.int64],
    tags: npt.NDArray[np.integer],
    config: EvaluationConfig,
    seed: int,
) -> Results:
    """Rank the targets of every task."""
    return {
        task.name: evaluate_ranker(
            ranker,
            task.histories,
            task.targets,
            num_items=popularity.size,
            cutoffs=config.cutoffs,
            popularity=popularity,
            tags=tags,
            seed=seed,
            batch_size=users_at_once(popularity.size),
            user_index=task.users,
            allowed=task.allowed,
            on_progress=_progress(f"{name} on {task.name}"),
        )
        for task in tasks
    }


def _random_guess(num_cold: int, config: EvaluationConfig) -> dict[str, Any]:
    """What a random order of the held-out items scores on the task cold: the floor."""
    ranks = np.arange(1, num_cold + 1)  # each is equally likely
    metrics = {"recall": recall_at, "ndcg": ndcg_at}
    return {
        "num_cold_items": num_cold,
        **{
            f"{name}@{k}": float(of(ranks, k).mean())
            for name, of in metrics.items()
            for k in config.cutoffs
        },
    }


def _described(
    results: Results,
    *,
    tasks: list[Task],
    popularity: npt.NDArray[np.int64],
    config: EvaluationConfig,
) -> dict[str, Any]:
    """One ranker's metrics and slices by task and history rule."""
    return {
        task.name + suffix: {
            **results[task.name].metrics(protocol),
            "slices": slice_metrics(
                results[task.name].ranks(protocol),
                popularity[task.targets],
                task.histories.lengths,
                list_cutoff(config.cutoffs),
            ),
        }
        for task in tasks
        for protocol, suffix in SUFFIX.items()
    }


def users_at_once(num_items: int) -> int:
    """Users that are ranked together: fewer the larger the catalogue, as baselines score it all."""
    return int(np.clip(_SCORES_AT_ONCE // num_items, 64, 2048))


def _comparisons(
    own: Mapping[str, Results],
    baselines: Mapping[str, Results],
    config: EvaluationConfig,
    seed: int,
) -> dict[str, Any]:
    """Paired differences: each mode of the run minus each baseline and each later mode.

    There are none where nobody is tested.
    """
    names = list(own)
    if not next(iter(own.values()))["test"].including_ranks.size:
        return {}
    comparisons: dict[str, Any] = {}
    for place, name in enumerate(names, start=1):
        others = {**{later: own[later] for later in names[place:]}, **baselines}
        if others:
            comparisons[name] = {
                other: _differences(own[name], results, config, seed)
                for other, results in others.items()
            }
    return comparisons


def _differences(
    first: Results, second: Results, config: EvaluationConfig, seed: int
) -> dict[str, dict[str, Any]]:
    """First minus second, by task and history rule, then by metric."""
    k = list_cutoff(config.cutoffs)
    differences: dict[str, dict[str, Any]] = {}
    for task in (task for task, result in first.items() if result.including_ranks.size):
        for protocol, suffix in SUFFIX.items():
            differences[task + suffix] = {
                f"{metric}@{k}": compare(
                    first[task],
                    second[task],
                    metric=metric,
                    k=k,
                    protocol=protocol,
                    seed=seed,
                ).to_json()
                for metric in ("recall", "ndcg")
            }
    return differences


def _ranks_frame(rankers: Mapping[str, Results], tasks: list[Task], longest: int) -> pl.DataFrame:
    """A row per user: the target's rank (0 below ``longest``), a column RANKER/KEY of each."""
    dtype = np.min_scalar_type(longest)  # one byte, unless somebody asks for more than 255 ranks
    frames = [
        pl.DataFrame(
            {
                "user_index": task.users,
                **{
                    f"{name}/{task.name}{suffix}": results[task.name].ranks(protocol).astype(dtype)
                    for name, results in rankers.items()
                    for protocol, suffix in SUFFIX.items()
                },
            }
        )
        for task in tasks
    ]
    return pl.concat(frames, how="align")


def _progress(what: str) -> Callable[[int, int], None]:
    """A line at the end, and every half minute on the way."""
    last = time.perf_counter()

    def report(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.perf_counter() - last > _LOG_EVERY_SECONDS:
            last = time.perf_counter()
            logger.info("%s: %d of %d users ranked", what, done, total)

    return report
