from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file
from tests.stages import embed, prepare

from hidvae.config import DatasetConfig, EmbeddingConfig
from hidvae.data.prepare import load_dataset
from hidvae.errors import ArtifactError, ConfigError, DataError
from hidvae.features.cooccurrence import cooccurrence_embedding
from hidvae.features.embeddings import EMBEDDINGS_FILE, load_embeddings
from hidvae.features.item_text import item_texts
from hidvae.features.text_encoder import HashingEncoder
from hidvae.store.artifacts import StageFolder, is_current

CONFIG = EmbeddingConfig(
    text_encoder="hashing",
    cooccurrence_dim=8,
    categorical_columns=("brand",),
)


def test_parts_are_the_encoders_own_answers(demo_dataset: StageFolder, tmp_path: Path) -> None:
    folder = embed(CONFIG, demo_dataset, tmp_path / "embeddings")
    embeddings = load_embeddings(folder)
    dataset = load_dataset(demo_dataset)
    num_items = dataset.catalogue.num_items
    texts = item_texts(dataset.catalogue, CONFIG.text_columns)
    np.testing.assert_allclose(embeddings.content, HashingEncoder().encode(texts), atol=1e-6)
    np.testing.assert_array_equal(embeddings.content, embeddings.part("text"))
    vectors = cooccurrence_embedding(
        dataset.split.train, num_items=num_items, dim=8, window=CONFIG.cooccurrence_window
    )
    np.testing.assert_allclose(embeddings.part("cooccurrence"), vectors, atol=1e-6)
    assert set(np.unique(embeddings.part("categorical"))) == {0, 1}
    assert embeddings.matrix.shape == (num_items, embeddings.dim)
    assert embeddings.matrix.dtype == np.float32
    assert embeddings.num_items == num_items


def test_facts_describe_the_columns(demo_dataset: StageFolder, tmp_path: Path) -> None:
    folder = embed(CONFIG, demo_dataset, tmp_path / "embeddings")
    num_categorical = folder.facts["num_categorical"]
    dim = 256 + 8 + num_categorical
    assert num_categorical > 0
    assert folder.facts["dim"] == dim
    assert folder.facts["parts"] == {
        "text": [0, 256],
        "cooccurrence": [256, 264],
        "categorical": [264, dim],
    }
    assert folder.facts["text_encoder"] == "hashing"
    assert len(folder.facts["categorical_values"]) == num_categorical
    assert folder.manifest["inputs"] == {"dataset": demo_dataset.fingerprint}


def test_the_same_settings_give_the_same_folder(demo_dataset: StageFolder, tmp_path: Path) -> None:
    first = embed(CONFIG, demo_dataset, tmp_path / "first")
    second = embed(CONFIG, demo_dataset, tmp_path / "second")
    assert first.fingerprint == second.fingerprint
    inputs = {"dataset": demo_dataset.fingerprint}
    assert is_current(
        tmp_path / "first", config=dataclasses.asdict(CONFIG), inputs=inputs, seed=None
    )


def test_parts_can_be_left_out(demo_dataset: StageFolder, tmp_path: Path) -> None:
    config = EmbeddingConfig(text_encoder="hashing", cooccurrence_dim=0)
    embeddings = load_embeddings(embed(config, demo_dataset, tmp_path / "embeddings"))
    assert embeddings.parts == {"text": (0, 256)}
    assert embeddings.part("cooccurrence").shape == (60, 0)
    assert embeddings.num_categorical == 0


def test_rows_have_length_1_or_0(demo_dataset: StageFolder, tmp_path: Path) -> None:
    file = tmp_path / "mine.npy"
    rows = np.random.default_rng(0).standard_normal((60, 3))
    rows[7] = 0
    np.save(file, rows)
    config = EmbeddingConfig(embeddings_file=str(file))
    embeddings = load_embeddings(embed(config, demo_dataset, tmp_path / "embeddings"))
    lengths = np.linalg.norm(embeddings.part("file"), axis=1)
    np.testing.assert_allclose(lengths, np.where(np.arange(60) == 7, 0, 1), rtol=1e-6)
    lengths = np.linalg.norm(embeddings.part("cooccurrence"), axis=1)
    np.testing.assert_allclose(lengths[lengths > 0], 1, rtol=1e-6)


