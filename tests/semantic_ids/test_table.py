from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from hidvae.errors import ArtifactError, DataError, ShapeError
from hidvae.semantic_ids.table import FILE, SemanticIds
from hidvae.store.artifacts import read_stage, write_stage


def make_ids(**changes) -> SemanticIds:
    """Three items, two levels and a disambiguation code, two tag levels."""
    fields = {
        "item_ids": ["ä", "b", "c"],
        "codes": np.array([[0, 3, 0], [0, 3, 1], [1, 2, 0]]),
        "level_sizes": (2, 4, 2),
        "tag_ids": np.array([[0, 4], [1, -1], [-1, 2]]),
        "tag_confidence": np.array([[0.5, 1.0], [0.25, 0.0], [0.0, 0.75]], dtype=np.float32),
        "is_disambiguated": True,
    }
    return SemanticIds(**{**fields, **changes})


def save_and_load(ids: SemanticIds, tmp_path) -> SemanticIds:
    with write_stage(tmp_path / "tokenizer", stage="tokenize", config={}, inputs={}) as writer:
        ids.save(writer.path)
        writer.facts.update(ids.facts())
    return SemanticIds.load(read_stage(tmp_path / "tokenizer", produced_by="hidvae tokenize"))


def assert_same(left: SemanticIds, right: SemanticIds) -> None:
    assert left.item_ids == right.item_ids
    assert left.level_sizes == right.level_sizes
    assert left.is_disambiguated == right.is_disambiguated
    for name in ("codes", "tag_ids", "tag_confidence"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
        assert getattr(left, name).dtype == getattr(right, name).dtype


def test_save_then_load_gives_the_same_table(tmp_path):
    assert_same(save_and_load(make_ids(), tmp_path), make_ids())


def test_a_table_without_tags_survives_saving(tmp_path):
    ids = SemanticIds.without_tags(["x", "y"], np.array([[0, 1], [1, 0]]), [2, 2])
    loaded = save_and_load(ids, tmp_path)
    assert_same(loaded, ids)
    assert loaded.tag_ids.shape == (2, 0)


def test_counts_and_strings():
    ids = make_ids()
    assert (ids.num_items, ids.num_levels, ids.num_tag_levels) == (3, 3, 2)
    assert ids.strings(1) == ["<a_0>", "<b_3>", "<c_1>"]


def test_is_unique_tells_collisions():
    assert make_ids().is_unique
    assert not make_ids(codes=np.zeros((3, 3), dtype=np.int64)).is_unique


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": np.zeros((2, 3), dtype=np.int64)}, r"codes: expected \(3, 3\)"),
        ({"level_sizes": ()}, "expected 1 to 26 levels; found 0"),
        ({"tag_ids": np.zeros((2, 2), dtype=np.int64)}, r"tag_ids: expected \(3, L\)"),
        ({"tag_confidence": np.zeros((3, 1))}, r"tag_confidence: expected \(3, 2\)"),
    ],
)
def test_shapes_that_disagree_are_named(changes, message):
    with pytest.raises(ShapeError, match=message):
        make_ids(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item_ids": ["a", "b", "a"]}, "found 'a' more than once"),
        ({"codes": np.zeros((3, 3))}, "codes: expected integers; found float64"),
        ({"level_sizes": (2, 3, 2)}, r"codes of item 'ä', level 1: .*\[0, 3\); found 3"),
        ({"level_sizes": (2, 4, 0)}, "level_sizes: expected at least 1 each"),
        ({"tag_ids": np.full((3, 2), -2)}, "tag_ids of item 'ä', level 0: .*found -2"),
        ({"tag_confidence": np.full((3, 2), np.nan)}, "level 0: expected a number in .*nan"),
        ({"tag_confidence": np.full((3, 2), 1.5)}, "level 0: expected a number in .*1.5"),
    ],
)
def test_values_out_of_range_are_named(changes, message):
    with pytest.raises(DataError, match=message):
        make_ids(**changes)


def write_damaged(tmp_path, facts, damage):
    with write_stage(tmp_path / "tokenizer", stage="tokenize", config={}, inputs={}) as writer:
        make_ids().save(writer.path)
        damage(writer.path / FILE)
        writer.facts.update(facts)
    return read_stage(tmp_path / "tokenizer", produced_by="hidvae tokenize")


@pytest.mark.parametrize(
    ("changed_facts", "damage", "message"),
    [
        ({"num_levels": 2}, lambda file: None, "num_levels = 2 values in every row"),
        ({"level_sizes": [1, 4, 2]}, lambda file: None, r"level 0: expected .*\[0, 1\)"),
        ({}, lambda file: file.write_bytes(b"not parquet"), "cannot be read"),
        ({}, lambda file: file.unlink(), "cannot be read"),
        (
            {},
            lambda file: pl.read_parquet(file).drop("codes").write_parquet(file),
            "cannot be read .*codes",
        ),
    ],
)
def test_a_damaged_table_is_an_artifact_error(tmp_path, changed_facts, damage, message):
    folder = write_damaged(tmp_path, {**make_ids().facts(), **changed_facts}, damage)
    with pytest.raises(ArtifactError, match=message) as caught:
        SemanticIds.load(folder)
    assert "\n" not in str(caught.value)


def test_a_manifest_without_facts_is_an_artifact_error(tmp_path):
    folder = write_damaged(tmp_path, {}, lambda file: None)
    with pytest.raises(ArtifactError, match="lacks the fact is_disambiguated"):
        SemanticIds.load(folder)
