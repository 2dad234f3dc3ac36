"""Two Ray workers make the same shards as one process, also when one of them is killed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from tests.apps.batch.conftest import TOP_K, Made, write_shards
from tests.apps.batch.killing import KillsFirstWorker

from hidvae.apps.batch import Workers, embed_shards, ray_cluster, tokenize_shards
from hidvae.apps.batch.embed_shards import EmbedJob
from hidvae.apps.batch.ray_cluster import MOST_TRIES, _cluster, _outcome, _RayWorker
from hidvae.apps.batch.recommend_shards import RecommendJob, fingerprints_of
from hidvae.apps.batch.shards import UNFINISHED
from hidvae.apps.batch.workers import run_job
from hidvae.config import EmbeddingConfig
from hidvae.errors import ArtifactError, DataError, MissingExtraError, ServerError
from hidvae.run.run import Run

# Ray sets its own deprecated settings when it starts.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")

TWO = Workers(number=2, ray="local")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster of two workers for all tests of this module."""
    ray = pytest.importorskip("ray")
    with _cluster(ray, TWO):
        yield


def assert_same_shards(found: Path, expected: Path) -> None:
    names = sorted(path.name for path in expected.glob("*.parquet"))
    assert sorted(path.name for path in found.iterdir() if path.is_file()) == names
    for name in names:
        assert (found / name).read_bytes() == (expected / name).read_bytes()


def test_embedding(cluster: None, tiny_run: Path, made: Made, tmp_path: Path) -> None:
    counts = embed_shards(tiny_run, made.items, tmp_path / "vectors", TWO)
    assert counts == {"rows": 120, "items_without_text": 0}
    assert_same_shards(tmp_path / "vectors", made.vectors)


def test_tokenizing(cluster: None, tiny_run: Path, made: Made, tmp_path: Path) -> None:
    tokenize_shards(tiny_run, made.vectors, tmp_path / "ids", TWO)
    assert_same_shards(tmp_path / "ids", made.ids)


def test_recommending_with_a_killed_worker(
    cluster: None, tiny_run: Path, made: Made, tmp_path: Path
) -> None:
    fingerprints = fingerprints_of(Run(tiny_run))
    job = KillsFirstWorker(
        RecommendJob(tiny_run.resolve(), fingerprints, TOP_K, exclude_history=True),
        tmp_path / "killed",
    )
    shards = sorted(path.name for path in made.users.iterdir())
    output = tmp_path / "lists"
    output.mkdir()
    counts = run_job(job, made.users, output, shards, TWO)
    assert counts == {"rows": 200, "empty_histories": 0, "unknown_items": 0}
    assert_same_shards(output, made.lists)
    assert (tmp_path / "killed").exists(), "no worker was killed"


def test_a_workers_error_is_the_users_line(tiny_run: Path, tmp_path: Path) -> None:
    items = pl.DataFrame({"item_id": ["a", "a"], "title": ["Soap", "Comb"]})
    write_shards(items, tmp_path / "items", 1)
    job = EmbedJob(EmbeddingConfig(text_encoder="hashing"), "hashing")
    worker = _RayWorker(job, tmp_path / "items", tmp_path, threads=1)
    row = worker({"shard": "part-0.parquet"})
    with pytest.raises(
        DataError, match=r"part-0\.parquet, column item_id: expected each item once"
    ):
        _outcome(row)
    assert [path.name for path in tmp_path.iterdir()] == ["items"]


def test_a_workers_error_of_the_system_is_the_users_line(made: Made, tmp_path: Path) -> None:
    job = RecommendJob(tmp_path, {}, TOP_K, exclude_history=True)
    worker = _RayWorker(job, made.users, tmp_path / "unmounted", threads=1)
    with pytest.raises(ArtifactError, match=r"unmounted.*: No such file or directory"):
        _outcome(worker({"shard": "part-0.parquet"}))


def test_a_shard_that_kills_its_workers_is_given_up(
    tiny_run: Path, made: Made, tmp_path: Path
) -> None:
    (tmp_path / f".part-0.parquet.tries{UNFINISHED}").write_bytes(b"." * MOST_TRIES)
    job = RecommendJob(tiny_run, {}, TOP_K, exclude_history=True)
    worker = _RayWorker(job, made.users, tmp_path, threads=1)
    with pytest.raises(ServerError, match=r"part-0\.parquet: .* found \d that died"):
        _outcome(worker({"shard": "part-0.parquet"}))


def test_without_ray_the_line_says_what_to_install(
    tiny_run: Path, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "hidvae\[ray\]"'):
        embed_shards(tiny_run, made.items, tmp_path / "vectors", TWO)


def test_a_cluster_that_does_not_answer(
    tiny_run: Path, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_cluster, "_SECONDS_TO_ANSWER", 1.0)
    with pytest.raises(ServerError, match=r"--ray 127\.0\.0\.1:1: expected a Ray cluster"):
        embed_shards(tiny_run, made.items, tmp_path / "vectors", Workers(ray="127.0.0.1:1"))
