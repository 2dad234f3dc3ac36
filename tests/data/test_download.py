from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import logging
import os
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest

from hidvae.config import DatasetConfig
from hidvae.data import download, http_download, transfer_progress
from hidvae.data.download import RECORD, fetch_dataset, fetch_file, is_downloaded
from hidvae.data.sources.remote import RemoteDataset, RemoteFile
from hidvae.data.unpack import unpack
from hidvae.errors import DataError

from .server import Answer, Server, serve

CONTENT = np.random.default_rng(0).bytes(400_000)
MD5 = "md5:" + hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
CONFIG = DatasetConfig(source="movielens", dataset_split="1m", accept_license=True)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve({"/file.bin": CONTENT}) as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIDVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the code wanted to wait; the second that pooch waits is skipped."""
    waited: list[float] = []
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    return waited


def file_at(server: Server, *, checksum: str = MD5, **values: object) -> RemoteFile:
    return RemoteFile(
        name="file.bin", urls=(f"{server.url}/file.bin",), checksum=checksum, **values
    )  # type: ignore[arg-type]


def fetch(file: RemoteFile, folder: Path, pauses: list[float]) -> bytes:
    path, _ = fetch_file(file, folder, page="https://example.org/page", sleep=pauses.append)
    return path.read_bytes()


def leave_part(server: Server, folder: Path) -> None:
    """A run that is killed after the connection was cut."""

    def killed(seconds: float) -> None:
        raise KeyboardInterrupt

    server.plan["/file.bin"] = [Answer(cut_after=150_000)]
    with pytest.raises(KeyboardInterrupt):
        fetch_file(file_at(server), folder, page="", sleep=killed)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


# --- one file -------------------------------------------------------------------------------------


def test_a_file_is_downloaded_and_then_used_without_a_request(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    file = file_at(server)
    assert fetch(file, tmp_path / "d", pauses) == CONTENT
    assert fetch(file, tmp_path / "d", pauses) == CONTENT
    assert len(server.requests) == 1
    assert pauses == []
    assert names(tmp_path / "d") == {"file.bin", "file.bin.json"}
    agent = server.requests[0][1]["User-Agent"]
    assert agent.startswith("hidvae/")
    note = json.loads((tmp_path / "d" / "file.bin.json").read_text())
    assert note["published"] is True
    assert note["checksum"] == MD5
    assert note["bytes"] == len(CONTENT)
    assert note["url"] == file.urls[0]


def test_a_cut_connection_is_continued_where_it_broke(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    server.plan["/file.bin"] = [Answer(cut_after=150_000), Answer(cut_after=100_000)]
    assert fetch(file_at(server), tmp_path, pauses) == CONTENT
    first, second, third = server.ranges
    assert first is None
    assert second is not None and third is not None
    starts = [int(text.removeprefix("bytes=").removesuffix("-")) for text in (second, third)]
    assert 0 < starts[0] <= 150_000  # what was still in a buffer is asked for again
    assert starts[0] < starts[1] <= starts[0] + 100_000
    assert pauses == [1.0, 2.0]
    etag = f'"{hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()}"'
    assert [headers.get("If-Range") for _, headers in server.requests] == [None, etag, etag]


def test_a_killed_run_is_continued_by_the_next_one(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    leave_part(server, tmp_path)
    assert names(tmp_path) == {"file.bin.part", "file.bin.part.json"}
    arrived = (tmp_path / "file.bin.part").stat().st_size
    assert arrived > 50_000
    assert fetch(file_at(server), tmp_path, pauses) == CONTENT
    assert server.ranges == [None, f"bytes={arrived}-"]


def test_a_whole_part_is_used_as_it_is(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    leave_part(server, tmp_path)
    (tmp_path / "file.bin.part").write_bytes(CONTENT)  # killed just before the renaming
    assert fetch(file_at(server), tmp_path, pauses) == CONTENT
    assert server.ranges[-1] == f"bytes={len(CONTENT)}-"


def test_a_part_that_is_too_long_is_thrown_away(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    leave_part(server, tmp_path)
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    assert fetch(file_at(server, checksum=""), tmp_path, pauses) == CONTENT


def test_a_server_without_ranges_starts_over(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    server.plan["/file.bin"] = [Answer(cut_after=150_000), Answer(ignores_range=True)]
    assert fetch(file_at(server, checksum=""), tmp_path, pauses) == CONTENT


def test_a_part_of_another_version_is_not_continued(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    older = bytes(len(CONTENT))
    server.plan["/file.bin"] = [Answer(body=older, cut_after=150_000)]
    assert fetch(file_at(server, checksum=""), tmp_path, pauses) == CONTENT


def test_a_kill_at_the_start_of_a_new_version_leaves_nothing_to_glue(
    server: Server, tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.plan["/file.bin"] = [Answer(body=bytes(len(CONTENT)), cut_after=150_000)]
    real = http_download.write_json

    def killed_after(path: Path, value: dict[str, object]) -> None:
        real(path, value)
        if len(server.requests) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(http_download, "write_json", killed_after)
    with pytest.raises(KeyboardInterrupt):
        fetch(file_at(server, checksum=""), tmp_path, pauses)
    assert fetch(file_at(server, checksum=""), tmp_path, pauses) == CONTENT


def test_a_server_that_continues_another_version_all_the_same_is_noticed(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    size = len(CONTENT)
    wrong = Answer(
        status=206,
        headers={"ETag": '"other"', "Content-Range": f"bytes 131072-{size - 1}/{size}"},
        body=bytes(size - 131_072),
    )
    server.plan["/file.bin"] = [Answer(cut_after=131_072), wrong]
    assert fetch(file_at(server, checksum=""), tmp_path, pauses) == CONTENT


def test_without_etag_and_date_nothing_is_continued(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    server.plan["/file.bin"] = [Answer(cut_after=150_000, has_validators=False)]
    assert fetch(file_at(server), tmp_path, pauses) == CONTENT
    assert server.ranges == [None, None]


def test_a_weak_etag_is_no_reason_to_continue(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    server.plan["/file.bin"] = [Answer(headers={"ETag": 'W/"1"'}, cut_after=150_000)]
    assert fetch(file_at(server), tmp_path, pauses) == CONTENT
    assert server.ranges == [None, None]


def test_less_than_was_asked_for_is_noticed(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    some = {"Content-Range": f"bytes 150000-249999/{len(CONTENT)}"}
    server.plan["/file.bin"] = [
        Answer(cut_after=150_000),
        Answer(status=206, headers=some, body=CONTENT[150_000:250_000]),
    ]
    assert fetch(file_at(server, checksum=""), tmp_path, pauses) == CONTENT


def test_a_gzip_file_that_is_called_an_encoding_stays_as_it_is(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    server.files["/file.bin"] = gzip.compress(b"a line\n" * 1000)
    server.always["/file.bin"] = Answer(headers={"Content-Encoding": "gzip"})
    assert fetch(file_at(server, checksum=""), tmp_path, pauses) == server.files["/file.bin"]


def test_passing_server_errors_are_waited_out(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    server.plan["/file.bin"] = [Answer(status=500), Answer(status=502)]
    assert fetch(file_at(server), tmp_path, pauses) == CONTENT
    assert pauses == [1.0, 2.0]


def test_the_pause_that_the_server_asks_for_is_kept(
    server: Server, tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_download.time, "time", lambda: 1_000_000_000.0)
    then = formatdate(1_000_000_042, usegmt=True)
    server.plan["/file.bin"] = [
        Answer(status=429, headers={"Retry-After": "7"}),
        Answer(status=503, headers={"Retry-After": then}),
        Answer(status=429, headers={"Retry-After": "soon"}),
    ]
    assert fetch(file_at(server), tmp_path, pauses) == CONTENT
    assert pauses == [7.0, 42.0, 4.0]


def test_a_pause_of_hours_is_not_kept(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    server.always["/file.bin"] = Answer(status=429, headers={"Retry-After": "86400"})
    with pytest.raises(DataError, match=r"429 Too Many Requests, asks to come back in 86400 s"):
        fetch(file_at(server), tmp_path, pauses)
    assert pauses == []


def test_retries_are_limited(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    server.always["/file.bin"] = Answer(status=500)
    with pytest.raises(DataError, match=r"500 Internal Server Error \(tried 6 times\)"):
        fetch(file_at(server), tmp_path, pauses)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert len(server.requests) == 6


def test_much_that_arrived_starts_the_count_anew(
    server: Server, tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_download, "_MUCH_BYTES", 10_000)
    server.plan["/file.bin"] = [Answer(cut_after=80_000)] * 8
    assert fetch(file_at(server), tmp_path, pauses) == CONTENT
    assert set(pauses) == {1.0}


@pytest.mark.parametrize(("status", "named"), [(404, "404 Not Found"), (403, "403 Forbidden")])
def test_a_missing_file_fails_at_once_and_says_what_to_do(
    server: Server, tmp_path: Path, pauses: list[float], status: int, named: str
) -> None:
    server.always["/file.bin"] = Answer(status=status)
    with pytest.raises(DataError) as caught:
        fetch(file_at(server), tmp_path, pauses)
    assert str(caught.value) == (
        f"file.bin: could not be downloaded ({server.url}/file.bin: {named}); try again later, or "
        f"get it by hand from https://example.org/page: put it into {tmp_path}, or put the "
        "dataset's files (archives unpacked) into a folder of yours and name it with "
        "--set DatasetConfig.folder=PATH"
    )
    assert len(server.requests) == 1
    assert pauses == []


def test_the_next_address_is_taken(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    urls = (f"{server.url}/gone.bin", f"{server.url}/file.bin")
    file = RemoteFile(name="file.bin", urls=urls, checksum=MD5)
    path, note = fetch_file(file, tmp_path, page="", sleep=pauses.append)
    assert path.read_bytes() == CONTENT
    assert note["url"] == urls[1]


def test_a_host_without_a_valid_certificate_is_passed_by(
    server: Server, tmp_path: Path, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    secure = server.url.replace("http:", "https:") + "/file.bin"  # nobody speaks TLS there
    file = RemoteFile(name="file.bin", urls=(secure, f"{server.url}/file.bin"), checksum=MD5)
    with caplog.at_level(logging.INFO, "hidvae"):
        assert fetch(file, tmp_path, pauses) == CONTENT
    assert f"{secure}: no secure connection (" in caplog.text
    assert pauses == []


def test_a_wrong_checksum_is_fetched_once_more(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    server.plan["/file.bin"] = [Answer(body=b"garbled")]
    assert fetch(file_at(server), tmp_path, pauses) == CONTENT
    assert len(server.requests) == 2


def test_a_file_with_a_wrong_checksum_is_never_there(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    server.always["/file.bin"] = Answer(body=b"garbled")
    found = hashlib.md5(b"garbled", usedforsecurity=False).hexdigest()
    with pytest.raises(DataError, match=f"expected {MD5} but got {found}") as caught:
        fetch(file_at(server), tmp_path, pauses)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 2
    assert names(tmp_path) == set()


def test_without_a_published_checksum_the_first_download_is_remembered(
    server: Server, tmp_path: Path, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    file = file_at(server, checksum="")
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    with caplog.at_level(logging.INFO, "hidvae"):
        assert fetch(file, tmp_path, pauses) == CONTENT
    assert f"states no checksum to compare with; noted sha256:{sha256}" in caplog.text
    (tmp_path / "file.bin").unlink()
    server.files["/file.bin"] = b"another"
    with pytest.raises(DataError, match=f"expected sha256:{sha256} but got .* to accept the new"):
        fetch(file, tmp_path, pauses)
    server.files["/file.bin"] = CONTENT
    caplog.clear()
    assert fetch(file, tmp_path, pauses) == CONTENT
    assert "states no checksum" not in caplog.text
    (tmp_path / "file.bin").write_bytes(b"damaged on the disk")
    assert fetch(file, tmp_path, pauses) == CONTENT


def test_a_file_put_there_by_hand_is_used(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    path, note = fetch_file(file_at(server), tmp_path, page="", sleep=pauses.append)
    assert path.read_bytes() == CONTENT
    assert note["url"] == "put there by hand"
    assert server.requests == []


@pytest.mark.parametrize("ignores_range", [False, True])
def test_only_the_first_bytes_are_taken(
    server: Server, tmp_path: Path, pauses: list[float], ignores_range: bool
) -> None:
    cut = Answer(cut_after=70_000, ignores_range=ignores_range)
    server.plan["/file.bin"] = [cut]
    server.always["/file.bin"] = Answer(ignores_range=ignores_range)
    head = CONTENT[:100_000]
    file = file_at(
        server, checksum="sha256:" + hashlib.sha256(head).hexdigest(), first_bytes=100_000
    )
    assert fetch(file, tmp_path, pauses) == head
    assert server.ranges[0] == "bytes=0-99999"
    assert re.fullmatch(r"bytes=(6|7)\d{4}-99999", str(server.ranges[1]))


def test_two_at_once_fetch_once(
    server: Server, tmp_path: Path, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(file_at(server), tmp_path, pauses)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT, CONTENT]
    assert len(server.requests) == 1


def test_the_second_waits_for_the_first(
    server: Server, tmp_path: Path, pauses: list[float], caplog: pytest.LogCaptureFixture
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

    logger, handler = logging.getLogger("hidvae.download"), Release()
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, "hidvae"):
            first = threading.Thread(
                target=fetch_file,
                args=(file_at(server), tmp_path),
                kwargs={"page": "", "sleep": hold},
            )
            first.start()
            assert is_waiting.wait(10)
            assert fetch(file_at(server), tmp_path, pauses) == CONTENT
            first.join()
    finally:
        logger.removeHandler(handler)
    assert len(server.requests) == 2  # the 500 and the file: the second run asked for nothing


def test_no_network_is_said_at_once(tmp_path: Path, pauses: list[float]) -> None:
    file = RemoteFile(name="x.bin", urls=("http://nowhere.invalid/x.bin",))
    with pytest.raises(DataError, match="no such host; is this machine offline"):
        fetch(file, tmp_path, pauses)
    assert pauses == []


def test_a_refused_connection_is_tried_again(
    tmp_path: Path, pauses: list[float], server: Server
) -> None:
    with serve() as closed:
        address = closed.url
    file = RemoteFile(name="x.bin", urls=(f"{address}/x.bin",))
    with pytest.raises(DataError, match=r"connection lost \(.*refused.*\) \(tried 6 times\)"):
        fetch(file, tmp_path, pauses)
    assert len(pauses) == 5


def test_a_web_page_is_not_taken_for_the_file(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    page = Answer(headers={"Content-Type": "text/html; charset=utf-8"}, body=b"<p>quota</p>")
    server.always["/file.bin"] = page
    with pytest.raises(DataError, match="a web page came instead of the file"):
        fetch(file_at(server, checksum=""), tmp_path, pauses)
    assert names(tmp_path) == set()


def test_the_form_of_google_drive_is_answered(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    form = (
        b'<body><form id="download-form" action="/file.bin" method="get"><input type="submit" '
        b'value="Download anyway"/><input type="hidden" name="id" value="1A&amp;b">'
        b'<input type="hidden" name="confirm" value="t"></form></body>'
    )
    server.always["/uc"] = Answer(headers={"Content-Type": "text/html"}, body=form)
    file = RemoteFile(name="file.bin", urls=(f"{server.url}/uc?id=1",), checksum=MD5)
    assert fetch(file, tmp_path, pauses) == CONTENT
    assert [path for path, _ in server.requests] == ["/uc?id=1", "/file.bin?id=1A%26b&confirm=t"]


def test_progress_is_a_log_line_where_there_is_no_terminal(
    server: Server,
    tmp_path: Path,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(transfer_progress, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO, "hidvae"):
        fetch(file_at(server), tmp_path, pauses)
    assert "file.bin: 65.5 kB of 400.0 kB (16%)" in caplog.messages
    assert "file.bin: 400.0 kB of 400.0 kB (100%)" in caplog.messages


def test_progress_is_a_bar_on_a_terminal(
    server: Server, tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", screen)
    assert fetch(file_at(server), tmp_path, pauses) == CONTENT
    assert "file.bin" in screen.getvalue()
    assert "400.0" in screen.getvalue()


# --- a dataset ------------------------------------------------------------------------------------


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_of(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()


RATINGS = {"ml-1m/ratings.dat": b"1::10::5::97\n", "ml-1m/movies.dat": b"10::A (1995)::Drama\n"}


def register(
    monkeypatch: pytest.MonkeyPatch, *files: RemoteFile, name: str = "movielens-1m"
) -> RemoteDataset:
    dataset = RemoteDataset(
        name=name,
        files=files,
        page="https://example.org/page",
        license="research use only",
        license_url="https://example.org/terms",
        asks_acceptance=True,
    )
    monkeypatch.setattr(download, "remote_dataset", lambda config: dataset)
    return dataset


@pytest.fixture
def movielens(server: Server, monkeypatch: pytest.MonkeyPatch) -> RemoteDataset:
    """A tiny MovieLens 1M on the server, in the place of the real one."""
    content = zip_of(RATINGS)
    server.files["/ml-1m.zip"] = content
    checksum = "md5:" + hashlib.md5(content, usedforsecurity=False).hexdigest()
    file = RemoteFile(name="ml-1m.zip", urls=(f"{server.url}/ml-1m.zip",), checksum=checksum)
    return register(monkeypatch, file)


def test_a_dataset_is_fetched_once_and_used_offline(movielens: RemoteDataset, cache: Path) -> None:
    assert not is_downloaded(CONFIG)
    folder = fetch_dataset(CONFIG)
    assert folder == cache / "datasets" / "movielens-1m"
    assert {name: (folder / name).read_bytes() for name in RATINGS} == RATINGS
    assert names(folder) == {"ml-1m", RECORD}
    assert names(cache / "downloads") == {"ml-1m.zip.json"}  # the archive is not kept twice
    assert is_downloaded(CONFIG)


def test_offline_the_cache_is_enough(
    movielens: RemoteDataset, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch_dataset(CONFIG)
    monkeypatch.setattr("requests.Session.get", None)  # any request would fail
    asked = len(server.requests)
    assert fetch_dataset(CONFIG) == folder
    assert len(server.requests) == asked == 1


def test_a_file_that_lost_bytes_is_fetched_again(movielens: RemoteDataset) -> None:
    folder = fetch_dataset(CONFIG)
    (folder / "ml-1m" / "ratings.dat").write_bytes(b"1::")
    assert not is_downloaded(CONFIG)
    assert fetch_dataset(CONFIG) == folder
    assert (folder / "ml-1m" / "ratings.dat").read_bytes() == RATINGS["ml-1m/ratings.dat"]


def test_a_new_checksum_in_the_registry_fetches_again(
    movielens: RemoteDataset, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch_dataset(CONFIG)
    content = zip_of({"ml-1m/ratings.dat": b"new"})
    server.files["/ml-1m.zip"] = content
    checksum = "sha256:" + hashlib.sha256(content).hexdigest()
    register(
        monkeypatch,
        RemoteFile(name="ml-1m.zip", urls=movielens.files[0].urls, checksum=checksum),
    )
    assert not is_downloaded(CONFIG)
    assert fetch_dataset(CONFIG) == folder
    assert (folder / "ml-1m" / "ratings.dat").read_bytes() == b"new"
    assert not (folder / "ml-1m" / "movies.dat").exists()


def test_the_licence_has_to_be_accepted_first(movielens: RemoteDataset, server: Server) -> None:
    config = DatasetConfig(source="movielens", dataset_split="1m")
    with pytest.raises(DataError) as caught:
        fetch_dataset(config)
    message = str(caught.value)
    assert "read https://example.org/terms" in message
    assert "--set DatasetConfig.accept_license=True" in message
    assert "--set DatasetConfig.folder=PATH" in message
    assert "\n" not in message
    assert server.requests == []
    fetch_dataset(CONFIG)
    assert fetch_dataset(config)  # what is there needs no second acceptance


def test_plain_files_and_the_first_lines_of_large_ones(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = b"".join(b"%d,caption\n" % i for i in range(1000))
    server.files["/captions.csv"] = lines
    url = (f"{server.url}/captions.csv",)
    register(
        monkeypatch,
        RemoteFile(name="reviews.bin", urls=(f"{server.url}/file.bin",), checksum=MD5),
        RemoteFile(name="captions.csv", urls=url, first_bytes=50),
    )
    folder = fetch_dataset(CONFIG)
    assert (folder / "reviews.bin").read_bytes() == CONTENT
    assert (folder / "captions.csv").read_bytes() == b"".join(
        lines.splitlines(True)[:5]
    )  # 50 of 50
    register(monkeypatch, RemoteFile(name="captions.csv", urls=url, first_bytes=55))
    fetch_dataset(CONFIG)
    assert (folder / "captions.csv").read_bytes() == b"".join(lines.splitlines(True)[:5])
    assert is_downloaded(CONFIG)


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
        register(monkeypatch, archive, file_at(server, is_shared=True), name=f"amazon-{split}")
        folder = fetch_dataset(CONFIG)
        assert names(folder) == {"data", "file.bin", RECORD}
        assert [str(p.relative_to(folder)) for p in folder.rglob("meta.gz")] == [
            f"data/{split}/meta.gz"
        ]
        assert (folder / "file.bin").read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/P5.zip", "/file.bin"]
    assert (cache / "downloads" / "file.bin").samefile(folder / "file.bin") is can_link


def _no_links(*paths: object) -> None:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def test_what_has_arrived_is_not_fetched_again(
    server: Server, movielens: RemoteDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = RemoteFile(name="gone.csv", urls=(f"{server.url}/gone.csv",))
    register(monkeypatch, *movielens.files, gone)
    with pytest.raises(DataError, match=r"gone\.csv: could not be downloaded"):
        fetch_dataset(CONFIG)
    assert not is_downloaded(CONFIG)
    server.files["/gone.csv"] = b"a\n"
    fetch_dataset(CONFIG)
    assert [path for path, _ in server.requests] == ["/ml-1m.zip", "/gone.csv", "/gone.csv"]


def test_own_folders_and_the_demo_are_not_downloaded() -> None:
    for config in (DatasetConfig(), DatasetConfig(source="demo")):
        assert not is_downloaded(config)
        with pytest.raises(DataError, match="expected a public dataset to download"):
            fetch_dataset(config)


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
            fetch_dataset(CONFIG)
    assert "\n" not in str(caught.value)
    assert (cache / "downloads" / "ml-1m.zip").is_file()
    fetch_dataset(CONFIG)


def test_a_cache_that_cannot_be_written(
    movielens: RemoteDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in-the-way").touch()
    monkeypatch.setenv("HIDVAE_CACHE", str(tmp_path / "in-the-way"))
    with pytest.raises(DataError, match=r"cannot be written \(Not a directory\).*\$HIDVAE_CACHE"):
        fetch_dataset(CONFIG)


def test_too_small_a_disk_is_noticed_before_the_download(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, file_at(server, num_bytes=10**18, unpacked_bytes=10**18))
    with pytest.raises(DataError, match="expected 2.0 EB of free space for movielens-1m; found"):
        fetch_dataset(CONFIG)
    assert server.requests == []


# --- archives -------------------------------------------------------------------------------------


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_archives_are_unpacked_as_they_are(tmp_path: Path, name: str) -> None:
    content = (zip_of if name == "a.zip" else tar_of)(
        {"top/x/y.txt": b"yy", "top/notx/y.txt": b"n", "z.txt": b"z"}
    )
    archive = put(tmp_path / name, content)
    assert unpack(archive, tmp_path / "out") == {
        "top/notx/y.txt": 1,
        "top/x/y.txt": 2,
        "z.txt": 1,
    }
    assert names(tmp_path / "out") == {"top", "z.txt"}
    assert unpack(archive, tmp_path / "some", ("x/y.txt",)) == {"top/x/y.txt": 2}
    assert names(tmp_path / "some") == {"top"}
    with pytest.raises(DataError, match=r"expected y\.tx in it; found none"):
        unpack(archive, tmp_path / "none", ("y.tx",))
    assert names(tmp_path / "none") == set()


@pytest.mark.parametrize("evil", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:\\evil"])
@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_nothing_is_written_outside(tmp_path: Path, make: object, evil: str) -> None:
    archive = put(tmp_path / "a.archive", make({"good.txt": b"g", evil: b"e"}))  # type: ignore[operator]
    with pytest.raises(DataError, match="expected plain files inside of the archive's folder"):
        unpack(archive, tmp_path / "deep" / "out")
    assert names(tmp_path / "deep" / "out") == set()
    assert not list(tmp_path.rglob("*evil*"))


def test_links_that_lead_outside_are_refused(tmp_path: Path) -> None:
    archive = put(tmp_path / "a.tar.gz", tar_of({"a.txt": b"a"}, links={"out": "/etc"}))
    with pytest.raises(DataError, match="expected plain files inside of the archive's folder"):
        unpack(archive, tmp_path / "out")
    assert names(tmp_path / "out") == set()


def test_a_damaged_archive_leaves_the_old_files(tmp_path: Path) -> None:
    whole = tar_of({"top/a.txt": b"a" * 100_000, "top/b.txt": CONTENT})
    unpack(put(tmp_path / "a.tar.gz", whole), tmp_path / "out")
    for broken in (whole[:-1000], b"no archive", whole[:2000] + bytes(1000) + whole[3000:]):
        with pytest.raises(DataError, match="expected a whole archive; it is damaged"):
            unpack(put(tmp_path / "b.tar.gz", broken), tmp_path / "out")
    assert (tmp_path / "out" / "top" / "b.txt").read_bytes() == CONTENT
    assert names(tmp_path / "out") == {"top"}


def test_an_evil_archive_is_not_kept(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/a.zip"] = zip_of({"../evil": b"e"})
    register(monkeypatch, RemoteFile(name="a.zip", urls=(f"{server.url}/a.zip",)))
    with pytest.raises(DataError, match="is not to be trusted"):
        fetch_dataset(CONFIG)
    assert names(cache / "downloads") == set()
    server.files["/a.zip"] = zip_of({"good": b"g"})
    assert (fetch_dataset(CONFIG) / "good").is_file()
