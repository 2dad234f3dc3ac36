from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.stages import prepare

from hidvae.config import DatasetConfig
from hidvae.data.catalogue import Catalogue
from hidvae.data.schema import check_items
from hidvae.store.artifacts import StageFolder


def make_catalogue(**columns: Any) -> Catalogue:
    """Items "i0", "i1", … with the given columns, through the checks of the data layer."""
    num_items = len(next(iter(columns.values())))
    item_ids = [f"i{row}" for row in range(num_items)]
    return Catalogue(check_items(pl.DataFrame({"item_id": item_ids, **columns}), "items"))


@pytest.fixture
def catalogue_of() -> Callable[..., Catalogue]:
    return make_catalogue


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("HIDVAE_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def log_lines_reach_caplog(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command run by an earlier test may have taken the package's log lines for itself."""
    monkeypatch.setattr(logging.getLogger("hidvae"), "propagate", True)


@pytest.fixture(scope="session")
def demo_dataset(tmp_path_factory: pytest.TempPathFactory) -> StageFolder:
    config = DatasetConfig(source="demo", demo_num_items=60, demo_num_users=60)
    return prepare(config, tmp_path_factory.mktemp("features") / "dataset")
