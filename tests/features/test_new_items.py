"""New items get the vectors, words and tags that the run's stages would have given them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.stages import embed, prepare, tag

from hidvae.config import DatasetConfig, EmbeddingConfig, TagConfig, load_config
from hidvae.data.catalogue import Catalogue
from hidvae.data.prepare import load_dataset
from hidvae.errors import ConfigError, DataError
from hidvae.features.embeddings import load_embeddings
from hidvae.features.new_items import NewItemEncoder, encoders_of
from hidvae.features.sentence_model import TRUST_VARIABLE, check_trusted
from hidvae.features.tags.vocabulary import ItemTags, load_tags
from hidvae.store.artifacts import StageFolder, read_stage


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Eight items, in which colours, words and paths repeat."""
    rows = {
        "item_id": [f"i{row}" for row in range(8)],
        "title": ["red nail", "red polish", "dry shampoo", "mild shampoo", "nail file"] * 1
        + ["polish set", "hair brush", "dry brush"],
        "colour": ["red", "red", "blue", None, "blue", "red", None, "blue"],
        "categories": ["All > Nails > Colour", "All > Nails > Colour", "All > Hair > Wash"]
        + ["All > Hair > Wash", "All > Nails > Tools", "All > Nails > Tools"]
        + ["All > Hair > Tools", "All > Hair > Tools"],
    }
    events = {"user_id": ["u"] * 8 + ["v"] * 8, "item_id": rows["item_id"] * 2}
    folder = tmp_path / "tables"
    folder.mkdir()
    pl.DataFrame(rows).write_csv(folder / "items.csv")
    pl.DataFrame(events).with_columns(position=pl.int_range(pl.len())).write_csv(
        folder / "interactions.csv"
    )
    return folder


def made(
    tables: Path, tmp_path: Path, **settings: object
) -> tuple[Catalogue, StageFolder, ItemTags]:
    dataset = prepare(DatasetConfig(folder=str(tables)), tmp_path / "dataset")
    config = EmbeddingConfig(text_encoder="hashing", cooccurrence_dim=2, **settings)  # type: ignore[arg-type]
    embeddings = embed(config, dataset, tmp_path / "embeddings")
    llm = load_config([], []).llm
    tags = tag(TagConfig(), llm, config, dataset, embeddings, tmp_path / "tags", 2)
    return load_dataset(dataset).catalogue, embeddings, load_tags(tags)


def test_an_item_of_the_run_gets_what_it_has(tables: Path, tmp_path: Path) -> None:
    catalogue, folder, tags = made(tables, tmp_path, categorical_columns=("colour",))
    embeddings = load_embeddings(folder)
    encoder = NewItemEncoder(catalogue, folder, embeddings, tags.vocabulary, None)
    found = encoder.encode(Catalogue(catalogue.frame[[5, 2]]))
    expected = embeddings.matrix[[5, 2]].copy()
    start, end = embeddings.parts["cooccurrence"]
    expected[:, start:end] = 0.0  # a new item has no transitions
    np.testing.assert_allclose(found.vectors, expected, atol=1e-6)
    np.testing.assert_array_equal(found.tfidf.toarray(), embeddings.tfidf[[5, 2]].toarray())
    np.testing.assert_array_equal(found.tag_ids, tags.ids[[5, 2]])


def test_a_path_that_the_run_does_not_know_has_no_tag(tables: Path, tmp_path: Path) -> None:
    catalogue, folder, tags = made(tables, tmp_path)
    encoder = NewItemEncoder(catalogue, folder, load_embeddings(folder), tags.vocabulary, None)
    paths = [["All", "Nails", "Gel"], ["All", "Feet"], None, ["Nails", "Tools"]]
    rows = catalogue.frame[[0, 0, 0, 0]].with_columns(categories=pl.Series(paths))
    nails = tags.vocabulary.names[0].index("Nails")
    tools = tags.vocabulary.paths[1].index("Nails > Tools")
    found = encoder.encode(Catalogue(rows)).tag_ids
    assert found.tolist() == [[nails, -1], [-1, -1], [-1, -1], [nails, tools]]


def test_vectors_of_a_file_come_with_the_rows(tables: Path, tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    np.save(tmp_path / "own.npy", matrix)
    catalogue, folder, tags = made(tables, tmp_path, embeddings_file=str(tmp_path / "own.npy"))
    assert read_stage(folder.path, produced_by="hidvae embed").facts["parts"]["file"] == [0, 3]
    encoder = NewItemEncoder(catalogue, folder, load_embeddings(folder), tags.vocabulary, None)
    row = catalogue.frame[[4]]
    with_vector = row.with_columns(vector=pl.Series([matrix[4].tolist()]))
    found = encoder.encode(Catalogue(with_vector)).vectors[0, :3]
    np.testing.assert_allclose(found, matrix[4] / np.linalg.norm(matrix[4]), atol=1e-6)
    with pytest.raises(DataError, match="a column vector of 3 numbers"):
        encoder.encode(Catalogue(row))
    short = row.with_columns(vector=pl.Series([[1.0, 2.0]]))
    with pytest.raises(DataError, match="'i4', column vector: expected 3 finite numbers; found 2"):
        encoder.encode(Catalogue(short))


def test_only_items_all_without_text_are_refused(tables: Path, tmp_path: Path) -> None:
    catalogue, folder, tags = made(tables, tmp_path)
    encoder = NewItemEncoder(catalogue, folder, load_embeddings(folder), tags.vocabulary, None)
    silent = Catalogue(catalogue.frame[[0]].with_columns(title=pl.lit(None, pl.String)))
    with pytest.raises(DataError, match="found none in 1 items"):
        encoder.encode(silent)


def test_a_run_of_a_stranger_loads_no_model_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    check_trusted(EmbeddingConfig())
    check_trusted(EmbeddingConfig(text_encoder="hashing"))
    for config in (
        EmbeddingConfig(text_encoder="stranger/model"),
        EmbeddingConfig(image_encoder="stranger/model"),
    ):
        monkeypatch.delenv(TRUST_VARIABLE, raising=False)
        with pytest.raises(ConfigError, match=f"{TRUST_VARIABLE}=stranger/model"):
            check_trusted(config)
        monkeypatch.setenv(TRUST_VARIABLE, "stranger/model")
        check_trusted(config)
        monkeypatch.setenv(TRUST_VARIABLE, "other/model, stranger/model")
        check_trusted(config)


def test_a_stranger_names_the_encoder_that_the_run_was_made_with(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the facts of the stage, whatever the settings say."""
    _, folder, _ = made(tables, tmp_path)
    assert encoders_of(folder, is_from_hub=True).text_encoder == "hashing"
    name = f"stranger/model@{'0' * 40}"
    folder.facts["text_encoder"] = name
    assert encoders_of(folder, is_from_hub=False).text_encoder == name
    monkeypatch.setenv(TRUST_VARIABLE, "stranger/model")  # anybody may offer a commit to it
    with pytest.raises(ConfigError, match=f"{TRUST_VARIABLE}={name}"):
        encoders_of(folder, is_from_hub=True)
    monkeypatch.setenv(TRUST_VARIABLE, name)
    assert encoders_of(folder, is_from_hub=True).text_encoder == name
