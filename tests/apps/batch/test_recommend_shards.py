"""Lists of shards are those of ``Recommender.recommend``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.apps.batch.conftest import TOP_K, Made, read_all, write_shards

from hidvae.apps.batch import recommend_shards
from hidvae.errors import ConfigError
from hidvae.ranking.recommender import Recommender


@pytest.fixture(scope="module")
def recommender(tiny_run: Path) -> Recommender:
    return Recommender.load(tiny_run, device="cpu")


def assert_as_one_by_one(
    lists: pl.DataFrame,
    histories: list[list[str]],
    recommender: Recommender,
    k: int,
    exclude_history: bool = True,
) -> None:
    for row, history in zip(lists.iter_rows(named=True), histories, strict=True):
        expected = recommender.recommend(history, k, exclude_history=exclude_history)
        assert row["items"] == [item.item_id for item in expected]
        scores = [item.score for item in expected]
        np.testing.assert_allclose(row["scores"], scores, rtol=1e-5, atol=1e-4)


def test_lists_are_those_of_the_recommender(made: Made, recommender: Recommender) -> None:
    users, lists = read_all(made.users), read_all(made.lists)
    assert lists["user_id"].equals(users["user_id"])
    assert lists.schema["items"] == pl.List(pl.String)
    assert lists.schema["scores"] == pl.List(pl.Float32)
    some = slice(0, 200, 9)
    assert_as_one_by_one(lists[some], users["history"][some].to_list(), recommender, TOP_K)


@pytest.mark.parametrize("k", [1, 60, 118])
@pytest.mark.parametrize("exclude_history", [True, False])
def test_long_lists_search_on_until_the_items_run_out(
    tiny_run: Path,
    made: Made,
    recommender: Recommender,
    tmp_path: Path,
    k: int,
    exclude_history: bool,
) -> None:
    users = read_all(made.users).head(6)
    write_shards(users, tmp_path / "users", 1)
    recommend_shards(
        tiny_run, tmp_path / "users", tmp_path / "lists", k, exclude_history=exclude_history
    )
    histories = users["history"].to_list()
    lists = read_all(tmp_path / "lists")
    assert_as_one_by_one(lists, histories, recommender, k, exclude_history)
    if k == 118:
        seen = [len(set(history)) if exclude_history else 0 for history in histories]
        assert lists["items"].list.len().to_list() == [min(k, 120 - count) for count in seen]


def test_unknown_items_are_dropped_and_empty_histories_stay_empty(
    tiny_run: Path, recommender: Recommender, tmp_path: Path
) -> None:
    first, second = recommender.catalogue.item_ids[3:5]
    histories = [[first, "gone", second, None], [], None, ["gone"], [second]]
    users = pl.DataFrame({"user_id": [10, 20, 30, 40, 50], "history": histories})
    write_shards(users, tmp_path / "users", 2)
    counts = recommend_shards(tiny_run, tmp_path / "users", tmp_path / "lists", 3)
    assert counts == {"rows": 5, "empty_histories": 3, "unknown_items": 3}
    lists = read_all(tmp_path / "lists")
    assert lists["user_id"].to_list() == [10, 20, 30, 40, 50]
    assert lists["items"].list.len().to_list() == [3, 0, 0, 0, 3]
    assert lists["scores"].list.len().to_list() == [3, 0, 0, 0, 3]
    assert_as_one_by_one(lists[[0, 4]], [[first, second], [second]], recommender, 3)


def test_shards_of_empty_histories_alone(tiny_run: Path, tmp_path: Path) -> None:
    users = pl.DataFrame({"user_id": ["u", "v"], "history": [[], []]})
    write_shards(users, tmp_path / "users", 1)
    write_shards(users.head(0), tmp_path / "none", 1).joinpath("part-0.parquet").rename(
        tmp_path / "users" / "none.parquet"
    )
    counts = recommend_shards(tiny_run, tmp_path / "users", tmp_path / "lists", 3)
    assert counts == {"rows": 2, "empty_histories": 2, "unknown_items": 0}
    assert read_all(tmp_path / "lists")["items"].to_list() == [[], []]


def test_lists_of_no_length_are_refused(tiny_run: Path, made: Made, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="k: expected at least 1"):
        recommend_shards(tiny_run, made.users, tmp_path / "lists", 0)
