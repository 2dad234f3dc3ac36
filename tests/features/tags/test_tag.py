from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.stages import embed, prepare, tag

from hidvae.config import Config, DatasetConfig, EmbeddingConfig, LLMConfig, TagConfig
from hidvae.data.prepare import load_dataset
from hidvae.data.schema import Columns
from hidvae.errors import ConfigError, HidvaeError
from hidvae.features.tags import from_categories
from hidvae.features.tags import tag as tag_module
from hidvae.features.tags.from_llm import Candidates
from hidvae.features.tags.tag import preview_tags, tag_metrics, tag_settings
from hidvae.features.tags.vocabulary import SOURCES, TagVocabulary, load_tags
from hidvae.features.text_encoder import HashingEncoder
from hidvae.run.run import Run
from hidvae.store.artifacts import StageFolder, is_current

HASHING = EmbeddingConfig(text_encoder="hashing", cooccurrence_dim=4)
NO_TEXT = replace(HASHING, text_encoder="none")
CLUSTERS = TagConfig(source="clusters", num_clusters=(4, 3))
LLM = LLMConfig()
CATEGORY, CLUSTER, NEIGHBOURS, BY_LLM = range(1, 5)


@dataclass(frozen=True)
class Stages:
    """A dataset, and its embeddings by ``HASHING`` and by ``NO_TEXT``."""

    dataset: StageFolder
    by_text: StageFolder
    by_events: StageFolder

    def tag(
        self,
        config: TagConfig,
        output: Path,
        embedding: EmbeddingConfig = HASHING,
        num_levels: int = 3,
    ) -> StageFolder:
        embeddings = self.by_events if embedding.text_encoder == "none" else self.by_text
        return tag(config, LLM, embedding, self.dataset, embeddings, output, num_levels)


def stages_of(dataset: StageFolder, root: Path) -> Stages:
    return Stages(
        dataset,
        embed(HASHING, dataset, root / "text"),
        embed(NO_TEXT, dataset, root / "events"),
    )


