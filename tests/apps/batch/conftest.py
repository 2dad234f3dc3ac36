"""The tiny run's items and users as shards, and what one process makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from hidvae.apps.batch import embed_shards, recommend_shards, tokenize_shards
from hidvae.data.prepare import load_dataset
from hidvae.store.artifacts import read_stage

TOP_K = 5


def write_shards(frame: pl.DataFrame, folder: Path, num_shards: int) -> Path:
    """The rows in order, cut into files of nearly equal size."""
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-frame.height // num_shards)
    for number in range(num_shards):
        frame[number * size : (number + 1) * size].write_parquet(folder / f"part-{number}.parquet")
    return folder


def read_all(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("*.parquet"))])


class Made(NamedTuple):
    """Input folders, and the output folders of one process."""

    items: Path
    users: Path
    vectors: Path
    ids: Path
    lists: Path


@pytest.fixture(scope="session")
def made(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """All three jobs by one process; do not write into it."""
    base = tmp_path_factory.mktemp("shards")
    events = load_dataset(
        read_stage(tiny_run / "dataset", produced_by="hidvae prepare")
    ).events_frame()
    histories = events.group_by("user_id", maintain_order=True).agg(history="item_id")
    folders = Made(
        write_shards(pl.read_parquet(tiny_run / "dataset" / "items.parquet"), base / "items", 4),
        write_shards(histories, base / "users", 4),
        *(base / name for name in ("vectors", "ids", "lists")),
    )
    embed_shards(tiny_run, folders.items, folders.vectors)
    tokenize_shards(tiny_run, folders.vectors, folders.ids)
    recommend_shards(tiny_run, folders.users, folders.lists, TOP_K)
    return folders
