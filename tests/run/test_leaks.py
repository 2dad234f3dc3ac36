"""What nobody may know before the test, the test targets, changes nothing that is tested.

The last event of every user gets another item in the raw log. What each part of a run then makes,
from the vectors to the lists of the rankers, must be what it was. To know that a leak would be
noticed, every part that reads events is also made with a dataset that shows it the test.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hidvae.config import Config, load_config
from hidvae.data import prepare
from hidvae.data.interactions import Sequences, count_items
from hidvae.data.prepare import Dataset
from hidvae.data.schema import Columns
from hidvae.data.sources.demo import generate_demo
from hidvae.data.sources.frames import tables_from
from hidvae.data.split import Split, leave_one_out
from hidvae.evaluation.baselines import tiger
from hidvae.evaluation.baselines.by_name import BASELINES, build_baseline
from hidvae.evaluation.evaluate_run import MODEL_ALONE, own_rankers, tasks_of
from hidvae.ranking.ranker import Ranker
from hidvae.run.run import Run
from hidvae.run.stages import STAGE_OF
from hidvae.store.artifacts import MANIFEST, StageFolder, read_stage

STAGES = tuple(name for name in STAGE_OF if name != "evaluation")
TRAINED_BY_ARCHITECTURE = ("retriever", "graph", "hidvae")
PARTS = (*STAGES, "hidvae", *BASELINES)
ARCHITECTURES = ("item_softmax", "item_decoder")
TOP_K = 10
NUM_NEVER_BOUGHT = 10
"""Items without a training event, which test targets may be."""

Leak = Callable[[Dataset], Dataset]


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Names of the parts that made something else."""
    return [name for name in first if first[name] != second[name]]


def made_by(run: Run, config: Config, parts: Iterable[str]) -> dict[str, Any]:
    """What parts of a run make that the test targets must not change, as plain values."""
    return {part: _made_by(run, config, part) for part in parts}


def _made_by(run: Run, config: Config, part: str) -> Any:
    if part in STAGE_OF:
        folder = run.make_stage(STAGE_OF[part], config)
        if part == "dataset":  # whose events are the test targets too
            files = {**folder.manifest["files"], prepare.EVENTS_FILE: None}
            task = tasks_of(run.dataset.split, run.dataset.catalogue.num_items)[0]
            histories = (_bytes(run.dataset.split.train), _bytes(task.histories))
            return folder.facts, files, task.users.tolist(), histories
        return _content(folder)
    if part == "hidvae":
        return {
            name: _lists(ranker, run)
            for name, ranker in own_rankers(run, config.evaluation).items()
        }
    lists = _lists(build_baseline(part, run, config), run)
    below = (run.path / "baselines" / part).rglob(MANIFEST)
    trained = [read_stage(file.parent, produced_by="hidvae evaluate") for file in sorted(below)]
    return lists, [_content(folder) for folder in trained]


def _content(folder: StageFolder) -> tuple[Any, ...]:
    """What a stage wrote and measured; on validation, also where the choice is the same."""
    metrics = {name: value for name, value in folder.metrics.items() if name != "seconds"}
    return folder.fingerprint, folder.facts, metrics


def _lists(ranker: Ranker, run: Run) -> tuple[bytes, bytes]:
    """The lists of all test users with their scores, after the histories of the evaluation."""
    dataset = run.dataset
    test = tasks_of(dataset.split, dataset.catalogue.num_items)[0]
    ranked = ranker.rank(test.histories, TOP_K, test.users, test.allowed)
    return ranked.items.tobytes(), ranked.scores.tobytes()


def _bytes(sequences: Sequences) -> tuple[bytes, bytes]:
    return sequences.items.tobytes(), sequences.offsets.tobytes()


def raw_tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    """The demo's, and some items that nobody has bought yet."""
    demo = generate_demo(num_items=110, num_users=200)
    new = demo.items.head(NUM_NEVER_BOUGHT).with_columns(
        pl.concat_str(Columns.ITEM, pl.lit("-new")).alias(Columns.ITEM)
    )
    return pl.concat([demo.items, new]), demo.interactions


