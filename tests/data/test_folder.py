from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from hidvae.config import DatasetConfig
from hidvae.data.sources.folder import locate_folder, read_folder, table_paths
from hidvae.errors import ConfigError, DataError


def write_tables(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"item_id": ["a"]}).write_csv(folder / "items.csv")
    pl.DataFrame({"user_id": ["u"], "item_id": ["a"]}).write_csv(folder / "interactions.csv")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HIDVAE_DATA", raising=False)


def test_known_datasets_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    amazon = DatasetConfig(source="amazon", dataset_split="beauty")
    write_tables(tmp_path / "data" / "amazon-beauty-2014")
    write_tables(tmp_path / "data" / "kuairand-pure")
    assert locate_folder(amazon) == Path("data/amazon-beauty-2014")
    assert read_folder(DatasetConfig(source="kuairand")).name == "kuairand-pure"
    write_tables(tmp_path / "shelf" / "amazon-beauty-2014")
    monkeypatch.setenv("HIDVAE_DATA", str(tmp_path / "shelf"))
    assert locate_folder(amazon) == tmp_path / "shelf" / "amazon-beauty-2014"
    named = DatasetConfig(source="amazon", dataset_split="beauty", folder=str(tmp_path / "data"))
    assert locate_folder(named) == tmp_path / "data"


def test_own_folder_is_read_by_its_name(tmp_path: Path) -> None:
    write_tables(tmp_path / "my-shop")
    config = DatasetConfig(folder=str(tmp_path / "my-shop"))
    tables = read_folder(config)
    assert tables.name == "my-shop"
    assert tables.items["item_id"].to_list() == ["a"]
    assert [path.name for path in table_paths(config)] == ["items.csv", "interactions.csv"]


def test_own_folder_defaults_to_data(tmp_path: Path) -> None:
    write_tables(tmp_path / "data")
    assert locate_folder(DatasetConfig()) == Path("data")


def test_a_missing_dataset_says_where_it_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    config = DatasetConfig(source="amazon", dataset_split="sports")
    with pytest.raises(DataError) as caught:
        locate_folder(config)
    message = str(caught.value)
    assert "looked in $HIDVAE_DATA (not set), data/amazon-sports-2014; found none" in message
    assert "put them into a folder amazon-sports-2014" in message
    assert "--set DatasetConfig.folder=PATH" in message
    assert "\n" not in message
    monkeypatch.setenv("HIDVAE_DATA", "/nowhere")
    with pytest.raises(
        DataError, match="looked in /nowhere/amazon-sports-2014, data/amazon-sports"
    ):
        locate_folder(config)


def test_a_missing_named_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no such folder; correct --set DatasetConfig.folder"):
        locate_folder(DatasetConfig(folder=str(tmp_path / "absent")))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="found a file; correct"):
        locate_folder(DatasetConfig(folder=str(tmp_path / "file")))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (DatasetConfig(source="amazon"), "'beauty' or 'sports' or 'toys' for source 'amazon'"),
        (
            DatasetConfig(source="kuairand", dataset_split="toys"),
            "'pure' or '' for source 'kuairand'",
        ),
        (DatasetConfig(dataset_split="beauty"), "expected '' for source 'folder'; found 'beauty'"),
    ],
)
def test_source_and_split_go_together(config: DatasetConfig, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        locate_folder(config)
    assert expected in str(caught.value)
    assert "--set DatasetConfig.dataset_split=" in str(caught.value)
