from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
import torch
from tests.stages import embed, encode_catalogue, prepare, tag, train_tokenizer

from hidvae.config import DatasetConfig, LLMConfig, RunConfig, TagConfig, TokenizerConfig
from hidvae.data.prepare import ITEMS_FILE, load_dataset
from hidvae.evaluation.id_quality import id_quality
from hidvae.features.embeddings import load_embeddings
from hidvae.features.tags.vocabulary import load_tags
from hidvae.semantic_ids.collisions import collision_rate
from hidvae.semantic_ids.table import SemanticIds
from hidvae.store.artifacts import StageFolder, read_json
from hidvae.tokenizer import encode as encode_module
from hidvae.tokenizer.encode import QUALITY, encode_items, predict_tags, tag_accuracy
from hidvae.tokenizer.model import HiDVAE
from hidvae.tokenizer.train_tokenizer import load_held_out, load_tokenizer

from .conftest import EMBEDDING

Collisions = Literal["reassign", "disambiguate"]
BOTH: tuple[Collisions, ...] = ("reassign", "disambiguate")


@pytest.fixture(scope="module")
def semantic_ids(
    demo_folder: StageFolder,
    embeddings: StageFolder,
    tags: StageFolder,
    tokenizer: StageFolder,
    tmp_path_factory: pytest.TempPathFactory,
) -> StageFolder:
    output = tmp_path_factory.mktemp("encoded") / "semantic_ids"
    return encode_catalogue(tokenizer, demo_folder, embeddings, tags, output)


@pytest.fixture(scope="module")
def equal_items(
    demo_folder: StageFolder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StageFolder, StageFolder, StageFolder]:
    """Dataset, embeddings and tags of the demo where 30 items are one item under 30 names."""
    raw, output = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("equal")
    items = pl.read_parquet(demo_folder.path / ITEMS_FILE)
    same = pl.concat([items[:1]] * 30).with_columns(item_id=items["item_id"][:30])
    pl.concat([same, items[30:]]).write_parquet(raw / "items.parquet")
    events = load_dataset(demo_folder).events_frame()
    events.rename({"position": "timestamp"}).write_parquet(raw / "interactions.parquet")
    dataset = prepare(DatasetConfig(source="folder", folder=str(raw)), output / "dataset")
    text_alone = replace(EMBEDDING, cooccurrence_dim=0)
    embeddings = embed(text_alone, dataset, output / "embeddings")
    config = TagConfig(source="categories")
    tags = tag(config, LLMConfig(), text_alone, dataset, embeddings, output / "tags")
    return dataset, embeddings, tags


def test_the_table_covers_the_catalogue(
    semantic_ids: StageFolder, demo_folder: StageFolder, tags: StageFolder
) -> None:
    ids = SemanticIds.load(semantic_ids)
    assert ids.item_ids == load_dataset(demo_folder).catalogue.item_ids
    assert ids.level_sizes == (16, 16, 16)
    assert ids.is_unique and not ids.is_disambiguated
    for level, size in enumerate(load_tags(tags).vocabulary.sizes):
        assert ids.tag_ids[:, level].max() < size
        assert ids.tag_ids[:, level].min() >= (0 if size else -1)


def test_items_that_collide_with_none_keep_their_codes(
    semantic_ids: StageFolder, tokenizer: StageFolder, tags: StageFolder, embeddings: StageFolder
) -> None:
    model = load_tokenizer(tokenizer, tags)
    _, codes = encode_items(model, load_embeddings(embeddings).matrix)
    final = SemanticIds.load(semantic_ids).codes
    _, group, count = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    is_alone = count[group.reshape(-1)] == 1
    assert 0 < is_alone.sum() < len(codes), "the case is not there"
    np.testing.assert_array_equal(final[is_alone], codes[is_alone])
    quality = read_json(semantic_ids.path / QUALITY)
    assert quality["items_moved"] == int((final != codes).any(axis=1).sum())
    assert quality["collision_rate_before"] == pytest.approx(collision_rate(codes)) != 0
    assert quality["collision_rate_after"] == 0
    expected = id_quality(codes, [16] * 3, load_tags(tags).ids)
    for name in ("codebook_usage", "perplexity", "prefix_purity", "largest_collision"):
        assert quality[name] == pytest.approx(expected[name]), name


def test_predicted_tags_are_those_of_the_written_codes(
    semantic_ids: StageFolder, tokenizer: StageFolder, tags: StageFolder
) -> None:
    ids = SemanticIds.load(semantic_ids)
    tag_ids, confidence = predict_tags(load_tokenizer(tokenizer, tags), ids.codes.copy())
    np.testing.assert_array_equal(ids.tag_ids, tag_ids)
    np.testing.assert_array_equal(ids.tag_confidence, confidence)