def with_other_targets(items: pl.DataFrame, log: pl.DataFrame) -> pl.DataFrame:
    """The log with another item in the last event of every user; nothing else is changed.

    Every third user gets the item of an earlier event, as repeats are counted; every third one an
    item without events, as cold items are; the others any item, so that counts and pairs change.
    """
    generator = np.random.default_rng(3)
    log = log.with_row_index("row").sort(Columns.USER, Columns.TIMESTAMP)
    item_ids = items[Columns.ITEM].to_list()
    rows, targets = [], []
    for number, (_, events) in enumerate(log.group_by(Columns.USER, maintain_order=True)):
        *history, target = events[Columns.ITEM].to_list()
        choices = (history, item_ids[-NUM_NEVER_BOUGHT:], item_ids)[number % 3]
        others = [item for item in choices if item != target]
        rows.append(events["row"][-1])
        targets.append(others[generator.integers(len(others))])
    changed = pl.DataFrame({"row": rows, "target": targets}, schema_overrides={"row": pl.UInt32})
    return (
        log.join(changed, on="row", how="left")
        .with_columns(pl.coalesce("target", Columns.ITEM).alias(Columns.ITEM))
        .sort("row")
        .drop("row", "target")
    )


@pytest.fixture(scope="module", autouse=True)
def small_tiger() -> Iterator[None]:
    """TIGER with the sizes of the tiny run; its own take minutes."""
    with pytest.MonkeyPatch.context() as patch:
        tokenizer = dataclasses.replace(
            tiger.TOKENIZER, codebook_size=16, hidden_dims=(32,), latent_dim=8, epochs=2
        )
        retriever = dataclasses.replace(
            tiger.RETRIEVER,
            dim=16,
            num_layers=1,
            num_heads=2,
            max_history=10,
            epochs=2,
            validate_every=1,
        )
        patch.setattr(tiger, "TOKENIZER", tokenizer)
        patch.setattr(tiger, "RETRIEVER", retriever)
        patch.setattr(tiger, "BEAM_WIDTH", TOP_K)
        yield


@pytest.fixture(scope="module")
def configs(tiny_settings: list[str]) -> dict[str, Config]:
    """By architecture."""
    small = [
        "GraphConfig.weights=(0, 2, 8)",
        "SasRecConfig.dim=16",
        "SasRecConfig.epochs=2",
    ]
    return {
        name: load_config([], [*tiny_settings, *small, f"RetrieverConfig.architecture={name}"])
        for name in ARCHITECTURES
    }


Pair = tuple[Run, Run]
"""Runs of the log as it is and of the one with other targets."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Both still empty."""
    items, log = raw_tables()
    runs = []
    for name, events in (("first", log), ("second", with_other_targets(items, log))):
        run = Run(tmp_path_factory.mktemp("leaks") / name, "cpu")
        run.tables = tables_from(items, events)
        runs.append(run)
    return runs[0], runs[1]


