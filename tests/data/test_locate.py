from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hidvae.config import DatasetConfig
from hidvae.data.sources import amazon, kuairand, movielens
from hidvae.data.sources.locate import locate_folder
from hidvae.data.sources.remote import RemoteDataset, RemoteFile, dataset_name, remote_dataset
from hidvae.errors import ConfigError, DataError

from .server import Server, serve


def locate(config: DatasetConfig) -> Path:
    return locate_folder(config, wanted="a file", has_files=lambda path: (path / "file").exists())


def put_file(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").touch()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HIDVAE_DATA", raising=False)
    monkeypatch.delenv("HIDVAE_OFFLINE", raising=False)
    monkeypatch.setenv("HIDVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HIDVAE_ACCEPT_LICENSE", "1")


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
    def name(source: str, split: str) -> str:
        return dataset_name(DatasetConfig(source=source, dataset_split=split))  # type: ignore[arg-type]

    assert name("folder", "") == ""
    assert name("amazon", "toys") == name("amazon-2014", "toys") == "amazon-toys-2014"
    assert name("amazon-2023", "All_Beauty") == "amazon-all-beauty-2023"
    assert name("kuairand", "27k") == "kuairand-27k"
    assert name("movielens", "1m") == "movielens-1m"


def test_own_folder_defaults_to_data(tmp_path: Path) -> None:
    put_file(tmp_path / "data")
    assert locate(DatasetConfig()) == Path("data")


def test_a_missing_dataset_says_where_it_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDVAE_OFFLINE", "1")
    config = DatasetConfig(source="amazon", dataset_split="sports")
    with pytest.raises(DataError) as caught:
        locate(config)
    message = str(caught.value)
    assert message.startswith("expected a file of amazon-sports-2014; ")
    assert "looked in $HIDVAE_DATA (not set), data/amazon-sports-2014; found none" in message
    assert "; downloading is off ($HIDVAE_OFFLINE is set); put" in message
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
        (DatasetConfig(source="amazon-2023"), "expected a category of Amazon"),
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


def test_an_own_folder_says_nothing_of_downloads() -> None:
    with pytest.raises(DataError) as caught:
        locate(DatasetConfig())
    assert "download" not in str(caught.value)


# --- downloads ------------------------------------------------------------------------------------

MOVIELENS = DatasetConfig(source="movielens", dataset_split="1m")


