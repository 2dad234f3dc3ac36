from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hidvae.data import download, http_download, transfer_progress
from hidvae.data.download import LICENSE_VARIABLE, RECORD, fetch_dataset, fetch_file, is_downloaded
from hidvae.data.sources.remote import RemoteDataset, RemoteFile
from hidvae.errors import DataError

from .archives import tar_of, zip_of
from .server import Answer, Server, serve

CONTENT = np.random.default_rng(0).bytes(400_000)
SIZE = len(CONTENT)
MD5 = "md5:" + hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
ETAG = f'"{hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()}"'
CUT = Answer(cut_after=150_000)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve({"/file.bin": CONTENT}) as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIDVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(LICENSE_VARIABLE, "1")
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the code wanted to wait; nobody waits."""
    waited: list[float] = []
    monkeypatch.setattr(http_download, "time", SimpleNamespace(sleep=waited.append))
    return waited


def file_at(server: Server, *, checksum: str = MD5, **values: object) -> RemoteFile:
    return RemoteFile(
        name="file.bin", urls=(f"{server.url}/file.bin",), checksum=checksum, **values
    )  # type: ignore[arg-type]


def fetch(file: RemoteFile, folder: Path) -> bytes:
    return fetch_file(file, folder, page="https://example.org/page")[0].read_bytes()


def kill_when_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(http_download, "time", SimpleNamespace(sleep=killed))


def leave_part(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed after the connection was cut."""
    server.plan["/file.bin"] = [CUT]
    with monkeypatch.context() as patch:
        kill_when_waiting(patch)
        with pytest.raises(KeyboardInterrupt):
            fetch(file_at(server), folder)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


# --- one file -------------------------------------------------------------------------------------