def test_without_text_the_transitions_are_enough(demo_dataset: StageFolder, tmp_path: Path) -> None:
    config = EmbeddingConfig(text_encoder="none", cooccurrence_dim=4)
    folder = embed(config, demo_dataset, tmp_path / "embeddings")
    assert folder.facts["parts"] == {"cooccurrence": [0, 4]}
    assert folder.facts["text_encoder"] == "none"


def test_nothing_to_embed_is_refused_and_leaves_no_folder(
    demo_dataset: StageFolder, tmp_path: Path
) -> None:
    config = EmbeddingConfig(text_encoder="none", cooccurrence_dim=0)
    with pytest.raises(ConfigError, match="at least one part.*turn one on"):
        embed(config, demo_dataset, tmp_path / "embeddings")
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []


def test_the_users_own_matrix_takes_the_place_of_the_text(
    demo_dataset: StageFolder, tmp_path: Path
) -> None:
    file = tmp_path / "mine.npy"
    np.save(file, np.arange(1, 61)[:, None] ** [[0, 1]] * [[3.0, 4.0]])
    config = EmbeddingConfig(embeddings_file=str(file), cooccurrence_dim=4)
    folder = embed(config, demo_dataset, tmp_path / "embeddings")
    embeddings = load_embeddings(folder)
    assert embeddings.parts == {"file": (0, 2), "cooccurrence": (2, 6)}
    np.testing.assert_allclose(embeddings.part("file")[0], [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(embeddings.content, embeddings.part("file"))
    before = folder.manifest["inputs"]
    np.save(file, np.arange(1, 61)[:, None] ** [[0, 1]] * [[4.0, 3.0]])
    after = embed(config, demo_dataset, tmp_path / "after").manifest["inputs"]
    assert after["dataset"] == before["dataset"]
    assert after["embeddings_file"] != before["embeddings_file"]


def test_a_matrix_of_other_items_is_refused(demo_dataset: StageFolder, tmp_path: Path) -> None:
    file = tmp_path / "mine.parquet"
    pl.DataFrame({"item_id": ["x"], "v": [1.0]}).write_parquet(file)
    with pytest.raises(DataError, match="'item-00000'"):
        embed(EmbeddingConfig(embeddings_file=str(file)), demo_dataset, tmp_path / "embeddings")


def test_a_matrix_that_is_not_there_is_named(demo_dataset: StageFolder, tmp_path: Path) -> None:
    config = EmbeddingConfig(embeddings_file=str(tmp_path / "none.npy"))
    with pytest.raises(DataError, match=r"none\.npy"):
        embed(config, demo_dataset, tmp_path / "embeddings")


@pytest.mark.parametrize("damage", ["width", "nan", "tensor", "bytes"])
def test_a_damaged_matrix_is_refused(
    damage: str, demo_dataset: StageFolder, tmp_path: Path
) -> None:
    folder = embed(CONFIG, demo_dataset, tmp_path / "embeddings")
    file = folder.path / EMBEDDINGS_FILE
    matrix = load_embeddings(folder).matrix.copy()  # it is mapped, and the file changes now
    if damage == "width":
        save_file({"item_embeddings": np.ascontiguousarray(matrix[:, 1:])}, file)
    elif damage == "nan":
        save_file({"item_embeddings": np.full_like(matrix, np.nan)}, file)
    elif damage == "tensor":
        save_file({"other": matrix}, file)
    else:
        file.write_bytes(b"\0" * file.stat().st_size)
    with pytest.raises(ArtifactError, match="run `hidvae embed` again"):
        load_embeddings(folder)


def test_items_without_text_have_a_text_part_of_zeros(tmp_path: Path) -> None:
    items = {"item_id": list("abc"), "title": ["Soap", None, "Comb"]}
    pl.DataFrame(items).write_csv(tmp_path / "items.csv")
    events = [(user, item) for user in "uv" for item in "abca"]
    log = pl.DataFrame(events, schema=["user_id", "item_id"], orient="row")
    log.write_csv(tmp_path / "interactions.csv")
    dataset = prepare(DatasetConfig(folder=str(tmp_path)), tmp_path / "dataset")
    config = EmbeddingConfig(text_encoder="hashing", text_columns=("title",), cooccurrence_dim=2)
    text = load_embeddings(embed(config, dataset, tmp_path / "embeddings")).part("text")
    np.testing.assert_allclose(
        text[[0, 2]], HashingEncoder().encode(["Title: Soap", "Title: Comb"])
    )
    assert not text[1].any()
