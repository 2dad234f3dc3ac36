"""Vectors of shards are the text part of the run's."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.apps.batch.conftest import Made, read_all, write_shards
from tests.features.tiny_models import save_tiny_bert

from hidvae.apps.batch import embed_shards
from hidvae.config import load_config
from hidvae.errors import ConfigError
from hidvae.features.embeddings import load_embeddings
from hidvae.features.sentence_model import TRUST_VARIABLE
from hidvae.run import run as run_module
from hidvae.run.run import Run
from hidvae.store.artifacts import read_stage


def text_part(run: Path) -> np.ndarray:
    return load_embeddings(read_stage(run / "embeddings", produced_by="hidvae embed")).part("text")


def vectors_of(folder: Path) -> np.ndarray:
    return np.array(read_all(folder)["vector"].to_list(), np.float32)


def test_vectors_are_the_text_part_of_the_run(tiny_run: Path, made: Made) -> None:
    assert read_all(made.vectors)["item_id"].equals(read_all(made.items)["item_id"])
    assert np.array_equal(vectors_of(made.vectors), text_part(tiny_run))
    assert read_all(made.vectors).schema["vector"] == pl.List(pl.Float32)


def test_sharding_changes_a_models_vectors_by_rounding_only(
    tiny_settings: list[str], tiny_run: Path, made: Made, tmp_path: Path
) -> None:
    model = save_tiny_bert(tmp_path / "model")
    config = load_config([], [*tiny_settings, f"EmbeddingConfig.text_encoder={model}"])
    run = tmp_path / "run"
    Run(run).make(config, until="embed")
    counts = embed_shards(run, made.items, tmp_path / "vectors")
    assert counts == {"rows": 120, "items_without_text": 0}
    np.testing.assert_allclose(vectors_of(tmp_path / "vectors"), text_part(run), atol=2e-6)


def test_a_shard_may_hold_one_item_or_several_of_one_text(tiny_run: Path, tmp_path: Path) -> None:
    items = pl.DataFrame({"item_id": [7, 8, 9], "title": ["Soap", "Soap", "Soap"]})
    write_shards(items, tmp_path / "items", 2)
    embed_shards(tiny_run, tmp_path / "items", tmp_path / "vectors")
    found = read_all(tmp_path / "vectors")
    assert found["item_id"].to_list() == ["7", "8", "9"]
    assert found["vector"].n_unique() == 1


def test_an_empty_shard_gives_an_empty_shard(tiny_run: Path, made: Made, tmp_path: Path) -> None:
    write_shards(read_all(made.items).head(0), tmp_path / "items", 1)
    counts = embed_shards(tiny_run, tmp_path / "items", tmp_path / "vectors")
    assert counts["rows"] == 0
    assert read_all(tmp_path / "vectors").columns == ["item_id", "vector"]


def test_missing_text_is_zeros(tiny_run: Path, tmp_path: Path) -> None:
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["Soap", None, "  "]})
    write_shards(items, tmp_path / "items", 3)  # the last two shards hold no text at all
    counts = embed_shards(tiny_run, tmp_path / "items", tmp_path / "vectors")
    assert counts == {"rows": 3, "items_without_text": 2}
    lengths = np.linalg.norm(vectors_of(tmp_path / "vectors"), axis=1)
    np.testing.assert_allclose(lengths, [1, 0, 0], rtol=1e-6)


def test_a_run_without_text_part_cannot_embed(
    tiny_settings: list[str], tiny_run: Path, made: Made, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copytree(tiny_run / "dataset", run / "dataset")
    config = load_config([], [*tiny_settings, "EmbeddingConfig.text_encoder=none"])
    Run(run).make(config, until="embed")
    with pytest.raises(ConfigError, match="found the parts cooccurrence"):
        embed_shards(run, made.items, tmp_path / "vectors")


def test_a_run_of_a_stranger_loads_no_model_that_it_names(
    tiny_settings: list[str], made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_tiny_bert(tmp_path / "model")
    config = load_config([], [*tiny_settings, f"EmbeddingConfig.text_encoder={model}"])
    Run(tmp_path / "run").make(config, until="embed")
    monkeypatch.setattr(run_module, "local_folder", lambda _: tmp_path / "run")
    with pytest.raises(ConfigError, match=f"{TRUST_VARIABLE}={model}") as error:
        embed_shards("hf://stranger/run", made.items, tmp_path / "vectors")
    assert "\n" not in str(error.value) and not (tmp_path / "vectors").exists()
    monkeypatch.setenv(TRUST_VARIABLE, str(model))
    counts = embed_shards("hf://stranger/run", made.items, tmp_path / "vectors")
    assert counts["rows"] == 120


def test_encoders_of_a_run_are_read_at_one_place() -> None:
    """Where it is asked whether a stranger's may be loaded."""
    source = Path(run_module.__file__).parent.parent
    reading = [
        file.name
        for file in source.rglob("*.py")
        if "build_section(EmbeddingConfig" in file.read_text(encoding="utf-8")
    ]
    assert reading == ["new_items.py"]
