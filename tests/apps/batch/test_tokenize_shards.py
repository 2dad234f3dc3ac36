"""Semantic IDs of shards are those of stage tokenize."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.apps.batch.conftest import Made, read_all, write_shards

from hidvae.apps.batch import tokenize_shards
from hidvae.apps.batch.tokenize_shards import ENCODED
from hidvae.config import load_config
from hidvae.errors import DataError, ShapeError
from hidvae.features.embeddings import load_embeddings
from hidvae.run.run import Run
from hidvae.semantic_ids.collisions import collision_rate
from hidvae.store.artifacts import read_stage
from hidvae.tokenizer.encode import encode_items
from hidvae.tokenizer.train_tokenizer import load_tokenizer


def own_table(run: Path) -> pl.DataFrame:
    return pl.read_parquet(run / "semantic_ids" / "semantic_ids.parquet")


def test_the_runs_own_items_get_the_ids_of_the_run(tiny_run: Path, made: Made) -> None:
    assert read_all(made.ids).equals(own_table(tiny_run))


def test_collisions_between_shards_are_resolved(tiny_run: Path, made: Made) -> None:
    encoded = read_all(made.ids / ENCODED)["codes"].to_numpy()
    quality = read_stage(tiny_run / "semantic_ids", produced_by="hidvae tokenize").metrics
    assert collision_rate(encoded) == pytest.approx(quality["collision_rate_before"])
    assert collision_rate(encoded) > 0, "the fixture has nothing to resolve"
    assert collision_rate(np.array(read_all(made.ids)["codes"].to_list())) == 0


def test_disambiguation_codes_are_those_of_the_run(
    tiny_settings: list[str], tiny_run: Path, made: Made, tmp_path: Path
) -> None:
    config = load_config([], [*tiny_settings, "TokenizerConfig.collisions=disambiguate"])
    Run(tmp_path / "run").make(config, until="tokenize", reuse=[tiny_run])
    tokenize_shards(tmp_path / "run", made.vectors, tmp_path / "ids")
    assert read_all(tmp_path / "ids").equals(own_table(tmp_path / "run"))


def test_new_items_have_no_transitions(tiny_run: Path, made: Made, tmp_path: Path) -> None:
    """The same text under a new name has zeros after it; under the run's, what the run knows."""
    known = read_all(made.vectors).head(3)
    new = known.with_columns(item_id=pl.format("new-{}", "item_id"))
    write_shards(pl.concat([known, new]), tmp_path / "vectors", 2)
    counts = tokenize_shards(tiny_run, tmp_path / "vectors", tmp_path / "ids")
    assert (counts["rows"], counts["new_items"]) == (6, 3)
    folders = Run(tiny_run).folders(["dataset", "embeddings", "tags", "tokenizer"])
    own = load_embeddings(folders["embeddings"]).matrix[:3]
    without = own.copy()
    without[:, known["vector"].list.len()[0] :] = 0
    model = load_tokenizer(folders["tokenizer"], folders["tags"])
    _, expected = encode_items(model, np.concatenate([own, without]))
    assert np.array_equal(read_all(tmp_path / "ids" / ENCODED)["codes"].to_numpy(), expected)


def test_an_empty_shard_among_others(tiny_run: Path, made: Made, tmp_path: Path) -> None:
    vectors = read_all(made.vectors)
    write_shards(vectors, tmp_path / "vectors", 1)
    vectors.head(0).write_parquet(tmp_path / "vectors" / "empty.parquet")
    tokenize_shards(tiny_run, tmp_path / "vectors", tmp_path / "ids")
    assert pl.read_parquet(tmp_path / "ids" / "empty.parquet").is_empty()
    assert read_all(tmp_path / "ids").equals(own_table(tiny_run))


def test_an_item_in_two_shards_is_refused(tiny_run: Path, made: Made, tmp_path: Path) -> None:
    vectors = read_all(made.vectors).head(4)
    write_shards(pl.concat([vectors, vectors.tail(1)]), tmp_path / "vectors", 2)
    with pytest.raises(DataError, match=f"found item_id '{vectors['item_id'][3]}' more than once"):
        tokenize_shards(tiny_run, tmp_path / "vectors", tmp_path / "ids")


def test_vectors_of_another_width_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    write_shards(pl.DataFrame({"item_id": ["a"], "vector": [[1.0, 0.0]]}), tmp_path / "v", 1)
    with pytest.raises(ShapeError, match=r"part-0.*expected 256 numbers \(text\); found 2"):
        tokenize_shards(tiny_run, tmp_path / "v", tmp_path / "ids")


def test_vectors_of_another_length_are_refused(tiny_run: Path, made: Made, tmp_path: Path) -> None:
    long = read_all(made.vectors).with_columns(pl.col("vector") * 3)
    write_shards(long, tmp_path / "v", 1)
    with pytest.raises(DataError, match=r"text part of length 1 or 0; found 3 \(120 such rows\)"):
        tokenize_shards(tiny_run, tmp_path / "v", tmp_path / "ids")


def test_vectors_that_are_not_finite_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    write_shards(pl.DataFrame({"item_id": ["a"], "vector": [[float("nan")] * 256]}), tmp_path, 1)
    with pytest.raises(DataError, match=r"item_id 'a', column 0: expected a finite number"):
        tokenize_shards(tiny_run, tmp_path, tmp_path / "ids")
