"""What the public datasets are: names, files, addresses, checksums, licences.

This module only knows; ``data/download.py`` fetches. A checksum is here only where it can be
cited, and the citation stands beside it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from hidvae.config import DatasetConfig
from hidvae.errors import ConfigError

AMAZON_2014_SHORT = {"beauty": "Beauty", "sports": "Sports_and_Outdoors", "toys": "Toys_and_Games"}
"""Short names of the categories that papers use most."""
# <https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html>
AMAZON_2014 = tuple(
    "Amazon_Instant_Video Apps_for_Android Automotive Baby Beauty Books CDs_and_Vinyl "
    "Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music Electronics "
    "Grocery_and_Gourmet_Food Health_and_Personal_Care Home_and_Kitchen Kindle_Store Movies_and_TV "
    "Musical_Instruments Office_Products Patio_Lawn_and_Garden Pet_Supplies Sports_and_Outdoors "
    "Tools_and_Home_Improvement Toys_and_Games Video_Games".split()
)
"""The categories of Amazon Reviews 2014, as in the names of their files."""

_SPLITS = {
    "folder": ("",),
    "amazon": ("beauty", "sports", "toys"),
    "kuairand": ("pure", "1k", "27k"),
    "movielens": ("100k", "1m", "10m", "20m", "25m", "32m", "latest", "latest-small"),
}


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One published file."""

    name: str
    """File name in the dataset's folder, as published."""
    urls: tuple[str, ...]
    """Addresses of the same bytes; the first that answers is taken."""
    checksum: str = ""
    """``md5:…`` or ``sha256:…``; empty where nobody publishes one."""
    num_bytes: int = 0
    """Size, 0 where unknown; only to see in time that the disk is too small."""
    first_bytes: int = 0
    """Take the whole lines within this many first bytes; 0 takes the file."""
    members: tuple[str, ...] = ()
    """Endings of the paths to unpack from an archive; empty unpacks everything."""
    unpacked_bytes: int = 0
    """Size of what is unpacked, 0 where unknown."""
    is_shared: bool = False
    """Other datasets need the same file: it is kept in the cache of downloads."""

    @property
    def is_archive(self) -> bool:
        """Whether the file is unpacked after the download."""
        return self.name.endswith((".zip", ".tar.gz"))

    @property
    def cache_name(self) -> str:
        """Name in the cache of downloads, which all datasets share."""
        return f"first-{self.first_bytes}-{self.name}" if self.first_bytes else self.name


@dataclass(frozen=True, kw_only=True)
class RemoteDataset:
    """A public dataset."""

    name: str
    """Name of its folder, as ``dataset_name`` gives it."""
    files: tuple[RemoteFile, ...]
    """What is downloaded."""
    page: str
    """Where a person finds the files."""
    license: str
    """The licence in a few words."""
    license_url: str
    """Where the licence is written."""
    asks_acceptance: bool = False
    """Whether the terms bind whoever uses the data, so that a person has to accept them first."""


def dataset_name(config: DatasetConfig) -> str:
    """Name of a known dataset, also of its folder; empty for a folder of your own.

    Raises:
        ConfigError: If source and dataset_split do not go together.
    """
    if config.source == "amazon-2023":
        if not config.dataset_split:
            raise ConfigError(
                "DatasetConfig.dataset_split: expected a category of Amazon Reviews 2023, such as "
                "'All_Beauty'; found ''; use --set DatasetConfig.dataset_split=All_Beauty"
            )
        return f"amazon-{config.dataset_split.lower().replace('_', '-')}-2023"
    if config.source == "amazon-2014":
        category = amazon_2014_category(config.dataset_split)
        short = {name: split for split, name in AMAZON_2014_SHORT.items()}
        name = short.get(category, category.lower().replace("_", "-"))
        return f"amazon-{name}-2014"
    allowed = _SPLITS[config.source]
    if config.dataset_split not in allowed:
        choices = " or ".join(repr(split) for split in allowed)
        raise ConfigError(
            f"DatasetConfig.dataset_split: expected {choices} for source {config.source!r}; found "
            f"{config.dataset_split!r}; use --set DatasetConfig.dataset_split={allowed[0]!r}"
        )
    if config.source == "folder":
        return ""
    if config.source.startswith("amazon"):
        return f"amazon-{config.dataset_split}-2014"
    return f"{config.source}-{config.dataset_split}"


def amazon_2014_category(split: str) -> str:
    """A category of 2014 as in the names of its files, from that or its short name.

    Raises:
        ConfigError: If there is no such category; names the nearest.
    """
    category = AMAZON_2014_SHORT.get(split, split)
    if category not in AMAZON_2014:
        raise _unknown_category(split, AMAZON_2014, "2014")
    return category