def test_a_file_is_downloaded_and_then_used_without_a_request(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    file = file_at(server)
    assert fetch(file, tmp_path / "d") == fetch(file, tmp_path / "d") == CONTENT
    assert len(server.requests) == 1 and pauses == []
    assert names(tmp_path / "d") == {"file.bin", "file.bin.json"}
    assert server.requests[0][1]["User-Agent"].startswith("hidvae/")
    note = json.loads((tmp_path / "d" / "file.bin.json").read_text())
    assert (note["published"], note["checksum"], note["bytes"]) == (True, MD5, SIZE)
    assert note["url"] == file.urls[0]


def test_a_cut_connection_is_continued_where_it_broke(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    server.plan["/file.bin"] = [CUT, Answer(cut_after=100_000)]
    assert fetch(file_at(server), tmp_path) == CONTENT
    first, second, third = server.ranges
    assert first is None and second is not None and third is not None
    starts = [int(text.removeprefix("bytes=").removesuffix("-")) for text in (second, third)]
    assert 0 < starts[0] <= 150_000  # what was still in a buffer is asked for again
    assert starts[0] < starts[1] <= starts[0] + 100_000
    assert pauses == [0.0, 2.0]
    assert [headers.get("If-Range") for _, headers in server.requests] == [None, ETAG, ETAG]


OTHER_VERSION = Answer(
    status=206,
    headers={"ETag": '"other"', "Content-Range": f"bytes 131072-{SIZE - 1}/{SIZE}"},
    body=bytes(SIZE - 131_072),
)
LESS = Answer(
    status=206,
    headers={"Content-Range": f"bytes 150000-249999/{SIZE}"},
    body=CONTENT[150_000:250_000],
)


@pytest.mark.parametrize(
    ("plan", "num_whole"),
    [
        ([CUT, Answer(ignores_range=True)], 1),  # a server without ranges sends all of it again
        ([Answer(body=bytes(SIZE), cut_after=150_000)], 1),  # then the file changed
        ([Answer(cut_after=131_072), OTHER_VERSION], 2),  # continued with another version's bytes
        ([Answer(cut_after=150_000, has_validators=False)], 2),  # neither ETag nor date
        ([Answer(headers={"ETag": 'W/"1"'}, cut_after=150_000)], 2),  # equal only in meaning
        ([CUT, LESS], 1),  # less than was asked for
    ],
)
def test_bytes_of_two_versions_are_never_glued(
    server: Server, tmp_path: Path, plan: list[Answer], num_whole: int
) -> None:
    server.plan["/file.bin"] = list(plan)
    assert fetch(file_at(server, checksum=""), tmp_path) == CONTENT
    assert server.ranges.count(None) == num_whole


def test_a_killed_run_is_continued_by_the_next_one(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_part(server, tmp_path, monkeypatch)
    assert names(tmp_path) == {"file.bin.part", "file.bin.part.json"}
    arrived = (tmp_path / "file.bin.part").stat().st_size
    assert arrived > 50_000
    assert fetch(file_at(server), tmp_path) == CONTENT
    assert server.ranges == [None, f"bytes={arrived}-"]


@pytest.mark.parametrize("more", [b"", b"more"])  # killed just before the renaming; too long
def test_a_part_that_is_whole_or_too_long(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: bytes
) -> None:
    leave_part(server, tmp_path, monkeypatch)
    (tmp_path / "file.bin.part").write_bytes(CONTENT + more)
    assert fetch(file_at(server, checksum=""), tmp_path) == CONTENT
    assert server.ranges[1:] == [f"bytes={SIZE + len(more)}-", *([None] if more else [])]


def test_a_kill_at_the_start_of_a_new_version_leaves_nothing_to_glue(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.plan["/file.bin"] = [Answer(body=bytes(SIZE), cut_after=150_000)]
    real = http_download.write_json

    def killed_after(path: Path, value: dict[str, object]) -> None:
        real(path, value)
        if len(server.requests) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(http_download, "write_json", killed_after)
    with pytest.raises(KeyboardInterrupt):
        fetch(file_at(server, checksum=""), tmp_path)
    assert fetch(file_at(server, checksum=""), tmp_path) == CONTENT


def test_a_gzip_file_that_is_called_an_encoding_stays_as_it_is(
    server: Server, tmp_path: Path
) -> None:
    server.files["/file.bin"] = gzip.compress(b"a line\n" * 1000)
    server.always["/file.bin"] = Answer(headers={"Content-Encoding": "gzip"})
    assert fetch(file_at(server, checksum=""), tmp_path) == server.files["/file.bin"]


def test_the_pause_that_the_server_asks_for_is_kept(
    server: Server, tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib3.util.retry.time.time", lambda: 1_000_000_000.0)
    then = formatdate(1_000_000_042, usegmt=True)
    server.plan["/file.bin"] = [
        Answer(status=429, headers={"Retry-After": "7"}),
        Answer(status=503, headers={"Retry-After": then}),
        Answer(status=429, headers={"Retry-After": "soon"}),
        Answer(status=500),
    ]
    assert fetch(file_at(server), tmp_path) == CONTENT
    assert pauses == [7.0, 42.0, 4.0, 8.0]


@pytest.mark.parametrize(
    ("answer", "message", "waited"),
    [
        (Answer(status=500), r"500 Internal Server Error \(tried 6 times\)", [0, 2, 4, 8, 16]),
        (
            Answer(status=429, headers={"Retry-After": "7200"}),
            "429 Too Many Requests, asks to come back in 7200 s",
            [],
        ),
        (Answer(status=404), "404 Not Found", []),
        (
            Answer(headers={"Content-Type": "text/html; charset=utf-8"}, body=b"<p>quota</p>"),
            "a web page came instead of the file",
            [],
        ),
    ],
)
def test_an_address_without_the_file_is_given_up(
    server: Server,
    tmp_path: Path,
    pauses: list[float],
    answer: Answer,
    message: str,
    waited: list[float],
) -> None:
    server.always["/file.bin"] = answer
    with pytest.raises(DataError, match=message) as caught:
        fetch(file_at(server), tmp_path)
    assert "\n" not in str(caught.value)
    assert pauses == waited and len(server.requests) == 1 + len(waited)
    assert names(tmp_path) == set()


def test_the_error_says_what_to_do(server: Server, tmp_path: Path) -> None:
    server.always["/file.bin"] = Answer(status=403)
    with pytest.raises(DataError) as caught:
        fetch(file_at(server), tmp_path)
    assert str(caught.value) == (
        f"file.bin: could not be downloaded ({server.url}/file.bin: 403 Forbidden); try again "
        f"later, or get it by hand from https://example.org/page: put it into {tmp_path}, or put "
        "the dataset's files (archives unpacked) into a folder of yours and name it with "
        "--set DatasetConfig.folder=PATH"
    )


def test_much_that_arrived_starts_the_count_anew(
    server: Server, tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_download, "_MUCH_BYTES", 10_000)
    server.plan["/file.bin"] = [Answer(cut_after=50_000)] * 7
    assert fetch(file_at(server), tmp_path) == CONTENT
    assert pauses == [0.0] * 7


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("http:/gone.bin", "404 Not Found"),
        ("https:/file.bin", "no secure connection ("),  # nobody speaks TLS there
        ("http:/garbled.bin", f"expected {MD5} but got md5:"),
    ],
)
def test_the_next_address_is_taken(
    server: Server,
    tmp_path: Path,
    pauses: list[float],
    caplog: pytest.LogCaptureFixture,
    path: str,
    reason: str,
) -> None:
    server.files["/garbled.bin"] = b"garbled"
    scheme, name = path.split("/")
    urls = (f"{server.url.replace('http:', scheme)}/{name}", f"{server.url}/file.bin")
    file = RemoteFile(name="file.bin", urls=urls, checksum=MD5)
    with caplog.at_level(logging.INFO, "hidvae"):
        found, note = fetch_file(file, tmp_path, page="")
    assert found.read_bytes() == CONTENT and note["url"] == urls[1]
    assert f"{urls[0]}: {reason}" in caplog.text
    assert pauses == []


def test_a_file_with_a_wrong_checksum_is_never_there(server: Server, tmp_path: Path) -> None:
    server.plan["/file.bin"] = [Answer(body=b"garbled")]
    found = hashlib.md5(b"garbled", usedforsecurity=False).hexdigest()
    with pytest.raises(DataError, match=f"expected {MD5} but got md5:{found}") as caught:
        fetch(file_at(server), tmp_path)
    assert "\n" not in str(caught.value) and names(tmp_path) == set()
    assert fetch(file_at(server), tmp_path) == CONTENT


def test_without_a_published_checksum_the_first_download_is_remembered(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = file_at(server, checksum="")
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    with caplog.at_level(logging.INFO, "hidvae"):
        assert fetch(file, tmp_path) == CONTENT
    assert f"states no checksum to compare with; noted sha256:{sha256}" in caplog.text
    (tmp_path / "file.bin").unlink()
    server.files["/file.bin"] = b"another"
    with pytest.raises(DataError, match=f"expected sha256:{sha256} but got .* to accept the new"):
        fetch(file, tmp_path)
    server.files["/file.bin"] = CONTENT
    caplog.clear()
    assert fetch(file, tmp_path) == CONTENT
    assert "states no checksum" not in caplog.text
    (tmp_path / "file.bin").write_bytes(b"damaged on the disk")
    assert fetch(file, tmp_path) == CONTENT


def test_a_file_put_there_by_hand_is_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    path, note = fetch_file(file_at(server), tmp_path, page="")
    assert path.read_bytes() == CONTENT
    assert note["url"] == "put there by hand"
    assert server.requests == []


@pytest.mark.parametrize("ignores_range", [False, True])
def test_only_the_first_bytes_are_taken(
    server: Server, tmp_path: Path, ignores_range: bool
) -> None:
    server.plan["/file.bin"] = [Answer(cut_after=70_000, ignores_range=ignores_range)]
    server.always["/file.bin"] = Answer(ignores_range=ignores_range)
    head = CONTENT[:100_000]
    sha256 = "sha256:" + hashlib.sha256(head).hexdigest()
    assert fetch(file_at(server, checksum=sha256, first_bytes=100_000), tmp_path) == head
    assert server.ranges[0] == "bytes=0-99999"
    assert re.fullmatch(r"bytes=(6|7)\d{4}-99999", str(server.ranges[1]))


def test_the_second_waits_for_the_first(
    server: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.plan["/file.bin"] = [Answer(status=500)]
    is_waiting, may_go_on = threading.Event(), threading.Event()

    def hold(seconds: float) -> None:
        is_waiting.set()
        assert may_go_on.wait(10)

    class Release(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "another run is fetching it" in record.getMessage():
                may_go_on.set()

    monkeypatch.setattr(http_download, "time", SimpleNamespace(sleep=hold))
    logger, handler = logging.getLogger("hidvae.download"), Release()
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, "hidvae"):
            first = threading.Thread(target=fetch, args=(file_at(server), tmp_path))
            first.start()
            assert is_waiting.wait(10)
            assert fetch(file_at(server), tmp_path) == CONTENT
            first.join()
    finally:
        logger.removeHandler(handler)
    assert len(server.requests) == 2  # the 500 and the file: the second run asked for nothing


@pytest.mark.parametrize(
    ("host", "message", "num_pauses"),
    [
        ("nowhere.invalid", "no such host; is this machine offline", 0),
        ("127.0.0.1:9", r"connection lost \(.*refused.*\) \(tried 6 times\)", 5),
    ],
)
def test_no_network_and_nobody_there(
    tmp_path: Path, pauses: list[float], host: str, message: str, num_pauses: int
) -> None:
    with pytest.raises(DataError, match=message):
        fetch(RemoteFile(name="x.bin", urls=(f"http://{host}/x.bin",)), tmp_path)
    assert len(pauses) == num_pauses


def test_progress_is_a_log_line_or_a_bar_on_a_terminal(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(transfer_progress, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO, "hidvae"):
        fetch(file_at(server), tmp_path / "lines")
    assert "file.bin: 65.5 kB of 400.0 kB (16%)" in caplog.messages
    assert "file.bin: 400.0 kB of 400.0 kB (100%)" in caplog.messages
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", screen)
    assert fetch(file_at(server), tmp_path / "bar") == CONTENT
    assert "file.bin" in screen.getvalue() and "400.0" in screen.getvalue()


# --- a dataset ------------------------------------------------------------------------------------


RATINGS = {"ml-1m/ratings.dat": b"1::10::5::97\n", "ml-1m/movies.dat": b"10::A (1995)::Drama\n"}


def dataset_of(*files: RemoteFile, name: str = "movielens-1m") -> RemoteDataset:
    return RemoteDataset(
        name=name,
        files=files,
        page="https://example.org/page",
        license="research use only",
        license_url="https://example.org/terms",
        asks_acceptance=True,
    )


def get(dataset: RemoteDataset) -> Path:
    return fetch_dataset(dataset)


@pytest.fixture
def movielens(server: Server) -> RemoteDataset:
    """A tiny MovieLens 1M on the server."""
    content = zip_of(RATINGS)
    server.files["/ml-1m.zip"] = content
    checksum = "md5:" + hashlib.md5(content, usedforsecurity=False).hexdigest()
    file = RemoteFile(name="ml-1m.zip", urls=(f"{server.url}/ml-1m.zip",), checksum=checksum)
    return dataset_of(file)


def test_a_dataset_is_fetched_once_and_used_offline(
    movielens: RemoteDataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_downloaded(movielens)
    folder = get(movielens)
    assert folder == cache / "datasets" / "movielens-1m"
    assert {name: (folder / name).read_bytes() for name in RATINGS} == RATINGS
    assert names(folder) == {"ml-1m", RECORD}
    assert names(cache / "downloads") == {"ml-1m.zip.json"}  # the archive is not kept twice
    assert is_downloaded(movielens)
    monkeypatch.setattr("requests.Session.get", None)  # any request would fail
    assert get(movielens) == folder


def test_a_file_that_lost_bytes_is_fetched_again(movielens: RemoteDataset) -> None:
    folder = get(movielens)
    (folder / "ml-1m" / "ratings.dat").write_bytes(b"1::")
    assert not is_downloaded(movielens)
    assert get(movielens) == folder
    assert (folder / "ml-1m" / "ratings.dat").read_bytes() == RATINGS["ml-1m/ratings.dat"]


def test_a_new_checksum_in_the_registry_fetches_again(
    movielens: RemoteDataset, server: Server
) -> None:
    folder = get(movielens)
    content = zip_of({"ml-1m/ratings.dat": b"new"})
    server.files["/ml-1m.zip"] = content
    checksum = "sha256:" + hashlib.sha256(content).hexdigest()
    urls = movielens.files[0].urls
    newer = dataset_of(RemoteFile(name="ml-1m.zip", urls=urls, checksum=checksum))
    assert not is_downloaded(newer)
    assert get(newer) == folder
    assert (folder / "ml-1m" / "ratings.dat").read_bytes() == b"new"
    assert not (folder / "ml-1m" / "movies.dat").exists()


def test_the_licence_has_to_be_accepted_first(
    movielens: RemoteDataset, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LICENSE_VARIABLE)
    with pytest.raises(DataError) as caught:
        fetch_dataset(movielens)
    message = str(caught.value)
    assert "read https://example.org/terms" in message
    assert "set HIDVAE_ACCEPT_LICENSE=1 in the environment" in message
    assert "--set DatasetConfig.folder=PATH" in message
    assert "\n" not in message
    assert server.requests == []
    monkeypatch.setenv(LICENSE_VARIABLE, "1")
    get(movielens)
    monkeypatch.delenv(LICENSE_VARIABLE)
    assert get(movielens)  # what is there needs no second acceptance


def test_plain_files_and_the_first_lines_of_large_ones(server: Server) -> None:
    lines = b"".join(b"%d,caption\n" % i for i in range(1000))
    server.files["/captions.csv"] = lines
    url = (f"{server.url}/captions.csv",)
    for first_bytes in (50, 55):  # five lines, and a part of the sixth
        dataset = dataset_of(
            RemoteFile(name="reviews.bin", urls=(f"{server.url}/file.bin",), checksum=MD5),
            RemoteFile(name="captions.csv", urls=url, first_bytes=first_bytes),
        )
        folder = get(dataset)
        assert (folder / "reviews.bin").read_bytes() == CONTENT
        assert (folder / "captions.csv").read_bytes() == b"".join(lines.splitlines(True)[:5])
        assert is_downloaded(dataset)


@pytest.mark.parametrize("can_link", [True, False])
def test_a_shared_file_is_fetched_once_for_all_datasets(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, can_link: bool
) -> None:
    if not can_link:
        monkeypatch.setattr(os, "link", _no_links)
    server.files["/P5.zip"] = zip_of(
        {"data/beauty/meta.gz": b"b", "data/sports/meta.gz": b"s", "data/toys/notmeta.gz": b"t"}
    )
    for split in ("beauty", "sports"):
        archive = RemoteFile(
            name="P5.zip",
            urls=(f"{server.url}/P5.zip",),
            members=(f"{split}/meta.gz",),
            is_shared=True,
        )
        plain = file_at(server, is_shared=True)
        folder = get(dataset_of(archive, plain, name=f"amazon-{split}"))
        assert names(folder) == {"data", "file.bin", RECORD}
        assert [str(p.relative_to(folder)) for p in folder.rglob("meta.gz")] == [
            f"data/{split}/meta.gz"
        ]
        assert (folder / "file.bin").read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/P5.zip", "/file.bin"]
    assert (cache / "downloads" / "file.bin").samefile(folder / "file.bin") is can_link


def _no_links(*paths: object) -> None:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def test_what_has_arrived_is_not_fetched_again(server: Server, movielens: RemoteDataset) -> None:
    gone = RemoteFile(name="gone.csv", urls=(f"{server.url}/gone.csv",))
    dataset = dataset_of(*movielens.files, gone)
    with pytest.raises(DataError, match=r"gone\.csv: could not be downloaded"):
        get(dataset)
    assert not is_downloaded(dataset)
    server.files["/gone.csv"] = b"a\n"
    get(dataset)
    assert [path for path, _ in server.requests] == ["/ml-1m.zip", "/gone.csv", "/gone.csv"]


def test_a_full_disk_is_one_line_and_loses_nothing(
    movielens: RemoteDataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download, "unpack", full)
        with pytest.raises(
            DataError, match=r"No space left on device\); free some space"
        ) as caught:
            get(movielens)
    assert "\n" not in str(caught.value)
    assert (cache / "downloads" / "ml-1m.zip").is_file()
    get(movielens)


def test_a_cache_that_cannot_be_written(
    movielens: RemoteDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in-the-way").touch()
    monkeypatch.setenv("HIDVAE_CACHE", str(tmp_path / "in-the-way"))
    with pytest.raises(DataError, match=r"cannot be written \(Not a directory\).*\$HIDVAE_CACHE"):
        get(movielens)


def test_too_small_a_disk_is_noticed_before_the_download(server: Server) -> None:
    huge = file_at(server, num_bytes=10**18, unpacked_bytes=10**18)
    with pytest.raises(DataError, match="expected 2.0 EB of free space for movielens-1m; found"):
        get(dataset_of(huge))
    assert server.requests == []


def test_an_evil_archive_is_not_kept(server: Server, cache: Path) -> None:
    server.files["/a.tar.gz"] = tar_of({"../evil": b"e"})
    dataset = dataset_of(RemoteFile(name="a.tar.gz", urls=(f"{server.url}/a.tar.gz",)))
    with pytest.raises(DataError, match="is not to be trusted"):
        get(dataset)
    assert names(cache / "downloads") == set()
    server.files["/a.tar.gz"] = tar_of({"good": b"g"})
    assert (get(dataset) / "good").is_file()