@pytest.fixture(scope="module")
def made(pair: Pair, configs: dict[str, Config]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What all parts of both made; the stages that the mutants are made from."""
    first, second = (made_by(run, configs["item_softmax"], PARTS) for run in pair)
    return first, second


def borrowing(run: Run, path: Path) -> Run:
    """An empty run that takes every stage that it does not make itself from another."""
    other = Run(path, "cpu", borrowed={name: run.folder(name) for name in STAGES})
    other.tables = run.tables
    return other


def test_only_the_test_targets_were_changed(pair: Pair, made: Any) -> None:
    first, second = (run.dataset for run in pair)
    split = first.split
    assert first.catalogue.frame.equals(second.catalogue.frame)
    assert (split.sequences.items != second.split.sequences.items).sum() == len(split.test_users)
    assert (split.test_targets != second.split.test_targets).all()
    assert not first.warm_items.all()


def test_no_part_knows_the_test_targets(made: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert list(made[0]) == [*STAGES, "hidvae", *BASELINES]
    assert differences(*made) == []


def test_no_part_of_the_generator_knows_them(
    pair: Pair, made: Any, configs: dict[str, Config], tmp_path: Path
) -> None:
    runs = (borrowing(run, tmp_path / run.path.name) for run in pair)
    config = configs["item_decoder"]
    first, second = (made_by(run, config, TRAINED_BY_ARCHITECTURE) for run in runs)
    assert differences(first, second) == []
    assert first["retriever"] != made[0]["retriever"]


def test_both_modes_of_the_run_are_compared(made: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert set(made[0]["hidvae"]) == {"hidvae", MODEL_ALONE}


# Mutants: what a part would do if it were given the test


def leaky(split: Split, **shown: Any) -> Split:
    """The split with some of what it gives to everybody replaced."""
    same = {
        name: getattr(split, name)
        for name in ("train", "validation_users", "validation_histories", "validation_targets")
    }
    copy = dataclasses.replace(split)
    vars(copy).update({**same, **shown})  # in the place of the cached properties
    return copy


def trains_on_test(dataset: Dataset) -> Dataset:
    """All events of warm items to learn from."""
    events = dataset.split.sequences
    train = events.where(dataset.warm_items[events.items])
    copy = dataclasses.replace(dataset, split=leaky(dataset.split, train=train))
    vars(copy)["warm_items"] = dataset.warm_items
    return copy


def validates_on_test(dataset: Dataset) -> Dataset:
    """Choices, of an epoch or a weight, are made on the test."""
    split = dataset.split
    shown = {
        f"validation_{name}": getattr(split, f"test_{name}")
        for name in ("users", "histories", "targets")
    }
    return dataclasses.replace(dataset, split=leaky(split, **shown))


def warms_by_test(dataset: Dataset) -> Dataset:
    """Items of the test alone count as warm."""
    copy = dataclasses.replace(dataset)
    counts = count_items(dataset.split.sequences, dataset.catalogue.num_items)
    vars(copy)["warm_items"] = counts > 0
    return copy


def asks_with_the_target(dataset: Dataset) -> Dataset:
    """The history that a ranker is given ends with what it should find."""
    split = leaky(dataset.split, test_histories=dataset.split.sequences)
    return dataclasses.replace(dataset, split=split)


MUTANTS: dict[Leak, tuple[str, ...]] = {
    trains_on_test: (
        *("embeddings", "likeness", "retriever", "graph", "reranker"),
        *("popularity", "content_graph", "item_knn", "ease"),
        *("sasrec", "sasrec_content", "sasrec_reranked", "tiger"),
    ),
    validates_on_test: (
        *("retriever", "graph", "reranker"),
        *("sasrec", "sasrec_content", "sasrec_reranked", "tiger"),
    ),
    warms_by_test: ("retriever", "hidvae", "sasrec_content"),
    asks_with_the_target: (
        *("hidvae", "text_similarity", "content_graph", "item_knn", "ease"),
        *("sasrec", "sasrec_content"),
    ),
}
"""What each part that reads events could do wrong; the others are given none."""


@pytest.mark.parametrize(
    ("part", "leak", "architecture"),
    [
        pytest.param(part, leak, architecture, id=f"{part}-{leak.__name__}-{architecture}")
        for leak, parts in MUTANTS.items()
        for part in parts
        for architecture in ARCHITECTURES[
            : 2 if part == "retriever" and leak != warms_by_test else 1
        ]
    ],
)
def test_a_part_that_is_shown_the_test_is_found(
    part: str,
    leak: Leak,
    architecture: str,
    pair: Pair,
    made: Any,
    configs: dict[str, Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = Run.dataset.fget
    assert honest is not None
    monkeypatch.setattr(Run, "dataset", property(lambda run: leak(honest(run))))
    runs = (borrowing(run, tmp_path / run.path.name) for run in pair)
    first, second = (made_by(run, configs[architecture], [part]) for run in runs)
    assert differences(first, second) == [part]


def test_a_dataset_that_counts_repeats_in_the_test_is_found(
    pair: Pair, configs: dict[str, Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shows_all(sequences: Sequences) -> Split:
        split = leave_one_out(sequences)
        return leaky(split, train=sequences)

    monkeypatch.setattr(prepare, "leave_one_out", shows_all)
    results = []
    for run in pair:
        other = Run(tmp_path / run.path.name, "cpu")
        other.tables = run.tables
        results.append(made_by(other, configs["item_softmax"], ["dataset"]))
    assert differences(*results) == ["dataset"]
