"""The stage evaluate: every ranker alike, ranks that give the metrics back, paired differences."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hidvae.config import load_config
from hidvae.data.prepare import Dataset
from hidvae.data.split import hold_out_items
from hidvae.evaluation import evaluate_run as scoring
from hidvae.evaluation.baselines import by_name
from hidvae.evaluation.baselines.untrained import Popularity
from hidvae.evaluation.evaluate_run import SUFFIX, rankers_of, tasks_of
from hidvae.run.run import Run
from hidvae.store.artifacts import read_json

KEYS = [task + suffix for task in ("test", "validation") for suffix in SUFFIX.values()]


@pytest.fixture(scope="module")
def metrics(tiny_run: Path) -> dict[str, Any]:
    return read_json(tiny_run / "evaluation" / "metrics.json")


@pytest.fixture(scope="module")
def ranks(tiny_run: Path) -> pl.DataFrame:
    return pl.read_parquet(tiny_run / "evaluation" / "ranks.parquet")


@pytest.mark.parametrize("ranker", ["hidvae", "popularity", "content_graph"])
def test_ranks_give_the_metrics_back(
    metrics: dict[str, Any], ranks: pl.DataFrame, ranker: str
) -> None:
    for key in KEYS:
        of_users, scored = ranks[f"{ranker}/{key}"].to_numpy(), rankers_of(metrics)[ranker][key]
        for k in (1, 5, 10):
            found = [1 <= rank <= k for rank in of_users.tolist()]
            gains = [
                1 / math.log2(1 + rank) if is_found else 0.0
                for rank, is_found in zip(of_users.tolist(), found, strict=True)
            ]
            assert sum(found) / len(found) == pytest.approx(scored[f"recall@{k}"])
            assert sum(gains) / len(gains) == pytest.approx(scored[f"ndcg@{k}"])


def test_ranks_are_compact_and_a_row_is_a_user(
    metrics: dict[str, Any], ranks: pl.DataFrame, tiny_run: Path
) -> None:
    assert ranks["user_index"].to_list() == list(range(200))
    assert set(ranks.columns) == {"user_index"} | {
        f"{ranker}/{key}" for ranker in rankers_of(metrics) for key in KEYS
    }
    assert set(ranks.drop("user_index").dtypes) == {pl.UInt8}
    assert int(ranks.drop("user_index").max().max_horizontal()[0]) <= 10
    size = (tiny_run / "evaluation" / "ranks.parquet").stat().st_size
    assert size < 20_000


def test_slices_are_of_the_target_and_of_the_history(
    metrics: dict[str, Any], ranks: pl.DataFrame, demo_dataset: Dataset
) -> None:
    split = demo_dataset.split
    trained = np.bincount(split.train.items, minlength=demo_dataset.catalogue.num_items)
    for name, targets, histories in (
        ("test", split.test_targets, split.test_histories),
        ("validation", split.validation_targets, split.validation_histories),
    ):
        for ranker, scored in rankers_of(metrics).items():
            of_users = ranks[f"{ranker}/{name}"].to_numpy()
            for key, values, starts in (
                ("target_popularity", trained[targets], (0, 1, 5, 10, 20, 50)),
                ("history_length", histories.lengths, (0, 3, 5, 10, 20)),
            ):
                for bucket, first, end in zip(
                    scored[name]["slices"][key], starts, (*starts[1:], 10**9), strict=True
                ):
                    inside = of_users[(values >= first) & (values < end)]
                    assert bucket["num_users"] == inside.size
                    hits = ((inside >= 1) & (inside <= 10)).mean() if inside.size else None
                    assert bucket["recall@10"] == (hits if hits is None else pytest.approx(hits))


def test_differences_are_of_the_means_and_name_the_first_minus_the_second(
    metrics: dict[str, Any],
) -> None:
    rankers = rankers_of(metrics)
    assert set(metrics["comparisons"]) == set(rankers) - {"popularity", "content_graph"}
    assert set(metrics["comparisons"]["hidvae"]) == set(rankers) - {"hidvae"}
    for other, differences in metrics["comparisons"]["hidvae"].items():
        assert set(differences) == set(KEYS)
        for key in KEYS:
            for metric in ("recall@10", "ndcg@10"):
                found = differences[key][metric]
                expected = metrics[key][metric] - rankers[other][key][metric]
                assert found["difference"] == pytest.approx(expected)
                assert found["ci"][0] <= found["difference"] <= found["ci"][1]
                assert 0 < found["p_value"] <= 1


def test_a_further_mode_stands_beside_the_baselines_and_an_equal_one_differs_by_nothing(
    tiny_run: Path, tiny_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    own_rankers = scoring.own_rankers

    def twice(*arguments: Any) -> dict[str, Any]:
        ranker = next(iter(own_rankers(*arguments).values()))
        return {"hidvae": ranker, "hidvae (again)": ranker}

    monkeypatch.setattr(scoring, "own_rankers", twice)
    config = load_config([], [*tiny_settings, "EvaluationConfig.beam_width=11"])
    Run(run).make(config, only="evaluate")
    metrics = read_json(run / "evaluation" / "metrics.json")
    assert list(rankers_of(metrics)) == ["hidvae", "hidvae (again)", "popularity", "content_graph"]
    compared = metrics["comparisons"]
    assert list(compared["hidvae"]) == ["hidvae (again)", "popularity", "content_graph"]
    assert list(compared["hidvae (again)"]) == ["popularity", "content_graph"]
    nothing = {"difference": 0.0, "ci": [0.0, 0.0], "p_value": 1.0}
    for key in KEYS:
        assert metrics["variants"]["hidvae (again)"][key] == metrics[key]
        assert compared["hidvae"]["hidvae (again)"][key] == {
            "recall@10": nothing,
            "ndcg@10": nothing,
        }


def test_every_target_is_ranked_once_per_ranker(
    tiny_run: Path, tiny_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    ranked: list[int] = []
    rank = Popularity.rank

    def counted(self: Popularity, histories: Any, *arguments: Any) -> Any:
        ranked.append(histories.num_users)
        return rank(self, histories, *arguments)

    monkeypatch.setattr(Popularity, "rank", counted)
    config = load_config([], [*tiny_settings, "EvaluationConfig.beam_width=11"])
    Run(run).make(config, only="evaluate")
    assert sum(ranked) == 2 * 200  # test and validation


def test_held_out_items_are_ranked_among_themselves(demo_dataset: Dataset) -> None:
    num_items = demo_dataset.catalogue.num_items
    cold = np.arange(0, num_items, 7)
    split = hold_out_items(demo_dataset.interactions.sequences, cold)
    test, _, among_cold = tasks_of(split, num_items)
    assert among_cold.name == "cold"
    assert np.flatnonzero(among_cold.allowed).tolist() == cold.tolist()
    assert (among_cold.targets == test.targets).all()
    assert np.isin(among_cold.targets, cold).all()
    assert [task.name for task in tasks_of(demo_dataset.split, num_items)] == ["test", "validation"]


def test_only_some_users_are_ranked_where_that_is_asked_for(demo_dataset: Dataset) -> None:
    num_items = demo_dataset.catalogue.num_items
    everybody = tasks_of(demo_dataset.split, num_items)
    for some, all_of in zip(
        tasks_of(demo_dataset.split, num_items, max_users=30, seed=1), everybody, strict=True
    ):
        assert some.name == all_of.name
        rows = np.searchsorted(all_of.users, some.users)
        assert len(set(some.users.tolist())) == 30
        assert (all_of.users[rows] == some.users).all()
        assert (all_of.targets[rows] == some.targets).all()
        taken = all_of.histories.take(rows)
        assert (taken.items == some.histories.items).all()
        assert (taken.offsets == some.histories.offsets).all()


def test_all_baselines_of_an_older_version_are_not_all(
    tiny_run: Path, tiny_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was evaluated with all that there were then gets the rows that came later."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    config = load_config([], [*tiny_settings, "EvaluationConfig.baselines=all"])
    found = []
    for names in (("popularity",), ("popularity", "item_knn"), ("popularity", "item_knn")):
        monkeypatch.setattr(by_name, "BASELINES", names)
        monkeypatch.setattr(scoring, "BASELINES", names)
        Run(run, "cpu").make(config)
        manifest = run / "evaluation" / "manifest.json"
        found.append((manifest.stat().st_mtime_ns, read_json(run / "evaluation" / "metrics.json")))
    assert [list(metrics["baselines"]) for _, metrics in found] == [
        ["popularity"],
        *[["popularity", "item_knn"]] * 2,
    ]
    assert found[1][0] == found[2][0]  # up to date