def _unknown_category(split: str, categories: Sequence[str], release: str) -> ConfigError:
    by_name = {known.lower(): known for known in categories}
    close = difflib.get_close_matches(split.lower(), by_name, n=1, cutoff=0.4)
    example = by_name[close[0]] if close else "All_Beauty" if release == "2023" else "Beauty"
    return ConfigError(
        f"DatasetConfig.dataset_split: expected one of the {len(categories)} categories of Amazon "
        f"Reviews {release}; found {split!r}; did you mean {example}? docs/datasets.md names the "
        "page that lists them"
    )


def remote_dataset(config: DatasetConfig) -> RemoteDataset | None:
    """The public dataset that the settings name; None for the demo and your own folders.

    Raises:
        ConfigError: If source and dataset_split do not go together.
    """
    if config.source == "movielens":
        return _movielens(dataset_name(config), config.dataset_split)
    if config.source == "kuairand":
        return _kuairand(dataset_name(config), config.dataset_split)
    makers = {"amazon": _amazon_p5, "amazon-2014": _amazon_2014, "amazon-2023": _amazon_2023}
    if config.source in makers:
        return makers[config.source](dataset_name(config), config.dataset_split)
    return None


# --- MovieLens ------------------------------------------------------------------------------------

# MD5: <https://files.grouplens.org/datasets/movielens/ml-1m.zip.md5> and so on, published by
# GroupLens beside each archive. The two "latest" change under the same address: download those by
# hand, so that a run says which one it is of.
_MOVIELENS = {
    "100k": ("0e33842e24a9c977be4e0107933c0723", 4_924_029, "ml-100k-README.txt"),
    "1m": ("c4d9eecfca2ab87c1945afe126590906", 5_917_549, "ml-1m-README.txt"),
    "10m": ("ce571fd55effeba0271552578f2648bd", 65_566_137, "ml-10m-README.html"),
    "20m": ("cd245b17a1ae2cc31bb14903e1204af3", 198_702_078, "ml-20m-README.html"),
    "25m": ("6b51fb2759a8657d3bfcbfc42b592ada", 261_978_986, "ml-25m-README.html"),
    "32m": ("d472be332d4daa821edc399621853b57", 238_950_008, "ml-32m-README.html"),
}


def _movielens(name: str, split: str) -> RemoteDataset | None:
    if split not in _MOVIELENS:
        return None
    md5, num_bytes, readme = _MOVIELENS[split]
    # The host's certificate has been out of date at times. The plain address is no weaker: the
    # checksum, not the connection, says whether the file is the published one.
    hosts = ("https://files.grouplens.org", "http://files.grouplens.org")
    archive = RemoteFile(
        name=f"ml-{split}.zip",
        urls=tuple(f"{host}/datasets/movielens/ml-{split}.zip" for host in hosts),
        checksum=f"md5:{md5}",
        num_bytes=num_bytes,
    )
    return RemoteDataset(
        name=name,
        files=(archive,),
        page=f"https://grouplens.org/datasets/movielens/{split}/",
        license="research use only, to be cited, no redistribution without permission",
        license_url=f"https://files.grouplens.org/datasets/movielens/{readme}",
        asks_acceptance=True,
    )


# --- KuaiRand -------------------------------------------------------------------------------------

# MD5 and addresses: README of <https://github.com/chongminggao/KuaiRand>, records 10439422 (logs
# and features) and 18159199 (captions and categories) of Zenodo; unpacked sizes: the same README.
_KUAIRAND = {
    "pure": ("KuaiRand-Pure.tar.gz", "0820331067a3784d9691136f772b35a7", 47_432_272, 194_000_000),
    "1k": ("KuaiRand-1K.tar.gz", "6b0b9c8222d67fcd4c676218edca3f1f", 1_135_436_720, 4_300_000_000),
    "27k": (
        "KuaiRand-27K.tar.gz",
        "3e3c799a24e2d23a4d2c757fbf9adf59",
        9_892_191_178,
        46_000_000_000,
    ),
}
_KUAIRAND_TEXTS = {
    "kuairand_video_captions.csv": ("9fd4e7587ffd0c8dc289d013858fb229", 3_222_932_768),
    "kuairand_video_categories.csv": ("8a4c772d3d8f8cf65fa1e1eb896f4177", 3_687_928_520),
}
# Both files are ordered by video id, and KuaiRand-Pure has the ids 0 to 7582: they lie within
# these first bytes, so that nobody has to fetch 7 GB for them. Zenodo publishes no checksum of a
# part; these SHA-256 are the ones that a public replication notes for the byte ranges it fetched
# (captions.prefix and categories prefix, 2026-08-29) and whose 7,583 ids it checked.
_KUAIRAND_PURE_TEXTS = {
    "kuairand_video_captions.csv": (
        "d8db383fb1a92477c837c1cf3e9f5f26adbd41e89212ee245198e06a6b39318f",
        4_194_304,
    ),
    "kuairand_video_categories.csv": (
        "c91886658c1fc1897ebd6e808ebcc87acfddb4548d5acb8faa70ee8ccd3a091c",
        2_097_152,
    ),
}


