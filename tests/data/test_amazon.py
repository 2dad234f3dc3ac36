from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from tests.data.amazon_samples import write_2014, write_2023, write_p5
from tests.stages import prepare

from hidvae.config import DatasetConfig
from hidvae.data.prepare import load_dataset
from hidvae.data.schema import check_items
from hidvae.data.sources.amazon import read_amazon, source_files
from hidvae.errors import DataError

SHARED = Path(os.environ.get("HIDVAE_DATA", "nowhere"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HIDVAE_DATA", raising=False)


def config(
    release: str = "p5", split: str = "beauty", folder: Path | str = "", **settings: object
) -> DatasetConfig:
    return DatasetConfig(
        source={"p5": "amazon"}.get(release, f"amazon-{release}"),  # type: ignore[arg-type]
        dataset_split=split,
        folder=str(folder),
        **settings,  # type: ignore[arg-type]
    )


def test_a_release_is_found_by_the_name_of_the_dataset(tmp_path: Path) -> None:
    write_p5(tmp_path / "data" / "amazon-beauty-2014" / "raw" / "beauty")
    write_2023(tmp_path / "data" / "amazon-all-beauty-2023")
    assert set(source_files(config())) == {"sequential_data.txt", "datamaps.json", "meta.json.gz"}
    assert read_amazon(config()).name == "amazon-beauty-2014"
    tables = read_amazon(config("2023", "All_Beauty"))
    assert tables.name == "amazon-all-beauty-2023"


def test_the_setting_decides_between_releases(tmp_path: Path) -> None:
    write_p5(tmp_path)
    write_2014(tmp_path)
    assert "position" in read_amazon(config("p5", folder=tmp_path)).interactions.collect().columns
    tables = read_amazon(config("2014", folder=tmp_path))
    assert "timestamp" in tables.interactions.collect().columns


def test_both_forms_of_2014_agree_on_the_items(tmp_path: Path) -> None:
    write_p5(tmp_path)
    write_2014(tmp_path)
    p5 = read_amazon(config("p5", folder=tmp_path)).items.sort("item_id")
    original = read_amazon(config("2014", folder=tmp_path)).items.sort("item_id")
    assert p5.drop("p5_id").equals(original)


def test_prepared_tables_come_first(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "amazon-beauty-2014"
    folder.mkdir(parents=True)
    pl.DataFrame({"item_id": ["a"]}).write_csv(folder / "items.csv")
    pl.DataFrame({"user_id": ["u"], "item_id": ["a"]}).write_csv(folder / "interactions.csv")
    assert set(source_files(config())) == {"items.csv", "interactions.csv"}
    write_p5(folder)
    assert read_amazon(config(folder=folder)).items["item_id"].to_list() == ["a"]


def test_another_release_is_pointed_to(tmp_path: Path) -> None:
    write_2014(tmp_path)
    with pytest.raises(DataError) as caught:
        source_files(config("p5", folder=tmp_path))
    message = str(caught.value)
    assert "expected P5's archive (sequential_data.txt" in message
    assert "found reviews_Beauty_5.json.gz, meta_Beauty.json.gz" in message
    assert "use --set DatasetConfig.source=amazon-2014" in message


def test_other_files_are_listed(tmp_path: Path) -> None:
    write_2023(tmp_path)
    with pytest.raises(DataError) as caught:
        source_files(config("2023", "Gift_Cards", folder=tmp_path))
    message = str(caught.value)
    assert "expected the files of 2023 (Gift_Cards.jsonl.gz, meta_Gift_Cards.jsonl.gz)" in message
    assert "found All_Beauty.jsonl.gz, meta_All_Beauty.jsonl.gz" in message
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"\(reviews_Toys_and_Games_5\.json\.gz.*an empty folder"):
        source_files(config("2014", "toys", folder=tmp_path / "empty"))


@pytest.mark.parametrize(
    ("release", "split", "num_events"),
    [("p5", "beauty", 600), ("2014", "beauty", 598), ("2023", "All_Beauty", 599)],
)
def test_prepare_reads_every_release(
    tmp_path: Path, release: str, split: str, num_events: int
) -> None:
    write_p5(tmp_path / "raw")
    write_2014(tmp_path / "raw")
    write_2023(tmp_path / "raw")
    stage = prepare(config(release, split, tmp_path / "raw", min_events=3), tmp_path / "stage")
    dataset = load_dataset(stage)
    assert dataset.interactions.sequences.num_users == 60
    assert dataset.interactions.sequences.items.size == num_events
    assert dataset.catalogue.num_items == 120
    assert "Tea & Honey" in dataset.catalogue.titles


@pytest.mark.shared_data
@pytest.mark.parametrize(("split", "num_items"), [("beauty", 12_101), ("sports", 18_357)])
def test_the_shared_tables_are_read(split: str, num_items: int) -> None:
    folder = SHARED / f"amazon-{split}-2014"
    if not folder.is_dir():
        pytest.skip("set HIDVAE_DATA to a folder that holds amazon-beauty-2014 and -sports-2014")
    tables = read_amazon(config(split=split, folder=folder))
    assert check_items(tables.items, tables.items_file).height == num_items
