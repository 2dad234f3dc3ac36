"""Held-out items from the settings to the metrics: nothing learns from them, all can be found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from hidvae.config import Config, load_config
from hidvae.data.prepare import COLD_ITEM_SEED, Dataset, load_dataset
from hidvae.data.split import draw_cold_items, hold_out_items
from hidvae.evaluation.metrics import ndcg_at
from hidvae.features.embeddings import load_embeddings
from hidvae.ranking.recommender import Recommender
from hidvae.retriever import train_retriever as retriever_train
from hidvae.run.run import Run
from hidvae.run.stages import STAGE_OF
from hidvae.semantic_ids.table import SemanticIds
from hidvae.store.artifacts import StageFolder, read_json, read_stage
from hidvae.tokenizer.train_tokenizer import load_held_out

SHARE, SEED = 0.1, COLD_ITEM_SEED


@pytest.fixture(scope="module")
def config(tiny_settings: list[str]) -> Config:
    cold = [f"DatasetConfig.cold_item_share={SHARE}"]
    baselines = "EvaluationConfig.baselines=('popularity', 'text_similarity')"
    return load_config([], [*tiny_settings, *cold, baselines])


@pytest.fixture(scope="module")
def warm_items(config: Config) -> list[np.ndarray]:
    """What the retriever's training was told; filled while ``run`` is made."""
    return []


@pytest.fixture(scope="module")
def run(
    config: Config, warm_items: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("cold") / "run"
    build = retriever_train.build_retriever

    def seen(*arguments: Any, **named: Any) -> Any:
        warm_items.append(arguments[-1])
        return build(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retriever_train, "build_retriever", seen)
        Run(output).make(config)
    return output


@pytest.fixture(scope="module")
def folders(run: Path) -> dict[str, StageFolder]:
    return Run(run).folders()


@pytest.fixture(scope="module")
def dataset(folders: dict[str, StageFolder]) -> Dataset:
    return load_dataset(folders["dataset"])


def test_the_split_made_again_from_the_stage_is_the_same(
    folders: dict[str, StageFolder], dataset: Dataset
) -> None:
    sequences = dataset.interactions.sequences
    expected = hold_out_items(sequences, draw_cold_items(sequences, SHARE, SEED))
    for found in (dataset.split, load_dataset(folders["dataset"]).split):
        assert found.cold_items.tolist() == expected.cold_items.tolist()
        assert found.test_users.tolist() == expected.test_users.tolist()
        assert found.train.items.tolist() == expected.train.items.tolist()
    metrics = folders["dataset"].metrics
    assert metrics["cold_items"] == dataset.split.cold_items.size == 12
    assert metrics["cold_test_users"] == dataset.split.test_users.size > 0


def test_nothing_learns_from_held_out_items(
    folders: dict[str, StageFolder], dataset: Dataset, warm_items: list[np.ndarray]
) -> None:
    cold = dataset.split.cold_items
    assert not np.isin(dataset.split.train.items, cold).any()
    assert not load_embeddings(folders["embeddings"]).part("cooccurrence")[cold].any()
    assert load_held_out(folders["tokenizer"])[cold].all()
    assert folders["tokenizer"].facts["num_held_out"] < 12 + 120 * 0.05 + 1
    (known,) = warm_items
    assert known.dtype == np.bool_ and not known[cold].any()
    assert known.tolist() == np.isin(np.arange(120), dataset.split.train.items).tolist()


def test_held_out_items_have_ids_of_their_own_and_can_be_found(run: Path, dataset: Dataset) -> None:
    assert SemanticIds.load(read_stage(run / "semantic_ids", produced_by="")).is_unique
    recommender = Recommender.load(run, "cpu")
    histories = dataset.split.test_histories.take([0, 1])
    ranked = recommender.rank(histories, 120).items[:, :120]
    assert (np.sort(ranked, axis=1) == np.arange(120)).all()


def test_metrics_stand_beside_the_floor(run: Path, dataset: Dataset) -> None:
    metrics = read_json(run / "evaluation" / "metrics.json")
    num_users = dataset.split.test_users.size
    for scored in (metrics, *metrics["baselines"].values()):
        for key in ("test", "cold", "cold_excluding_history"):
            assert scored[key]["num_users"] == num_users
            assert len(scored[key]["recall@10_ci"]) == 2
        assert scored["cold"]["recall@10"] == scored["cold_excluding_history"]["recall@10"]
    floor = metrics["random_guess"]
    assert floor["num_cold_items"] == 12
    assert floor["recall@5"] == pytest.approx(5 / 12)
    assert floor["ndcg@5"] == pytest.approx(ndcg_at(np.arange(1, 6), 5).sum() / 12)


def test_a_cold_rank_is_that_among_the_cold_items_of_the_whole_ranking(
    run: Path, dataset: Dataset
) -> None:
    split = dataset.split
    whole = Run(run).as_trained.rank(split.test_histories, 120, split.test_users).items
    found = pl.read_parquet(run / "evaluation" / "ranks.parquet").filter(
        pl.col("hidvae/cold").is_not_null()
    )
    row_of = {user: row for row, user in enumerate(split.test_users.tolist())}
    for user, rank in found.select("user_index", "hidvae/cold").iter_rows():
        ranked = whole[row_of[user]]
        cold = [item for item in ranked[ranked >= 0].tolist() if item in split.cold_items]
        expected = cold.index(int(split.test_targets[row_of[user]])) + 1
        assert rank == (expected if expected <= 10 else 0)
    assert found.height == split.test_users.size


def test_leave_one_out_names_no_floor(tiny_run: Path) -> None:
    assert "random_guess" not in read_json(tiny_run / "evaluation" / "metrics.json")


def test_items_without_a_training_event_are_no_alternatives_under_leave_one_out(
    tiny_run: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def stop(*arguments: Any, **named: Any) -> Any:
        told.append(arguments[-1])
        raise StopIteration

    monkeypatch.setattr(retriever_train, "build_retriever", stop)
    names = ("dataset", "embeddings", "tags", "semantic_ids")
    run = Run(tmp_path, borrowed=Run(tiny_run).folders(names))
    with pytest.raises(StopIteration):
        run.make_stage(STAGE_OF["retriever"], config)
    train = run.dataset.split.train
    assert torch.equal(
        torch.from_numpy(told[0]), torch.bincount(torch.from_numpy(train.items), minlength=120) > 0
    )