@pytest.mark.parametrize("collisions", BOTH)
def test_equal_items_are_parted(
    collisions: Collisions,
    equal_items: tuple[StageFolder, StageFolder, StageFolder],
    config: TokenizerConfig,
    run: RunConfig,
    tmp_path: Path,
) -> None:
    dataset, embeddings, tags = equal_items
    matrix = load_embeddings(embeddings).matrix
    assert (matrix[:30] == matrix[0]).all() and (load_tags(tags).ids[:30] == -1).sum() < 90
    config = replace(config, collisions=collisions)
    tokenizer = train_tokenizer(config, run, dataset, embeddings, tags, tmp_path / "tokenizer")
    folder = encode_catalogue(tokenizer, dataset, embeddings, tags, tmp_path / "semantic_ids")
    quality, ids = read_json(folder.path / QUALITY), SemanticIds.load(folder)
    assert quality["largest_collision"] >= 30
    assert quality["collision_rate_before"] >= 29 / 120
    assert quality["collision_rate_after"] == 0
    assert len(np.unique(ids.codes, axis=0)) == 120
    assert ids.is_disambiguated == (collisions == "disambiguate")
    assert ids.num_levels == (4 if ids.is_disambiguated else 3)
    assert ids.num_tag_levels == 3
    assert len(np.unique(ids.codes[:30, 0])) == 1, "they stay under one first code"


def test_encoding_in_blocks_changes_nothing(
    tokenizer: StageFolder,
    tags: StageFolder,
    embeddings: StageFolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, matrix = load_tokenizer(tokenizer, tags), load_embeddings(embeddings).matrix
    latents, codes = encode_items(model, matrix)
    tag_ids, confidence = predict_tags(model, codes)
    monkeypatch.setattr(encode_module, "ITEMS_PER_BLOCK", 50)
    block_latents, block_codes = encode_items(model, matrix)
    np.testing.assert_allclose(block_latents, latents, atol=1e-6)
    np.testing.assert_array_equal(block_codes, codes)
    block_tags, block_confidence = predict_tags(model, codes)
    np.testing.assert_array_equal(block_tags, tag_ids)
    np.testing.assert_allclose(block_confidence, confidence, atol=1e-6)


class Parrot(torch.nn.Module):
    """A stand-in tokenizer whose predicted tags are the codes."""

    predicts_tags = True

    def predict_tags(self, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return codes, torch.ones(codes.shape)


def accuracy_of(truth: np.ndarray, predicted: np.ndarray, held_out: np.ndarray) -> dict[str, Any]:
    model: Any = Parrot()
    return tag_accuracy(model, predicted, truth, held_out)


def test_tag_accuracy_is_of_held_out_items_with_a_known_tag() -> None:
    held_out = np.array([True, True, True, True, False, False, False])
    truth = np.array([[0, 0], [1, -1], [2, 3], [-1, -1], [0, 3], [0, 3], [1, -1]])
    predicted = np.array([[0, 9], [1, 0], [0, 3], [0, 0], [9, 9], [9, 9], [9, 9]])
    found = accuracy_of(truth, predicted, held_out)
    assert found["tag_items"] == [3, 2]
    assert found["tag_accuracy"] == [2 / 3, 1 / 2]
    # The most frequent tags of the training items are 0 and 3.
    assert found["tag_majority_rate"] == [1 / 3, 1 / 2]


def test_tag_accuracy_is_none_where_there_is_nothing_to_test() -> None:
    truth, predicted = np.array([[0, -1], [1, 1]]), np.array([[0, 0], [1, 1]])
    found = accuracy_of(truth, predicted, np.array([True, False]))
    assert found["tag_accuracy"] == [1.0, None]
    assert accuracy_of(truth, predicted, np.array([False, False]))["tag_accuracy"] == [None, None]
    assert accuracy_of(truth, predicted, np.array([True, True]))["tag_majority_rate"] == [None] * 2


def test_training_items_do_not_count_for_tag_accuracy(
    semantic_ids: StageFolder, tokenizer: StageFolder, tags: StageFolder, embeddings: StageFolder
) -> None:
    quality, held_out = read_json(semantic_ids.path / QUALITY), load_held_out(tokenizer)
    truth = load_tags(tags).ids
    model = load_tokenizer(tokenizer, tags)
    _, codes = encode_items(model, load_embeddings(embeddings).matrix)
    predicted, _ = predict_tags(model, codes)
    for level in range(3):
        tested = held_out & (truth[:, level] >= 0)
        assert quality["tag_items"][level] == tested.sum()
        if tested.any():
            hits = (predicted[tested, level] == truth[tested, level]).mean()
            assert quality["tag_accuracy"][level] == pytest.approx(hits)
    assert sum(quality["tag_items"]) > 0


def test_without_supervision_there_are_ids_and_no_tags(
    config: TokenizerConfig,
    run: RunConfig,
    demo_folder: StageFolder,
    embeddings: StageFolder,
    tags: StageFolder,
    tmp_path: Path,
) -> None:
    plain = replace(config, tag_alignment_weight=0, tag_prediction_weight=0, epochs=1)
    tokenizer = train_tokenizer(plain, run, demo_folder, embeddings, tags, tmp_path / "tokenizer")
    folder = encode_catalogue(tokenizer, demo_folder, embeddings, tags, tmp_path / "semantic_ids")
    ids = SemanticIds.load(folder)
    assert ids.is_unique
    assert (ids.tag_ids == -1).all() and (ids.tag_confidence == 0).all()
    assert read_json(folder.path / QUALITY)["tag_accuracy"] == [None, None, None]


def test_the_same_inputs_give_the_same_table(
    semantic_ids: StageFolder,
    tokenizer: StageFolder,
    demo_folder: StageFolder,
    embeddings: StageFolder,
    tags: StageFolder,
    tmp_path: Path,
) -> None:
    again = encode_catalogue(tokenizer, demo_folder, embeddings, tags, tmp_path / "ids")
    assert again.fingerprint == semantic_ids.fingerprint
    assert isinstance(load_tokenizer(tokenizer, tags), HiDVAE)
