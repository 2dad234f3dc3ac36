"""A run as the server holds it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from tests.features.tiny_models import save_tiny_clip

from hidvae.apps.serve.live_run import LiveRun
from hidvae.config import load_config
from hidvae.data.sources.demo import generate_demo
from hidvae.errors import ConfigError, DataError
from hidvae.run.run import Run


def test_a_run_whose_vectors_come_from_a_file_has_no_encoder_to_load() -> None:
    asked = []

    def update_items(rows: pl.DataFrame) -> None:
        asked.append(rows["item_id"].to_list())
        raise DataError("items: expected a column vector")

    live = LiveRun.__new__(LiveRun)
    catalogue = SimpleNamespace(frame=pl.DataFrame({"item_id": ["a", "b"]}))
    recommender = SimpleNamespace(catalogue=catalogue, update_items=update_items)
    view = SimpleNamespace(by_popularity=np.array([1, 0]))
    live.current = SimpleNamespace(recommender=recommender, view=view, path=Path())  # type: ignore[assignment]
    live.load_encoders()
    assert asked == [["b"]]


def test_a_popular_item_without_an_image_is_no_obstacle(
    tmp_path: Path, tiny_settings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """At the start and at each reload; nor is one whose image is broken, alone or in company."""
    Image = pytest.importorskip("PIL.Image")
    tables = tmp_path / "tables"
    tables.mkdir()
    Image.new("RGB", (16, 16), "red").save(tables / "one.png")
    (tables / "broken.png").write_bytes((tables / "one.png").read_bytes()[:40])
    demo = generate_demo(num_items=120, num_users=200)
    popular = demo.interactions["item_id"].mode()
    image = (
        pl.when(pl.col("item_id").is_in(popular.implode())).then(None).otherwise(pl.lit("one.png"))
    )
    demo.items.with_columns(image=image).write_parquet(tables / "items.parquet")
    demo.interactions.write_parquet(tables / "interactions.parquet")
    settings = [
        *tiny_settings,
        "DatasetConfig.source=folder",
        f"DatasetConfig.folder={tables}",
        f"EmbeddingConfig.image_encoder={save_tiny_clip(tmp_path / 'clip')}",
    ]
    run = Run(tmp_path / "run", "cpu")
    run.make(load_config([], settings), until="train")
    live = LiveRun(run.path, "cpu")
    live.load_encoders()
    row = live.current.catalogue.frame.row(7, named=True)
    for names in (["none"], ["broken"], ["one", "broken", "gone", "none"]):
        rows = [
            {**row, "item_id": f"{live.current.version}-{name}", "image": f"{name}.png"}
            for name in names
        ]
        rows = [each if "none" not in each["image"] else {**each, "image": None} for each in rows]
        live.change(lambda snapshot, rows=rows: snapshot.recommender.add_items(rows))  # type: ignore[misc]
    content = live.current.recommender.content[-6:, -12:]
    assert content.any(axis=1).tolist() == [False, False, True, False, False, False]
    live.reload()
    live.load_encoders()
    assert live.current.version == 3
    assert "items cannot be added" not in caplog.text


def test_a_run_of_vectors_from_a_file_starts_and_takes_items_with_a_vector(
    tmp_path: Path, tiny_settings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    matrix = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
    np.save(tmp_path / "own.npy", matrix)
    run = Run(tmp_path / "run", "cpu")
    settings = [*tiny_settings, f"EmbeddingConfig.embeddings_file={tmp_path / 'own.npy'}"]
    run.make(load_config([], settings), until="train")
    live = LiveRun(run.path, "cpu")
    live.load_encoders()
    row = {**live.current.catalogue.frame.row(7, named=True), "item_id": "new"}
    with pytest.raises(DataError, match="a column vector of 6 numbers"):
        live.change(lambda snapshot: snapshot.recommender.add_items([row]))
    row["vector"] = matrix[7].tolist()
    live.change(lambda snapshot: snapshot.recommender.add_items([row]))
    live.reload()
    live.load_encoders()
    assert live.current.catalogue.item_ids[-1] == "new"
    assert caplog.text.count("cannot be") == 0


def test_an_encoder_that_may_not_be_loaded_is_said_and_costs_the_changes_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def update_items(_: pl.DataFrame) -> None:
        raise ConfigError("EmbeddingConfig.text_encoder: expected a model that is known here")

    live = LiveRun.__new__(LiveRun)
    catalogue = SimpleNamespace(frame=pl.DataFrame({"item_id": ["a", "b"]}))
    recommender = SimpleNamespace(catalogue=catalogue, update_items=update_items)
    view = SimpleNamespace(by_popularity=np.array([1, 0]))
    live.current = SimpleNamespace(recommender=recommender, view=view)  # type: ignore[assignment]
    live.load_encoders()
    assert "items cannot be added: EmbeddingConfig.text_encoder" in caplog.text
