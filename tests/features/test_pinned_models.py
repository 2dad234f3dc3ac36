"""A model of the Hub is read at one commit, which the run writes down and reads again."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.features.model_hub import ModelHub, model_hub
from tests.features.tiny_models import save_tiny_bert, save_tiny_clip

from hidvae.apps.batch import embed_shards
from hidvae.config import load_config
from hidvae.data.sources.demo import generate_demo
from hidvae.errors import ConfigError, DataError
from hidvae.features.sentence_model import (
    MINILM,
    encode_batch,
    load_sentence_transformer,
    model_key,
    model_of,
    pinned,
)
from hidvae.run.run import Run

pytest.importorskip("sentence_transformers")
TEXTS = ["red nail polish", "dry shampoo"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    with model_hub(tmp_path / "hub", monkeypatch) as hub:
        yield hub


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two states of one model, which give the same texts different vectors."""
    folder = tmp_path_factory.mktemp("models")
    return save_tiny_bert(folder / "first"), save_tiny_bert(folder / "second", pooling="cls")


def vectors(name: str) -> np.ndarray:
    return encode_batch(load_sentence_transformer(name), TEXTS)


def test_a_commit_is_loaded_again_whatever_the_model_has_become(
    hub: ModelHub, models: tuple[Path, Path]
) -> None:
    first = hub.push("shop/model", models[0])
    name = pinned("shop/model")
    assert name == f"shop/model@{first}" == pinned(name)
    before = vectors(name)
    np.testing.assert_allclose(before, vectors(str(models[0])), atol=1e-6)
    second = hub.push("shop/model", models[1])
    np.testing.assert_array_equal(vectors(name), before)
    assert pinned("shop/model") == pinned("shop/model@main") == f"shop/model@{second}"
    assert not np.allclose(vectors(f"shop/model@{second}"), before, atol=1e-3)
    assert model_key(name) != model_key(f"shop/model@{second}")
    assert model_of(name) == "shop/model"


def test_what_was_read_last_is_known_without_the_hub(
    hub: ModelHub, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.push("shop/model", models[0])
    name = pinned("shop/model")
    before = vectors(name)
    hub.push("shop/model", models[1])
    hub.requests.clear()
    monkeypatch.setenv("HIDVAE_OFFLINE", "1")
    assert pinned("shop/model") == name
    np.testing.assert_array_equal(vectors(name), before)
    assert hub.requests == []
    with pytest.raises(ConfigError, match="image_encoder: 'shop/other' could not be loaded"):
        pinned("shop/other", "image_encoder")


def test_names_without_an_organisation_and_plain_models(hub: ModelHub, tmp_path: Path) -> None:
    commit = hub.push("sentence-transformers/tiny-clip", save_tiny_clip(tmp_path / "clip"))
    assert pinned("tiny-clip", "image_encoder") == f"tiny-clip@{commit}"
    with pytest.raises(ConfigError, match="'shop/none' could not be loaded") as caught:
        pinned("shop/none")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="could not be loaded"):
        load_sentence_transformer(f"tiny-clip@{'0' * 40}")


@pytest.mark.parametrize("name", ["none", "hashing", MINILM, f"sentence-transformers/{MINILM}"])
def test_what_is_known_by_its_files_keeps_its_name(name: str, tmp_path: Path) -> None:
    assert pinned(name) == name
    folder = tmp_path / "a@b"
    folder.mkdir()
    assert pinned(str(folder)) == model_of(str(folder)) == str(folder)


def test_of_minilm_only_the_public_weights_are_taken(
    hub: ModelHub, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n.startswith("gt_all") else find_spec(n)
    )
    hub.push(f"sentence-transformers/{MINILM}", models[0])
    with pytest.raises(DataError, match=r"expected SHA-256 .* has changed on the Hub") as caught:
        load_sentence_transformer(MINILM)
    assert "\n" not in str(caught.value)


def test_a_run_writes_the_commits_down_and_new_items_are_embedded_by_them(
    hub: ModelHub, models: tuple[Path, Path], tmp_path: Path, tiny_settings: list[str]
) -> None:
    """Of text and images; the tags' texts are read by the commit of the embeddings, too."""
    Image = pytest.importorskip("PIL.Image")
    clip = save_tiny_clip(tmp_path / "clip")
    text, image = hub.push("shop/model", models[0]), hub.push("shop/clip", clip)
    tables = tmp_path / "tables"
    tables.mkdir()
    demo = generate_demo(num_items=120, num_users=200)
    items = demo.items.with_columns(image=pl.lit("one.png"))
    Image.new("RGB", (16, 16), "red").save(tables / "one.png")
    items.write_parquet(tables / "items.parquet")
    demo.interactions.write_parquet(tables / "interactions.parquet")
    settings = [
        *tiny_settings,
        "DatasetConfig.source=folder",
        f"DatasetConfig.folder={tables}",
        "EmbeddingConfig.text_encoder=shop/model",
        "EmbeddingConfig.image_encoder=shop/clip",
    ]
    run = Run(tmp_path / "run", "cpu")
    run.make(load_config([], settings), until="embed")
    facts = run.folder("embeddings").facts
    assert facts["text_encoder"] == f"shop/model@{text}"
    assert facts["image_encoder"] == f"shop/clip@{image}"

    hub.push("shop/model", models[1])
    hub.push("shop/clip", models[1])  # no longer takes images
    run.make(load_config([], settings), until="train")
    assert run.folder("tags").facts["text_encoder"] == f"shop/model@{text}"
    row = {**run.dataset.catalogue.frame.row(7, named=True), "item_id": "new"}
    start, end = run.embeddings.content.shape[1] - 12, run.embeddings.content.shape[1]
    content = run.recommender.add_items([row]).content
    np.testing.assert_allclose(content[-1], content[7], atol=1e-5)
    assert content[-1, start:end].any()

    shards = tmp_path / "shards"
    shards.mkdir()
    items.drop("image").write_parquet(shards / "part-0.parquet")
    embed_shards(run.path, shards, tmp_path / "vectors")
    found = pl.read_parquet(tmp_path / "vectors" / "part-0.parquet")["vector"].to_list()
    np.testing.assert_allclose(found, run.embeddings.part("text"), atol=1e-5)
