from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from hidvae.errors import ArtifactError
from hidvae.features.tags.vocabulary import (
    SOURCES,
    ItemTags,
    TagVocabulary,
    load_tags,
    save_tags,
)
from hidvae.store.artifacts import StageFolder

VOCABULARY = TagVocabulary(
    names=[["A", "B"], [], ["x"]],
    paths=[["A", "B"], [], ["A > q > x"]],
    parents=[np.array([-1, -1]), np.zeros(0, np.int64), np.array([-1])],
    counts=[np.array([3, 1]), np.zeros(0, np.int64), np.array([1])],
)
IDS = np.array([[0, -1, 0], [1, -1, -1], [0, -1, -1], [0, -1, -1]])
SOURCES_OF_IDS = np.array([[1, 0, 4], [3, 0, 0], [2, 0, 0], [1, 0, 0]], np.int8)
VECTORS = [np.ones((size, 2), np.float32) * size for size in VOCABULARY.sizes]
ITEM_IDS = ["a", "b", "c", "d"]


def folder_of(tags: ItemTags, path: Path) -> StageFolder:
    save_tags(tags, ITEM_IDS, path)
    return StageFolder(path, {"facts": {"num_levels": 3}})


def test_a_vocabulary_survives_its_table() -> None:
    again = TagVocabulary.from_frame(VOCABULARY.to_frame(), num_levels=3)
    assert (again.names, again.paths) == (VOCABULARY.names, VOCABULARY.paths)
    for level in range(3):
        np.testing.assert_array_equal(again.parents[level], VOCABULARY.parents[level])
        np.testing.assert_array_equal(again.counts[level], VOCABULARY.counts[level])


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    tags = load_tags(folder_of(ItemTags(IDS, VOCABULARY, VECTORS, SOURCES_OF_IDS), tmp_path))
    np.testing.assert_array_equal(tags.ids, IDS)
    assert tags.sources is not None
    np.testing.assert_array_equal(tags.sources, SOURCES_OF_IDS)
    for found, expected in zip(tags.embeddings, VECTORS, strict=True):
        np.testing.assert_array_equal(found, expected)
    frame = pl.read_parquet(tmp_path / "tags.parquet")
    assert frame["item_id"].to_list() == ITEM_IDS
    assert frame["tag_ids"].to_list() == IDS.tolist()
    assert frame["tag_sources"].to_list()[:2] == [["category", "", "llm"], ["neighbours", "", ""]]


def test_folders_without_sources_can_be_read(tmp_path: Path) -> None:
    tags = load_tags(folder_of(ItemTags(IDS, VOCABULARY, VECTORS), tmp_path))
    assert tags.sources is None
    np.testing.assert_array_equal(tags.ids, IDS)


@pytest.mark.parametrize(
    ("sources", "found"), [([["guess", "", ""]] * 4, "'guess'"), ([["", ""]] * 4, "8 names")]
)
def test_other_sources_are_refused(sources: list[Any], found: str, tmp_path: Path) -> None:
    folder = folder_of(ItemTags(IDS, VOCABULARY, VECTORS, SOURCES_OF_IDS), tmp_path)
    file = tmp_path / "tags.parquet"
    pl.read_parquet(file).with_columns(tag_sources=pl.Series(sources)).write_parquet(file)
    with pytest.raises(ArtifactError, match=f"tag_sources: .*found {found}; run `hidvae tag`"):
        load_tags(folder)


def test_tags_are_counted_anew_without_the_unknown() -> None:
    counted = VOCABULARY.recounted(np.array([[1, -1, -1], [1, -1, 0], [-1, -1, 0]]))
    assert [counts.tolist() for counts in counted.counts] == [[0, 2], [], [2]]
    assert counted.names is VOCABULARY.names


def test_unknown_is_the_first_source() -> None:
    assert SOURCES[0] == ""


@pytest.mark.parametrize("damage", ["vectors", "bytes", "level", "ids"])
def test_damaged_files_are_refused(damage: str, tmp_path: Path) -> None:
    folder = folder_of(ItemTags(IDS, VOCABULARY, VECTORS), tmp_path)
    file = tmp_path / "tag_embeddings.safetensors"
    vectors = {f"level_{level}": part for level, part in enumerate(VECTORS)}
    if damage == "vectors":
        save_file({**vectors, "level_0": np.zeros((1, 4), np.float32)}, file)
    elif damage == "bytes":
        file.write_bytes(b"no")
    elif damage == "level":
        save_file({name: part for name, part in vectors.items() if name != "level_1"}, file)
    else:
        table = pl.read_parquet(tmp_path / "tags.parquet")
        table = table.with_columns(tag_ids=pl.lit([0, -1, 99], dtype=pl.List(pl.Int64)))
        table.write_parquet(tmp_path / "tags.parquet")
    with pytest.raises(ArtifactError, match="run `hidvae tag` again"):
        load_tags(folder)