def _kuairand(name: str, split: str) -> RemoteDataset:
    archive, md5, num_bytes, unpacked_bytes = _KUAIRAND[split]
    logs = RemoteFile(
        name=archive,
        urls=_zenodo("10439422", archive),
        checksum=f"md5:{md5}",
        num_bytes=num_bytes,
        unpacked_bytes=unpacked_bytes,
    )
    return RemoteDataset(
        name=name,
        files=(logs, *(_kuairand_text(text, split) for text in _KUAIRAND_TEXTS)),
        page="https://kuairand.com",
        license="CC BY-SA 4.0; captions and categories CC BY 4.0",
        license_url="https://github.com/chongminggao/KuaiRand/blob/main/LICENSE",
    )


def _kuairand_text(name: str, split: str) -> RemoteFile:
    urls = _zenodo("18159199", name)
    if split == "pure":
        sha256, first = _KUAIRAND_PURE_TEXTS[name]
        return RemoteFile(
            name=name, urls=urls, checksum=f"sha256:{sha256}", num_bytes=first, first_bytes=first
        )
    md5, num_bytes = _KUAIRAND_TEXTS[name]
    return RemoteFile(
        name=name, urls=urls, checksum=f"md5:{md5}", num_bytes=num_bytes, is_shared=True
    )


def _zenodo(record: str, name: str) -> tuple[str, ...]:
    return (
        f"https://zenodo.org/records/{record}/files/{name}",
        f"https://zenodo.org/api/records/{record}/files/{name}/content",
    )


# --- Amazon Reviews -------------------------------------------------------------------------------

_P5_ID = "1qGxgmx7G_WB7JE4Cn_bEcZ_o_NAJLE3G"
# <https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023>, all_categories.txt
_AMAZON_2023 = (
    "All_Beauty Amazon_Fashion Appliances Arts_Crafts_and_Sewing Automotive Baby_Products "
    "Beauty_and_Personal_Care Books CDs_and_Vinyl Cell_Phones_and_Accessories "
    "Clothing_Shoes_and_Jewelry Digital_Music Electronics Gift_Cards Grocery_and_Gourmet_Food "
    "Handmade_Products Health_and_Household Health_and_Personal_Care Home_and_Kitchen "
    "Industrial_and_Scientific Kindle_Store Magazine_Subscriptions Movies_and_TV "
    "Musical_Instruments Office_Products Patio_Lawn_and_Garden Pet_Supplies Software "
    "Sports_and_Outdoors Subscription_Boxes Tools_and_Home_Improvement Toys_and_Games Unknown "
    "Video_Games"
).split()


def _amazon_p5(name: str, split: str) -> RemoteDataset:
    archive = RemoteFile(
        name="P5_data.zip",
        # confirm=t is the answer to "too large to be scanned for viruses"
        urls=(
            f"https://drive.usercontent.google.com/download?id={_P5_ID}&export=download&confirm=t",
            f"https://drive.google.com/uc?export=download&confirm=t&id={_P5_ID}",
        ),
        members=tuple(
            f"{split}/{member}"
            for member in ("sequential_data.txt", "datamaps.json", "meta.json.gz")
        ),
        is_shared=True,  # one archive for beauty, sports and toys
    )
    return RemoteDataset(
        name=name,
        files=(archive,),
        page=f"https://drive.google.com/file/d/{_P5_ID}/view",
        license="no licence stated; the authors ask to be cited",
        license_url="https://github.com/jeykigung/P5",
    )


def _amazon_2014(name: str, split: str) -> RemoteDataset:
    category = amazon_2014_category(split)
    folders = (
        "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles",
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon/categoryFiles",
    )
    files = tuple(
        RemoteFile(name=file, urls=tuple(f"{folder}/{file}" for folder in folders))
        for file in (f"reviews_{category}_5.json.gz", f"meta_{category}.json.gz")
    )
    page = "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html"
    return RemoteDataset(
        name=name,
        files=files,
        page=page,
        license="no licence stated; the authors ask to be cited",
        license_url=page,
    )


def _amazon_2023(name: str, category: str) -> RemoteDataset:
    if category not in _AMAZON_2023:
        raise _unknown_category(category, _AMAZON_2023, "2023")
    folders = (
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw",
        "https://datarepo.eng.ucsd.edu/mcauley_group/data/amazon_2023/raw",
    )
    paths = (f"review_categories/{category}.jsonl.gz", f"meta_categories/meta_{category}.jsonl.gz")
    files = tuple(
        RemoteFile(
            name=path.rpartition("/")[2], urls=tuple(f"{folder}/{path}" for folder in folders)
        )
        for path in paths
    )
    return RemoteDataset(
        name=name,
        files=files,
        page="https://amazon-reviews-2023.github.io",
        license="no licence stated; the authors ask to be cited",
        license_url="https://amazon-reviews-2023.github.io",
    )
