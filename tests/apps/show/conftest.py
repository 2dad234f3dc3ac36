"""A small dataset with known answers, as tables and as a run with tags."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.stages import prepare

from hidvae.config import DatasetConfig
from hidvae.features.tags.vocabulary import TAGS_FILE, ItemTags, TagVocabulary, save_tags
from hidvae.store.artifacts import StageFolder, read_stage, write_stage

ITEMS = {
    "item_id": ["a", "b", "c", "d", "e", "f"],
    "title": ["Red lamp", "Blue lamp", "Oak chair", "Pine chair", "Vase", "Nobody's"],
    "brand": ["Lux", "Lux", None, None, None, None],
    "categories": [
        ["Home", "Light"],
        ["Home", "Light"],
        ["Home", "Seats"],
        ["Home", "Seats", "Pine"],
        ["Home"],
        None,
    ],
}
HISTORIES = {"u1": "abc", "u2": "abcde", "u3": "aabdc", "u4": "zz"}
TAG_IDS = [[0, 0], [0, 0], [1, 1], [1, 2], [-1, -1], [1, -1]]
TAG_SOURCES = [["category", "category"]] * 3 + [["category", "llm"], ["", ""], ["llm", ""]]


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A folder of raw tables: 4 users, one of whom has unknown items only, and 6 items."""
    folder = tmp_path / "shop"
    folder.mkdir()
    pl.DataFrame(ITEMS).write_parquet(folder / "items.parquet")
    events = [
        (user, item, at) for user, items in HISTORIES.items() for at, item in enumerate(items)
    ]
    log = pl.DataFrame(events, ["user_id", "item_id", "position"], orient="row")
    log.write_parquet(folder / "interactions.parquet")
    return folder


@pytest.fixture
def run(tables: Path, tmp_path: Path) -> Path:
    """A run with the stage prepare only."""
    config = DatasetConfig(folder=str(tables))
    prepare(config, tmp_path / "run" / "dataset")
    return tmp_path / "run"


@pytest.fixture
def add_tags(run: Path) -> Callable[..., None]:
    """Write RUN/tags: two levels, five known classes."""

    def write(
        made_from: str | None = None,
        with_sources: bool = False,
        ids: list[list[int]] = TAG_IDS,
    ) -> None:
        dataset = read_stage(run / "dataset", produced_by="hidvae prepare")
        inputs = {"dataset": made_from or dataset.fingerprint}
        vocabulary = TagVocabulary(
            names=[["Light", "Seats"], ["Lamps", "Oak", "Pine"]],
            paths=[["Light", "Seats"], ["Light > Lamps", "Seats > Oak", "Seats > Pine"]],
            parents=[np.array([-1, -1]), np.array([0, 1, 1])],
            counts=[np.array([2, 3]), np.array([2, 1, 1])],
        )
        vectors = [np.zeros((size, 4), np.float32) for size in vocabulary.sizes]
        with write_stage(run / "tags", stage="tag", config={}, inputs=inputs) as stage:
            save_tags(ItemTags(np.array(ids), vocabulary, vectors), ITEMS["item_id"], stage.path)
            if with_sources:
                frame = pl.read_parquet(stage.path / TAGS_FILE)
                frame = frame.with_columns(tag_sources=pl.Series(TAG_SOURCES))
                frame.write_parquet(stage.path / TAGS_FILE)
            stage.facts["num_levels"] = 2

    return write


@pytest.fixture
def prepared(run: Path) -> StageFolder:
    """The stage folder of ``run``."""
    return read_stage(run / "dataset", produced_by="hidvae prepare")
