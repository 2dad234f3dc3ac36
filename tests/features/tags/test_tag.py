from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from hidvae.artifacts import StageFolder, is_current
from hidvae.config import EmbeddingConfig, TagConfig
from hidvae.data.prepare import load_dataset
from hidvae.errors import ArtifactError, ConfigError
from hidvae.features.tags.tag import tag, tag_inputs, tag_metrics, tag_settings
from hidvae.features.tags.vocabulary import TagVocabulary, load_tags
from hidvae.features.text_encoder import HashingEncoder

HASHING = EmbeddingConfig(text_encoder="hashing")


def test_what_is_loaded_is_what_the_paths_say(demo_dataset: StageFolder, tmp_path: Path) -> None:
    folder = tag(TagConfig(num_levels=3), HASHING, demo_dataset, tmp_path / "tags")
    tags = load_tags(folder)
    catalogue = load_dataset(demo_dataset).catalogue
    assert tags.ids.shape == (60, 3)
    paths = [tags.vocabulary.paths[2][i] if i >= 0 else None for i in tags.ids[:, 2]]
    whole = catalogue.frame.select(pl.col("categories").list.tail(3).list.join(" > "))
    assert paths == whole.to_series().to_list()
    for level in range(3):
        expected = HashingEncoder().encode(tags.vocabulary.paths[level])
        np.testing.assert_allclose(tags.embeddings[level], expected, atol=1e-6)
    assert folder.facts["sizes"] == tags.vocabulary.sizes
    assert folder.facts["embedding_dim"] == 256


def test_files_hold_the_columns_of_the_contract(demo_dataset: StageFolder, tmp_path: Path) -> None:
    folder = tag(TagConfig(num_levels=2), HASHING, demo_dataset, tmp_path / "tags")
    assert pl.read_parquet_schema(folder.path / "tags.parquet") == {
        "item_id": pl.String,
        "tag_ids": pl.List(pl.Int64),
    }
    assert pl.read_parquet_schema(folder.path / "vocabulary.parquet") == {
        "level": pl.Int64,
        "tag_id": pl.Int64,
        "tag": pl.String,
        "path": pl.String,
        "parent_id": pl.Int64,
        "count": pl.Int64,
    }


def test_the_same_settings_give_the_same_folder(demo_dataset: StageFolder, tmp_path: Path) -> None:
    config = TagConfig(num_levels=2)
    first = tag(config, HASHING, demo_dataset, tmp_path / "first")
    second = tag(config, HASHING, demo_dataset, tmp_path / "second")
    assert first.fingerprint == second.fingerprint
    settings = tag_settings(config, HASHING)
    inputs = tag_inputs(demo_dataset)
    assert is_current(first.path, config=settings, inputs=inputs, seed=None)


def test_source_none_leaves_every_tag_unknown(demo_dataset: StageFolder, tmp_path: Path) -> None:
    no_encoder = EmbeddingConfig(text_encoder="none")
    folder = tag(TagConfig(source="none"), no_encoder, demo_dataset, tmp_path / "tags")
    tags = load_tags(folder)
    assert (tags.ids == -1).all()
    assert tags.ids.shape == (60, 3)
    assert tags.vocabulary.sizes == [0, 0, 0]
    assert [part.shape for part in tags.embeddings] == [(0, 0)] * 3
    assert folder.metrics["levels"][0]["coverage"] == 0


def test_tags_without_an_encoder_name_the_setting(
    demo_dataset: StageFolder, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"EmbeddingConfig\.text_encoder.*hashing"):
        tag(TagConfig(), EmbeddingConfig(text_encoder="none"), demo_dataset, tmp_path / "tags")
    assert not (tmp_path / "tags").exists()


def test_metrics_by_hand() -> None:
    ids = np.array([[0, 0], [0, 1], [0, -1], [1, -1]])
    vocabulary = TagVocabulary(
        names=[["A", "B"], ["x", "y"]],
        paths=[["A", "B"], ["A > x", "A > y"]],
        parents=[np.array([-1, -1]), np.array([0, 0])],
        counts=[np.array([3, 1]), np.array([1, 1])],
    )
    assert tag_metrics(ids, vocabulary) == [
        {"coverage": 1.0, "classes": 2, "singletons": 1, "majority_share": 3 / 4},
        {"coverage": 2 / 4, "classes": 2, "singletons": 2, "majority_share": 1 / 2},
    ]


def test_levels_that_tell_nothing_apart_are_warned_of(
    demo_dataset: StageFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = TagConfig(num_levels=1, min_count=1000)  # everything is "Other"
    with caplog.at_level(logging.WARNING):
        folder = tag(config, HASHING, demo_dataset, tmp_path / "tags")
    assert "tag level 0: 1 classes" in caplog.text
    assert load_tags(folder).vocabulary.names == [["Other"]]


def test_a_vocabulary_survives_its_table() -> None:
    vocabulary = TagVocabulary(
        names=[["A", "B"], [], ["x"]],
        paths=[["A", "B"], [], ["A > q > x"]],
        parents=[np.array([-1, -1]), np.zeros(0, np.int64), np.array([-1])],
        counts=[np.array([3, 1]), np.zeros(0, np.int64), np.array([1])],
    )
    again = TagVocabulary.from_frame(vocabulary.to_frame(), num_levels=3)
    assert (again.names, again.paths) == (vocabulary.names, vocabulary.paths)
    for level in range(3):
        np.testing.assert_array_equal(again.parents[level], vocabulary.parents[level])
        np.testing.assert_array_equal(again.counts[level], vocabulary.counts[level])


@pytest.mark.parametrize("damage", ["vectors", "bytes", "level", "ids"])
def test_damaged_files_are_refused(damage: str, demo_dataset: StageFolder, tmp_path: Path) -> None:
    folder = tag(TagConfig(num_levels=1), HASHING, demo_dataset, tmp_path / "tags")
    file = folder.path / "tag_embeddings.safetensors"
    if damage == "vectors":
        save_file({"level_0": np.zeros((1, 4), np.float32)}, file)
    elif damage == "bytes":
        file.write_bytes(b"no")
    elif damage == "level":
        save_file({"level_1": load_tags(folder).embeddings[0]}, file)
    else:
        table = pl.read_parquet(folder.path / "tags.parquet")
        table = table.with_columns(tag_ids=pl.lit([99], dtype=pl.List(pl.Int64)))
        table.write_parquet(folder.path / "tags.parquet")
    with pytest.raises(ArtifactError, match="run `hidvae tag` again"):
        load_tags(folder)
