"""The stage evaluate: score a trained run by item, beside its baselines.

The only place where the test targets are ranked. Validation is scored here once more, with the
final model and all users, so that both splits are measured alike.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hidvae.artifacts import StageFolder, read_json, read_stage, write_json, write_stage
from hidvae.baselines.untrained import ContentGraph, Popularity, item_popularity
from hidvae.config import EvaluationConfig, RunConfig
from hidvae.data.prepare import Dataset, load_dataset
from hidvae.errors import ConfigError
from hidvae.evaluation.evaluate import EvaluationResult, Ranker, evaluate_ranker
from hidvae.features.embeddings import load_embeddings
from hidvae.features.tags.vocabulary import load_tags
from hidvae.recommender import Recommender

logger = logging.getLogger(__name__)

METRICS = "metrics.json"
BASELINES = ("popularity", "content_graph")
_LOG_EVERY_SECONDS = 30.0


def evaluate_run(
    config: EvaluationConfig,
    run: RunConfig,
    folders: Mapping[str, StageFolder],
    wall_seconds: Mapping[str, float],
    output: Path,
) -> StageFolder:
    """Score the recommender and the baselines on test and validation; write ``metrics.json``.

    Args:
        config: Cut-offs, beam width, baselines.
        run: Seed of the resamples, device.
        folders: The earlier stage folders of one run, by name.
        wall_seconds: Wall time of the earlier commands, kept with the metrics.
        output: The stage folder to write.

    Raises:
        ConfigError: If a baseline is unknown.
    """
    started = time.perf_counter()
    dataset = load_dataset(folders["dataset"])
    baselines = [_baseline(name, dataset, folders["embeddings"]) for name in config.baselines]
    recommender = Recommender.load(folders["retriever"].path.parent, run.device)
    recommender.beam_width = config.beam_width
    with write_stage(
        output,
        stage="evaluate",
        config=dataclasses.asdict(config),
        inputs={name: folder.fingerprint for name, folder in folders.items()},
        seed=run.seed,
    ) as writer:
        metrics: dict[str, Any] = {}
        by_baseline: dict[str, Any] = {ranker.name: {} for ranker in baselines}
        for split in ("test", "validation"):
            metrics |= _by_protocol(
                split, _score(recommender, split, dataset, folders, config, run)
            )
            for ranker in baselines:
                scored = _score(ranker, split, dataset, folders, config, run)
                by_baseline[ranker.name] |= _by_protocol(split, scored)
        metrics["baselines"] = by_baseline
        metrics["seed"] = run.seed
        metrics["semantic_ids"] = read_json(folders["semantic_ids"].path / "quality.json")
        own_seconds = round(time.perf_counter() - started, 3)
        metrics["wall_seconds"] = {**wall_seconds, "evaluate": own_seconds}
        write_json(writer.path / METRICS, metrics)
        writer.metrics |= metrics
    return read_stage(output, produced_by="hidvae evaluate")


def _baseline(name: str, dataset: Dataset, embeddings: StageFolder) -> Ranker:
    num_items = dataset.catalogue.num_items
    if name == "popularity":
        return Popularity(dataset.split.train, num_items)
    if name == "content_graph":
        content = load_embeddings(embeddings).content
        return ContentGraph(dataset.split.train, num_items, content if content.shape[1] else None)
    raise ConfigError(
        f"EvaluationConfig.baselines: expected some of {', '.join(BASELINES)}; found {name!r}"
    )


def _score(
    ranker: Ranker,
    split: str,
    dataset: Dataset,
    folders: Mapping[str, StageFolder],
    config: EvaluationConfig,
    run: RunConfig,
) -> EvaluationResult:
    is_test = split == "test"
    num_items = dataset.catalogue.num_items
    return evaluate_ranker(
        ranker,
        dataset.split.test_histories if is_test else dataset.split.validation_histories,
        dataset.split.test_targets if is_test else dataset.split.validation_targets,
        num_items=num_items,
        cutoffs=config.cutoffs,
        popularity=item_popularity(dataset.split.train, num_items),
        tags=load_tags(folders["tags"]).ids,
        bootstrap_samples=config.bootstrap_samples,
        seed=run.seed,
        batch_size=config.batch_size,
        on_progress=_progress(f"{ranker.name} on {split}"),
    )


def _by_protocol(split: str, result: EvaluationResult) -> dict[str, Any]:
    return {split: result.including, f"{split}_excluding_history": result.excluding}


def _progress(what: str) -> Callable[[int, int], None]:
    """A line at the end, and every half minute on the way."""
    last = time.perf_counter()

    def report(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.perf_counter() - last > _LOG_EVERY_SECONDS:
            last = time.perf_counter()
            logger.info("%s: %d of %d users ranked", what, done, total)

    return report