@pytest.fixture
def server() -> Server:
    """The files of a tiny MovieLens 1M, not running yet."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ml-1m/ratings.dat", b"1::10::5::97\n")
        archive.writestr("ml-1m/movies.dat", b"10::A (1995)::Drama\n")
    return Server(files={"/ml-1m.zip": buffer.getvalue()})


def use(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    content = server.files["/ml-1m.zip"]
    archive = RemoteFile(
        name="ml-1m.zip",
        urls=(f"{server.url}/ml-1m.zip",),
        checksum="md5:" + hashlib.md5(content, usedforsecurity=False).hexdigest(),
    )
    dataset = RemoteDataset(
        name="movielens-1m",
        files=(archive,),
        page="https://example.org/page",
        license="research use only",
        license_url="https://example.org/terms",
        asks_acceptance=True,
    )
    monkeypatch.setattr("hidvae.data.sources.locate.remote_dataset", lambda config: dataset)


def find_ratings(config: DatasetConfig) -> Path:
    return locate_folder(
        config, wanted="ratings", has_files=lambda path: any(path.rglob("ratings.dat"))
    )


def test_what_is_on_no_disk_is_downloaded_and_then_found_offline(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(server.files) as running:
        use(running, monkeypatch)
        folder = find_ratings(MOVIELENS)
        assert folder == tmp_path / "cache" / "datasets" / "movielens-1m"
        assert (folder / "ml-1m" / "ratings.dat").read_bytes() == b"1::10::5::97\n"
    assert find_ratings(MOVIELENS) == folder  # the server is gone
    never = DatasetConfig(source="movielens", dataset_split="1m")
    assert find_ratings(never) == folder  # what is there is no download
    monkeypatch.setenv("HIDVAE_OFFLINE", "1")
    assert find_ratings(never) == folder


def test_files_on_the_disk_come_before_a_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "movielens-1m").mkdir(parents=True)
    (tmp_path / "data" / "movielens-1m" / "ratings.dat").touch()
    with serve(server.files) as running:
        use(running, monkeypatch)
        assert find_ratings(MOVIELENS) == Path("data/movielens-1m")
        assert running.requests == []


def test_downloads_can_be_forbidden(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(server.files) as running:
        use(running, monkeypatch)
        monkeypatch.setenv("HIDVAE_OFFLINE", "1")
        with pytest.raises(DataError, match=r"downloading is off \(\$HIDVAE_OFFLINE is set\); put"):
            find_ratings(MOVIELENS)
        assert running.requests == []
        monkeypatch.setenv("HIDVAE_OFFLINE", "0")
        assert find_ratings(MOVIELENS)


def test_a_download_without_the_wanted_files(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(server.files) as running:
        use(running, monkeypatch)
        with pytest.raises(DataError, match="expected a file in the download; found other"):
            locate(MOVIELENS)


# What the publishers' archives hold (only the names matter here).
ARCHIVES = {
    "ml-100k.zip": ["ml-100k/u.data", "ml-100k/u.item", "ml-100k/u.genre", "ml-100k/u.user"],
    "ml-1m.zip": ["ml-1m/ratings.dat", "ml-1m/movies.dat", "ml-1m/users.dat"],
    "ml-32m.zip": ["ml-32m/ratings.csv", "ml-32m/movies.csv", "ml-32m/links.csv"],
    "KuaiRand-Pure.tar.gz": [
        f"KuaiRand-Pure/data/{name}_pure.csv"
        for name in (
            "log_standard_4_08_to_4_21",
            "log_standard_4_22_to_5_08",
            "log_random_4_22_to_5_08",
            "video_features_basic",
        )
    ],
    "P5_data.zip": [
        f"data/{split}/{name}"
        for split in ("beauty", "sports", "toys", "yelp")
        for name in ("sequential_data.txt", "datamaps.json", "meta.json.gz", "review_splits.pkl")
    ],
}


def make_archive(name: str) -> bytes:
    buffer = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(buffer, "w") as archive:
            for member in ARCHIVES[name]:
                archive.writestr(member, b"x\n")
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for member in ARCHIVES[name]:
                info = tarfile.TarInfo(member)
                info.size = 2
                tar.addfile(info, io.BytesIO(b"x\n"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("source_files", "config", "expected"),
    [
        (movielens.source_files, ("movielens", "100k"), "u.data"),
        (movielens.source_files, ("movielens", "1m"), "ratings.dat"),
        (movielens.source_files, ("movielens", "32m"), "ratings.csv"),
        (kuairand.source_files, ("kuairand", "pure"), "kuairand_video_captions.csv"),
        (amazon.source_files, ("amazon", "toys"), "sequential_data.txt"),
        (amazon.source_files, ("amazon-2014", "sports"), "meta_Sports_and_Outdoors.json.gz"),
        (amazon.source_files, ("amazon-2023", "All_Beauty"), "meta_All_Beauty.jsonl.gz"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_every_source_finds_its_files_in_what_is_downloaded(
    source_files: Callable[[DatasetConfig], dict[str, Path]],
    config: tuple[str, str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, split = config
    settings = DatasetConfig(
        source=source,  # type: ignore[arg-type]
        dataset_split=split,
    )
    real = remote_dataset(settings)
    assert real is not None
    with serve() as running:
        files = []
        for file in real.files:
            running.files[f"/{file.name}"] = (
                make_archive(file.name) if file.is_archive else b"0,x\n" * 10
            )
            here = (f"{running.url}/{file.name}",)
            files.append(replace(file, urls=here, checksum="", unpacked_bytes=0, num_bytes=0))
        local = replace(real, files=tuple(files))
        monkeypatch.setattr("hidvae.data.sources.locate.remote_dataset", lambda config: local)
        found = source_files(settings)
    folder = tmp_path / "cache" / "datasets" / real.name
    assert expected in {path.name for path in found.values()}
    assert all(path.is_relative_to(folder) for path in found.values())
    assert not list(folder.rglob("*.pkl"))  # of P5's archive only what is read is unpacked
