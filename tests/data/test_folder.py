from __future__ import annotations

from pathlib import Path

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.sources.folder import read_folder, source_files


def write_tables(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"item_id": ["a"]}).write_csv(folder / "items.csv")
    pl.DataFrame({"user_id": ["u"], "item_id": ["a"]}).write_csv(folder / "interactions.csv")


def test_own_folder_is_read_by_its_name(tmp_path: Path) -> None:
    write_tables(tmp_path / "my-shop")
    config = DatasetConfig(folder=str(tmp_path / "my-shop"))
    tables = read_folder(config)
    assert tables.name == "my-shop"
    assert tables.items["item_id"].to_list() == ["a"]
    assert list(source_files(config)) == ["items.csv", "interactions.csv"]
