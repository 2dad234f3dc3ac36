from __future__ import annotations

import itertools
import re
from urllib.parse import urlsplit

import pytest

from hidvae.config import DatasetConfig
from hidvae.data.sources.remote import (
    AMAZON_2014,
    RemoteDataset,
    dataset_name,
    remote_dataset,
)
from hidvae.errors import ConfigError

EVERY = [
    *(
        DatasetConfig(source="movielens", dataset_split=split)
        for split in ("100k", "1m", "10m", "20m", "25m", "32m")
    ),
    *(DatasetConfig(source="kuairand", dataset_split=split) for split in ("pure", "1k", "27k")),
    *(
        DatasetConfig(source=source, dataset_split=split)  # type: ignore[arg-type]
        for split, source in itertools.product(
            ("beauty", "sports", "toys"), ("amazon", "amazon-2014")
        )
    ),
    DatasetConfig(source="amazon-2014", dataset_split="Video_Games"),
    DatasetConfig(source="amazon-2023", dataset_split="All_Beauty"),
    DatasetConfig(source="amazon-2023", dataset_split="CDs_and_Vinyl"),
]


def remote(source: str, split: str) -> RemoteDataset:
    config = DatasetConfig(source=source, dataset_split=split)  # type: ignore[arg-type]
    found = remote_dataset(config)
    assert found is not None
    return found


@pytest.mark.parametrize("config", EVERY, ids=lambda c: f"{c.source}-{c.dataset_split}")
def test_every_dataset_is_described_completely(config: DatasetConfig) -> None:
    dataset = remote_dataset(config)
    assert dataset is not None
    assert dataset.name == dataset_name(config)
    assert dataset.license and dataset.license_url and dataset.page
    assert dataset.files
    for file in dataset.files:
        assert len(file.urls) >= 2
        for url in file.urls:
            parts = urlsplit(url)
            assert parts.netloc and parts.path
            is_verified = parts.scheme == "https" or file.checksum  # no plain line without checksum
            assert is_verified, url
        digits = {"": 0, "md5": 32, "sha256": 64}
        algorithm, _, value = file.checksum.partition(":")
        assert re.fullmatch(f"[0-9a-f]{{{digits[algorithm]}}}", value)


def test_names_in_the_cache_of_downloads_are_not_shared_by_different_files() -> None:
    by_name: dict[str, set[tuple[str, ...]]] = {}
    for config in EVERY:
        for file in remote_dataset(config).files:  # type: ignore[union-attr]
            by_name.setdefault(file.cache_name, set()).add((*file.urls, file.checksum))
    assert all(len(found) == 1 for found in by_name.values())


def test_movielens_asks_for_its_terms_and_names_them() -> None:
    asking = {
        dataset.name: dataset.license_url
        for config in EVERY
        if (dataset := remote_dataset(config)) and dataset.asks_acceptance
    }
    assert asking == {
        "movielens-100k": "https://files.grouplens.org/datasets/movielens/ml-100k-README.txt",
        "movielens-1m": "https://files.grouplens.org/datasets/movielens/ml-1m-README.txt",
        **{
            f"movielens-{split}": f"https://files.grouplens.org/datasets/movielens/ml-{split}-README.html"
            for split in ("10m", "20m", "25m")
        },
        "movielens-32m": "https://files.grouplens.org/datasets/movielens/ml-32m-README.html",
    }


def test_categories_of_2014_by_either_name() -> None:
    assert len(AMAZON_2014) == 24
    assert remote("amazon-2014", "Sports_and_Outdoors").name == "amazon-sports-2014"
    assert remote("amazon-2014", "Video_Games").name == "amazon-video-games-2014"
    with pytest.raises(ConfigError, match=r"of the 24 categories .* 2014; .* mean Video_Games\?"):
        remote("amazon-2014", "video_game")
    assert remote_dataset(DatasetConfig(source="movielens", dataset_split="latest")) is None


def test_official_files() -> None:
    def names(*arguments: str) -> list[str]:
        return [file.name for file in remote(*arguments).files]

    assert names("movielens", "32m") == ["ml-32m.zip"]
    texts = ["kuairand_video_captions.csv", "kuairand_video_categories.csv"]
    assert names("kuairand", "27k") == ["KuaiRand-27K.tar.gz", *texts]
    assert names("kuairand", "pure") == ["KuaiRand-Pure.tar.gz", *texts]
    assert names("amazon", "sports") == ["P5_data.zip"]
    assert names("amazon-2014", "sports") == [
        "reviews_Sports_and_Outdoors_5.json.gz",
        "meta_Sports_and_Outdoors.json.gz",
    ]
    assert names("amazon-2023", "Toys_and_Games") == [
        "Toys_and_Games.jsonl.gz",
        "meta_Toys_and_Games.jsonl.gz",
    ]


def test_the_p5_archive_is_one_file_of_which_each_category_takes_its_part() -> None:
    beauty, toys = remote("amazon", "beauty").files[0], remote("amazon", "toys").files[0]
    assert beauty.urls == toys.urls
    assert beauty.is_shared
    assert toys.members == ("toys/sequential_data.txt", "toys/datamaps.json", "toys/meta.json.gz")


def test_only_kuairand_pure_takes_the_beginning_of_the_texts() -> None:
    assert [file.first_bytes > 0 for file in remote("kuairand", "pure").files] == [
        False,
        True,
        True,
    ]
    assert not any(file.first_bytes for file in remote("kuairand", "1k").files)


def test_an_unknown_category_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"found 'all_beauty'; did you mean All_Beauty\?"):
        remote("amazon-2023", "all_beauty")
    with pytest.raises(ConfigError, match=r"did you mean Toys_and_Games\?"):
        remote("amazon-2023", "Toys")


def test_own_folders_and_the_demo_are_not_remote() -> None:
    assert remote_dataset(DatasetConfig()) is None
    assert remote_dataset(DatasetConfig(source="demo")) is None
