"""A run as the server holds it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl

from hidvae.apps.serve.live_run import LiveRun
from hidvae.errors import DataError


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
