from __future__ import annotations

from pathlib import Path

import pytest

from hidvae.config import DatasetConfig
from hidvae.data.sources.locate import dataset_name, locate_folder
from hidvae.errors import ConfigError, DataError


def locate(config: DatasetConfig) -> Path:
    return locate_folder(config, wanted="a file", has_files=lambda path: (path / "file").exists())


def put_file(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").touch()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HIDVAE_DATA", raising=False)


def test_known_datasets_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    amazon = DatasetConfig(source="amazon", dataset_split="beauty")
    put_file(tmp_path / "data" / "amazon-beauty-2014")
    assert locate(amazon) == Path("data/amazon-beauty-2014")
    (tmp_path / "shelf" / "amazon-beauty-2014").mkdir(parents=True)
    monkeypatch.setenv("HIDVAE_DATA", str(tmp_path / "shelf"))
    assert locate(amazon) == Path("data/amazon-beauty-2014")  # the shelf's folder is empty
    put_file(tmp_path / "shelf" / "amazon-beauty-2014")
    assert locate(amazon) == tmp_path / "shelf" / "amazon-beauty-2014"
    named = DatasetConfig(source="amazon", dataset_split="beauty", folder=str(tmp_path / "data"))
    assert locate(named) == tmp_path / "data"


def test_names_of_datasets() -> None:
    def name(source: str, split: str, release: str = "p5") -> str:
        return dataset_name(
            DatasetConfig(source=source, dataset_split=split, amazon_release=release)  # type: ignore[arg-type]
        )

    assert name("folder", "") == ""
    assert name("amazon", "toys") == name("amazon", "toys", "2014") == "amazon-toys-2014"
    assert name("amazon", "All_Beauty", "2023") == "amazon-all-beauty-2023"
    assert name("kuairand", "27k") == "kuairand-27k"
    assert name("movielens", "1m") == "movielens-1m"


def test_own_folder_defaults_to_data(tmp_path: Path) -> None:
    put_file(tmp_path / "data")
    assert locate(DatasetConfig()) == Path("data")


def test_a_missing_dataset_says_where_it_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    config = DatasetConfig(source="amazon", dataset_split="sports")
    with pytest.raises(DataError) as caught:
        locate(config)
    message = str(caught.value)
    assert message.startswith("expected a file of amazon-sports-2014; ")
    assert "looked in $HIDVAE_DATA (not set), data/amazon-sports-2014; found none" in message
    assert "put them into a folder amazon-sports-2014" in message
    assert "--set DatasetConfig.folder=PATH" in message
    assert "\n" not in message
    monkeypatch.setenv("HIDVAE_DATA", "/nowhere")
    with pytest.raises(
        DataError, match="looked in /nowhere/amazon-sports-2014, data/amazon-sports"
    ):
        locate(config)


def test_a_missing_named_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no such folder; correct --set DatasetConfig.folder"):
        locate(DatasetConfig(folder=str(tmp_path / "absent")))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="found a file; correct"):
        locate(DatasetConfig(folder=str(tmp_path / "file")))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (DatasetConfig(source="amazon"), "'beauty' or 'sports' or 'toys' for source 'amazon'"),
        (DatasetConfig(source="amazon", amazon_release="2023"), "expected a category of Amazon"),
        (
            DatasetConfig(source="kuairand", dataset_split="toys"),
            "'pure' or '1k' or '27k' for source 'kuairand'",
        ),
        (DatasetConfig(dataset_split="beauty"), "expected '' for source 'folder'; found 'beauty'"),
    ],
)
def test_source_and_split_go_together(config: DatasetConfig, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        locate(config)
    assert expected in str(caught.value)
    assert "--set DatasetConfig.dataset_split=" in str(caught.value)