@pytest.fixture(scope="module")
def stages(demo_dataset: StageFolder, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    return stages_of(demo_dataset, tmp_path_factory.mktemp("stages"))


@pytest.fixture(scope="module")
def gaps(demo_dataset: StageFolder, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """The demo with gaps: no path on every fourth item, only the first labels on every fourth."""
    root = tmp_path_factory.mktemp("gaps")
    data = load_dataset(demo_dataset)
    row, path = pl.int_range(pl.len()), pl.col("categories")
    cut = pl.when(row % 4 == 0).then(None).when(row % 4 == 1).then(path.list.head(2))
    alone = pl.concat_list(path.list.head(3), pl.lit("Alone"))
    cut = cut.when(row == 2).then(alone).otherwise(path)
    items = data.catalogue.frame.with_columns(categories=cut)
    items.write_parquet(root / "items.parquet")
    events = data.events_frame()
    events.rename({"position": "timestamp"}).write_parquet(root / "interactions.parquet")
    dataset = prepare(DatasetConfig(source="folder", folder=str(root)), root / "dataset")
    return stages_of(dataset, root)


def test_what_is_loaded_is_what_the_paths_say(stages: Stages, tmp_path: Path) -> None:
    folder = stages.tag(TagConfig(), tmp_path / "tags")
    tags = load_tags(folder)
    catalogue = load_dataset(stages.dataset).catalogue
    assert tags.ids.shape == (60, 3)
    paths = [tags.vocabulary.paths[2][i] if i >= 0 else None for i in tags.ids[:, 2]]
    whole = catalogue.frame.select(pl.col("categories").list.tail(3).list.join(" > "))
    assert paths == whole.to_series().to_list()
    assert tags.sources is not None
    np.testing.assert_array_equal(tags.sources, np.where(tags.ids >= 0, CATEGORY, 0))
    for level in range(3):
        expected = HashingEncoder().encode(tags.vocabulary.paths[level])
        np.testing.assert_allclose(tags.embeddings[level], expected, atol=1e-6)
    assert folder.facts["sizes"] == tags.vocabulary.sizes
    assert folder.facts["embedding_dim"] == 256


def test_files_hold_the_columns_of_the_contract(stages: Stages, tmp_path: Path) -> None:
    folder = stages.tag(TagConfig(), tmp_path / "tags", num_levels=2)
    assert pl.read_parquet_schema(folder.path / "tags.parquet") == {
        "item_id": pl.String,
        "tag_ids": pl.List(pl.Int64),
        "tag_sources": pl.List(pl.String),
    }
    assert pl.read_parquet_schema(folder.path / "vocabulary.parquet") == {
        "level": pl.Int64,
        "tag_id": pl.Int64,
        "tag": pl.String,
        "path": pl.String,
        "parent_id": pl.Int64,
        "count": pl.Int64,
    }


@pytest.mark.parametrize("config", [TagConfig(), CLUSTERS])
def test_the_same_settings_give_the_same_folder(
    config: TagConfig, stages: Stages, tmp_path: Path
) -> None:
    first = stages.tag(config, tmp_path / "first")
    second = stages.tag(config, tmp_path / "second")
    assert first.fingerprint == second.fingerprint
    settings = tag_settings(Config(tags=config, llm=LLM, embedding=HASHING))
    inputs = {
        "dataset": stages.dataset.fingerprint,
        "embeddings": stages.by_text.fingerprint,
    }
    assert is_current(first.path, config=settings, inputs=inputs, seed=None)


def test_the_language_model_is_a_setting_only_where_it_is_used() -> None:
    for config in (TagConfig(), replace(CLUSTERS, cluster_names="words")):
        assert "llm" not in tag_settings(Config(tags=config, llm=LLM, embedding=HASHING))
    for config in (TagConfig(fill_missing="llm"), replace(CLUSTERS, cluster_names="llm")):
        assert (
            tag_settings(Config(tags=config, llm=LLM, embedding=HASHING))["llm"]["model"]
            == LLM.model
        )


def test_source_none_leaves_every_tag_unknown(stages: Stages, tmp_path: Path) -> None:
    folder = stages.tag(TagConfig(source="none"), tmp_path / "tags", NO_TEXT)
    tags = load_tags(folder)
    assert (tags.ids == -1).all()
    assert tags.ids.shape == (60, 3)
    assert tags.vocabulary.sizes == [0, 0, 0]
    assert [part.shape for part in tags.embeddings] == [(0, 0)] * 3
    assert folder.metrics["levels"][0]["coverage"] == 0


def test_without_an_encoder_a_tag_is_the_mean_of_its_items(stages: Stages, tmp_path: Path) -> None:
    tags = load_tags(stages.tag(TagConfig(), tmp_path / "tags", NO_TEXT, num_levels=2))
    from hidvae.features.embeddings import load_embeddings

    matrix = load_embeddings(stages.by_events).matrix
    for level, vectors in enumerate(tags.embeddings):
        for tag_id, vector in enumerate(vectors):
            mean = matrix[tags.ids[:, level] == tag_id].mean(axis=0)
            np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_categories_follow_the_settings(
    gaps: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = gaps.tag(TagConfig(depths=(1, 3)), tmp_path / "depths", num_levels=2)
    assert load_tags(folder).vocabulary.paths[1][0].count(" > ") == 2
    monkeypatch.setattr(from_categories, "MAX_SINGLETONS", 0)
    folder = gaps.tag(TagConfig(), tmp_path / "coarse")
    assert all(level["singletons"] == 0 for level in folder.metrics["levels"])


def test_auto_takes_categories_where_most_items_have_them(
    stages: Stages, gaps: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given in (stages, gaps):
        folder = given.tag(TagConfig(), tmp_path / given.dataset.fingerprint)
        assert folder.facts["source"] == "categories"
    monkeypatch.setattr(Columns, "CATEGORIES", "no such column")
    folder = stages.tag(TagConfig(), tmp_path / "clusters")
    assert (folder.facts["source"], folder.facts["num_levels"]) == ("clusters", 3)
    assert {*folder.metrics["levels"][0]["sources"]} == {"cluster"}


def test_neighbours_fill_what_the_paths_leave_open(gaps: Stages, tmp_path: Path) -> None:
    bare = gaps.tag(TagConfig(), tmp_path / "bare")
    folder = gaps.tag(TagConfig(fill_missing="neighbours"), tmp_path / "filled")
    before, after = load_tags(bare), load_tags(folder)
    known = before.ids >= 0
    np.testing.assert_array_equal(after.ids[known], before.ids[known])
    is_filled = ~known & (after.ids >= 0)
    assert is_filled[0].all() and is_filled[1, 2]
    assert after.sources is not None
    np.testing.assert_array_equal(
        after.sources, np.where(is_filled, NEIGHBOURS, np.where(known, CATEGORY, 0))
    )
    assert after.vocabulary.paths == before.vocabulary.paths
    for level, found in enumerate(folder.metrics["levels"]):
        counts = np.bincount(after.ids[after.ids[:, level] >= 0, level])
        assert after.vocabulary.counts[level].tolist() == counts.tolist()
        assert found["coverage_before"] == bare.metrics["levels"][level]["coverage"]
        assert found["coverage"] == (after.ids[:, level] >= 0).mean() > found["coverage_before"]
        assert found["sources"] == {
            "category": int(known[:, level].sum()),
            "neighbours": int(is_filled[:, level].sum()),
        }
    assert all(0 < share <= 1 for share in folder.metrics["neighbours_agreement"])
    catalogue = load_dataset(gaps.dataset).catalogue
    assert pl.read_parquet(folder.path / "tags.parquet")["item_id"].to_list() == catalogue.item_ids


def test_neighbours_are_found_without_texts_too(gaps: Stages, tmp_path: Path) -> None:
    config = TagConfig(fill_missing="neighbours")
    tags = load_tags(gaps.tag(config, tmp_path / "tags", NO_TEXT))
    assert tags.sources is not None and (tags.sources == NEIGHBOURS).any()


def test_an_agreement_nobody_reaches_fills_less(gaps: Stages, tmp_path: Path) -> None:
    config = TagConfig(fill_missing="neighbours")
    some = gaps.tag(config, tmp_path / "some").metrics["levels"]
    fewer = gaps.tag(replace(config, min_agreement=1), tmp_path / "fewer").metrics["levels"]
    assert fewer[2]["coverage"] < some[2]["coverage"]


def test_clusters_make_a_named_tree(stages: Stages, tmp_path: Path) -> None:
    folder = stages.tag(CLUSTERS, tmp_path / "tags")
    tags = load_tags(folder)
    assert folder.facts["sizes"][0] == 4
    assert tags.sources is not None
    np.testing.assert_array_equal(tags.sources, np.where(tags.ids >= 0, CLUSTER, 0))
    assert not any(name.startswith("Cluster") for name in tags.vocabulary.names[0])
    expected = HashingEncoder().encode(tags.vocabulary.paths[1])
    np.testing.assert_allclose(tags.embeddings[1], expected, atol=1e-6)


def test_another_seed_gives_other_clusters(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CLUSTERS, num_clusters=(7, 3))
    first = stages.tag(config, tmp_path / "first")
    monkeypatch.setattr(tag_module, "CLUSTER_SEED", 1)
    other = stages.tag(config, tmp_path / "other")
    assert first.fingerprint != other.fingerprint


def test_clusters_are_made_of_real_numbers(stages: Stages, tmp_path: Path) -> None:
    config = replace(
        HASHING, text_encoder="none", cooccurrence_dim=0, categorical_columns=("brand",)
    )
    only_features = embed(config, stages.dataset, tmp_path / "embeddings")
    with pytest.raises(ConfigError, match="real numbers.*categorical_columns only"):
        tag(CLUSTERS, LLM, HASHING, stages.dataset, only_features, tmp_path / "tags")


class FakeReport:
    def as_dict(self) -> dict[str, float]:
        return {"questions": 7}


@pytest.fixture
def fake_llm(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A language model that chooses the last tag of every level; returns what it was given."""
    given: dict[str, Any] = {"opened": 0}

    @contextlib.contextmanager
    def open_chat(config: LLMConfig) -> Iterator[str]:
        given["opened"] += 1
        yield "chat"

    def fill(
        ids: np.ndarray, candidates: Candidates, config: LLMConfig, chat: str
    ) -> tuple[np.ndarray, FakeReport]:
        given.update(texts=candidates.texts, items=candidates.item_vectors)
        given.update(tags=candidates.tag_vectors, config=config, chat=chat)
        return np.where(ids < 0, np.array(candidates.vocabulary.sizes) - 1, ids), FakeReport()

    monkeypatch.setattr("hidvae.features.tags.tag.open_chat", open_chat)
    monkeypatch.setattr("hidvae.features.tags.tag.fill_with_llm", fill)
    return given


def test_a_language_model_fills_and_reports(
    gaps: Stages, fake_llm: dict[str, Any], tmp_path: Path
) -> None:
    folder = gaps.tag(TagConfig(fill_missing="llm"), tmp_path / "tags")
    tags = load_tags(folder)
    assert (tags.ids >= 0).all() and tags.ids[0].tolist() == [n - 1 for n in tags.vocabulary.sizes]
    assert tags.sources is not None
    assert (tags.sources[0] == BY_LLM).all() and tags.sources[1].tolist() == [1, BY_LLM, BY_LLM]
    assert folder.metrics["llm"] == {"questions": 7}
    assert folder.metrics["levels"][0]["sources"]["llm"] == 15
    np.testing.assert_allclose(
        fake_llm["items"], HashingEncoder().encode(fake_llm["texts"]), atol=1e-6
    )
    np.testing.assert_array_equal(fake_llm["tags"][2], tags.embeddings[2])
    assert (fake_llm["config"], fake_llm["chat"], fake_llm["opened"]) == (LLM, "chat", 1)


def test_vectors_by_another_encoder_are_not_compared_with_tags(
    gaps: Stages, fake_llm: dict[str, Any], tmp_path: Path
) -> None:
    tag(
        TagConfig(fill_missing="llm"), LLM, HASHING, gaps.dataset, gaps.by_events, tmp_path / "tags"
    )
    np.testing.assert_allclose(
        fake_llm["items"], HashingEncoder().encode(fake_llm["texts"]), atol=1e-6
    )


def test_a_stopped_stage_leaves_nothing_and_then_gives_the_same(
    gaps: Stages,
    fake_llm: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = TagConfig(fill_missing="llm")
    whole = gaps.tag(config, tmp_path / "whole")

    def stop(*_: Any) -> None:
        raise HidvaeError("stopped")

    with monkeypatch.context() as stopped:
        stopped.setattr("hidvae.features.tags.tag.fill_with_llm", stop)
        with pytest.raises(HidvaeError, match="stopped"):
            gaps.tag(config, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    assert gaps.tag(config, tmp_path / "again").fingerprint == whole.fingerprint


def test_a_language_model_is_not_opened_for_nothing(
    stages: Stages, fake_llm: dict[str, Any], tmp_path: Path
) -> None:
    stages.tag(TagConfig(fill_missing="neighbours"), tmp_path / "tags")
    assert fake_llm["opened"] == 0


def test_the_preview_shows_prompts_and_writes_nothing(gaps: Stages) -> None:
    config = TagConfig(fill_missing="llm")
    run = Run("nowhere", borrowed={"dataset": gaps.dataset, "embeddings": gaps.by_text})
    shown = preview_tags(run, Config(tags=config, llm=LLM, embedding=HASHING), num_items=2)
    title = load_dataset(gaps.dataset).catalogue.frame["title"][0]
    assert title in shown
    with pytest.raises(ConfigError, match=r"TagConfig\.fill_missing.*found 'none'"):
        preview_tags(run, Config(embedding=HASHING))


@pytest.mark.parametrize("filler", ["neighbours", "llm"])
def test_without_tags_there_is_nothing_to_fill_from(
    filler: Any, stages: Stages, tmp_path: Path
) -> None:
    config = TagConfig(source="none", fill_missing=filler)
    with pytest.raises(ConfigError, match=r"TagConfig\.fill_missing.*TagConfig\.source"):
        stages.tag(config, tmp_path / "tags")
    assert not (tmp_path / "tags").exists()


def test_a_language_model_needs_an_encoder(gaps: Stages, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"EmbeddingConfig\.text_encoder.*hashing"):
        gaps.tag(TagConfig(fill_missing="llm"), tmp_path / "tags", NO_TEXT)


def test_metrics_by_hand() -> None:
    ids = np.array([[0, 0], [0, 1], [0, -1], [1, -1]])
    sources = np.array([[CATEGORY, CATEGORY], [BY_LLM, NEIGHBOURS], [CLUSTER, 0], [CATEGORY, 0]])
    vocabulary = TagVocabulary(
        names=[["A", "B"], ["x", "y"]],
        paths=[["A", "B"], ["A > x", "A > y"]],
        parents=[np.array([-1, -1]), np.array([0, 0])],
        counts=[np.array([3, 1]), np.array([1, 1])],
    )
    assert tag_metrics(ids, vocabulary, sources) == [
        {
            "coverage": 1.0,
            "coverage_before": 3 / 4,
            "sources": {"category": 2, "cluster": 1, "llm": 1},
            "classes": 2,
            "singletons": 1,
            "majority_share": 3 / 4,
        },
        {
            "coverage": 2 / 4,
            "coverage_before": 1 / 4,
            "sources": {"category": 1, "neighbours": 1},
            "classes": 2,
            "singletons": 2,
            "majority_share": 1 / 2,
        },
    ]


def test_sources_have_the_numbers_used_here() -> None:
    assert [SOURCES[n] for n in (CATEGORY, CLUSTER, NEIGHBOURS, BY_LLM)] == [
        "category",
        "cluster",
        "neighbours",
        "llm",
    ]


def test_levels_that_tell_nothing_apart_are_warned_of(
    stages: Stages, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = TagConfig(min_count=1000)  # everything is "Other"
    with caplog.at_level(logging.WARNING):
        folder = stages.tag(config, tmp_path / "tags", num_levels=1)
    assert "tag level 0: 1 classes" in caplog.text
    assert load_tags(folder).vocabulary.names == [["Other"]]
