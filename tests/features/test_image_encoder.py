from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.features.conftest import make_catalogue
from tests.features.tiny_models import save_tiny_bert, save_tiny_clip
from tests.stages import embed, prepare

from hidvae.config import DatasetConfig, EmbeddingConfig
from hidvae.data.catalogue import Catalogue
from hidvae.data.prepare import load_dataset
from hidvae.errors import ConfigError, DataError
from hidvae.features import image_encoder
from hidvae.features.embeddings import load_embeddings
from hidvae.features.image_encoder import (
    ImageEncoder,
    check_images,
    embed_images,
    encode_images,
    image_values,
)
from hidvae.features.image_files import FoundImage
from hidvae.features.new_items import NewItemEncoder
from hidvae.features.tags.vocabulary import TagVocabulary
from hidvae.store.artifacts import StageFolder

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """0.png … 3.png of random dots, copy.png like 0.png, and broken.png."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        dots = np.random.default_rng(number).integers(0, 255, (20, 24, 3), np.uint8)
        Image.fromarray(dots).save(folder / f"{number}.png")
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:200])
    return folder


def embed_them(values: list[str], folder: Path, model: str) -> image_encoder.ImageVectors:
    config = EmbeddingConfig(image_encoder=model)
    found = embed_images(values, config, folder)
    check_images(found, config)
    return found


def test_vectors_are_the_models_own_and_cached_by_content(
    pictures: Path, tiny_clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers import SentenceTransformer

    files = [pictures / f"{name}.png" for name in ("0", "1", "copy")]
    found = [FoundImage(file.name, file.read_bytes) for file in files]
    config = EmbeddingConfig(image_encoder=tiny_clip)
    vectors = encode_images(found, config)
    images = [Image.open(file).convert("RGB") for file in files]
    expected = SentenceTransformer(tiny_clip).encode(images, normalize_embeddings=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    monkeypatch.setattr(image_encoder, "ImageEncoder", None)  # would fail if called
    again = encode_images(found[::-1], config)
    np.testing.assert_array_equal(again, vectors[::-1])


def test_items_without_image_or_with_a_broken_one_get_zeros(
    pictures: Path, tiny_clip: str, caplog: pytest.LogCaptureFixture
) -> None:
    values = ["0.png", "", "broken.png", "1.png", "gone.png", "2.png", "3.png"]
    with caplog.at_level(logging.WARNING):
        found = embed_them(values, pictures, tiny_clip)
    assert (found.num_without, found.num_failed) == (1, 2)
    lengths = np.linalg.norm(found.vectors, axis=1)
    np.testing.assert_allclose(lengths, [1, 0, 0, 1, 0, 1, 1], atol=1e-6)
    assert "2 of 6 images failed, such as gone.png (no such file" in caplog.text


def test_when_most_images_fail_the_stage_is_refused(pictures: Path, tiny_clip: str) -> None:
    with pytest.raises(DataError, match=r"2 of 3 failed, such as gone\.png \(no such file"):
        embed_them(["0.png", "gone.png", "broken.png"], pictures, tiny_clip)
    with pytest.raises(DataError, match="2 of 2 failed"):
        embed_them(["gone.png", "lost.png"], pictures, tiny_clip)
    assert embed_them(["0.png", "gone.png"], pictures, tiny_clip).num_failed == 1


def test_no_image_at_all_is_refused(pictures: Path) -> None:
    with pytest.raises(DataError, match=r"found none; fill the column image, or set"):
        embed_them(["", ""], pictures, "any")


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    model = str(save_tiny_bert(tmp_path / "bert"))
    with pytest.raises(ConfigError, match="expected a model that takes images") as caught:
        ImageEncoder(model)
    assert "\n" not in str(caught.value)


def test_the_column_must_be_there_and_hold_text() -> None:
    assert image_values(make_catalogue(image=[" a.png ", None])) == ["a.png", ""]
    with pytest.raises(ConfigError, match=r"in column image; found item_id.*\"image=your name\""):
        image_values(make_catalogue(picture=["a.png", "b.png"]))
    with pytest.raises(ConfigError, match="found values of type Float64"):
        image_values(make_catalogue(image=[1.0, 2.0]))


@pytest.fixture
def dataset(pictures: Path, tmp_path: Path) -> StageFolder:
    pl.DataFrame(
        {
            "item_id": ["a", "b", "c", "d"],
            "title": ["red lipstick", "blue lipstick", "engine oil", "motor oil"],
            "image": ["0.png", "1.png", None, "3.png"],
        }
    ).write_parquet(pictures / "items.parquet")
    events = [(user, item, step) for user in "uv" for step, item in enumerate("abcd")]
    pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row").write_parquet(
        pictures / "interactions.parquet"
    )
    return prepare(DatasetConfig(source="folder", folder=str(pictures)), tmp_path / "dataset")


def test_the_stage_puts_images_beside_the_text(
    dataset: StageFolder, pictures: Path, tiny_clip: str, tmp_path: Path
) -> None:
    config = EmbeddingConfig(
        text_encoder="hashing",
        image_encoder=tiny_clip,
        cooccurrence_dim=2,
    )
    folder = embed(config, dataset, tmp_path / "embeddings")
    embeddings = load_embeddings(folder)
    assert embeddings.parts == {"text": (0, 256), "image": (256, 268), "cooccurrence": (268, 270)}
    lengths = np.linalg.norm(embeddings.part("image"), axis=1)
    np.testing.assert_allclose(lengths, [1, 1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(embeddings.part("text"), axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(embeddings.content, embeddings.matrix[:, :268])
    assert folder.metrics["images"] == {"items_without_image": 1, "failed_images": 0}
    assert folder.facts["image_encoder"] == tiny_clip
    before = folder.manifest["inputs"]
    Image.new("RGB", (9, 9)).save(pictures / "1.png")
    after = embed(config, dataset, tmp_path / "after").manifest["inputs"]
    assert after["dataset"] == before["dataset"]
    assert after["images"] != before["images"]


def test_new_items_need_no_image_and_one_that_fails_costs_no_more_than_itself(
    dataset: StageFolder, pictures: Path, tiny_clip: str, tmp_path: Path
) -> None:
    config = EmbeddingConfig(text_encoder="hashing", image_encoder=tiny_clip, cooccurrence_dim=2)
    folder = embed(config, dataset, tmp_path / "embeddings")
    embeddings = load_embeddings(folder)
    encoder = NewItemEncoder(
        load_dataset(dataset).catalogue, folder, embeddings, TagVocabulary.empty(1), pictures
    )
    start, end = embeddings.parts["image"]

    def image_part(images: list[str | None]) -> np.ndarray:
        rows = {"item_id": [f"new {row}" for row in range(len(images))], "image": images}
        titles = [f"hair oil {row}" for row in range(len(images))]
        frame = pl.DataFrame({**rows, "title": titles}).with_columns(
            categories=pl.lit(None, pl.List(pl.String))
        )
        return encoder.encode(Catalogue(frame)).vectors[:, start:end]

    assert not image_part([None]).any()
    assert not image_part(["gone.png"]).any()  # where training would refuse so many
    assert not image_part(["../pictures.png", "broken.png"]).any()
    mixed = image_part(["gone.png", "1.png", None, "broken.png"])
    np.testing.assert_allclose(mixed[1], embeddings.part("image")[1], atol=1e-6)
    assert not mixed[[0, 2, 3]].any()


def test_images_alone_are_content(dataset: StageFolder, tiny_clip: str, tmp_path: Path) -> None:
    config = EmbeddingConfig(text_encoder="none", image_encoder=tiny_clip, cooccurrence_dim=2)
    embeddings = load_embeddings(embed(config, dataset, tmp_path / "embeddings"))
    assert embeddings.parts == {"image": (0, 12), "cooccurrence": (12, 14)}
    np.testing.assert_array_equal(embeddings.content, embeddings.part("image"))
