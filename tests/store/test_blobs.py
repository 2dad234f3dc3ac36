"""The shared store: what was added is read to the bit, by whom and after whatever."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hidvae.errors import ArtifactError
from hidvae.store import blobs
from hidvae.store.blobs import BlobStore


def entries(numbers: range, size: int = 100) -> dict[bytes, bytes]:
    return {b"key %d" % n: (b"%d," % n) * size for n in numbers}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "store.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[BlobStore]:
    with BlobStore(file) as store:
        yield store


def test_what_was_added_is_read_by_all(store: BlobStore, file: Path) -> None:
    added = {bytes(range(256)): b"", b"a\0": b"\0\xff" * 100_000, b"a": b"1"}
    store.add(added)
    assert store.read([*added, b"other", b"a"]) == added
    assert store.known([*added, b"other"]) == set(added)
    with BlobStore(file) as other:
        assert other.read(added) == added


def test_a_store_that_nothing_was_added_to_makes_no_file(store: BlobStore, file: Path) -> None:
    assert store.read([b"a"]) == {}
    assert store.known([b"a"]) == set()
    assert not file.parent.exists()


def test_the_first_blob_stays(store: BlobStore) -> None:
    store.add({b"a": b"first"})
    store.add({b"a": b"second", b"b": b"new"})
    assert store.read([b"a", b"b"]) == {b"a": b"first", b"b": b"new"}


def test_more_keys_than_a_statement_takes(store: BlobStore) -> None:
    store.add(entries(range(0, 3000, 10)))
    assert store.read(entries(range(3000))) == entries(range(0, 3000, 10))


def test_threads_share_a_store(store: BlobStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.add(entries(range(n, n + 5))), range(200)))
    assert len(store.read(entries(range(204)))) == 204


def add_and_read(file: Path, first: int) -> None:
    with BlobStore(file) as store:
        for start in range(first, first + 60, 3):
            store.add(entries(range(start, start + 6)))
            assert store.read(entries(range(start, start + 6))) == entries(range(start, start + 6))


def test_several_processes_lose_nothing(store: BlobStore, file: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    starts = (0, 30, 60, 0)  # they make the file at once
    writers = [spawn.Process(target=add_and_read, args=(file, start)) for start in starts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert store.read(entries(range(120))) == entries(range(120))


def test_a_killed_process_leaves_all_it_added(store: BlobStore, file: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from hidvae.store.blobs import BlobStore\n"
        "store = BlobStore(Path(sys.argv[1]))\n"
        "for number in range(20):\n"
        "    store.add({b'%d' % number: b'kept'})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(file)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(store.read(b"%d" % number for number in range(20))) == 20


def overwritten(start: float, content: bytes) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        with file.open("r+b") as handle:
            handle.seek(int(start * file.stat().st_size))
            handle.write(content)

    return damage


def of_another_program(file: Path) -> None:
    file.unlink()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE blobs (name TEXT)")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        overwritten(0, b"no database at all"),
        overwritten(0, bytes(16384)),
        overwritten(0.3, b"\xa5" * 40_000),
        lambda file: file.write_bytes(b"no database, but long enough for one" * 3000),
        lambda file: file.write_bytes(file.read_bytes()[:40_000]),
        lambda file: os.truncate(file, 100),
        of_another_program,
    ],
)
@pytest.mark.parametrize("is_open", [False, True])
def test_a_damaged_file_is_made_anew_with_a_line(
    damage: Callable[[Path], None], is_open: bool, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    added = entries(range(2000))
    with BlobStore(file) as first:
        first.add(added)
    store = BlobStore(file)
    if is_open:
        store.read([b"key 1"])
    damage(file)
    with caplog.at_level(logging.WARNING):
        found = store.read(added)
        assert found.items() <= added.items()  # never other bytes
        store.add(added)
        assert store.read(added) == added
    store.close()
    if len(found) < len(added):
        assert caplog.records
    assert all("\n" not in record.message for record in caplog.records)
    with BlobStore(file) as again:  # an open file may see its damage as late as now
        assert again.read(added).items() <= added.items()
        again.add(added)
        assert again.read(added) == added


def test_a_changed_blob_is_not_found_and_can_be_added_again(
    store: BlobStore, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.add({b"a": b"right", b"b": b"other"})
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE blobs SET blob = x'00' WHERE key = x'61'")
    connection.close()
    with caplog.at_level(logging.WARNING):
        assert store.read([b"a", b"b"]) == {b"b": b"other"}
    assert f"{file}: an entry is damaged" in caplog.text
    store.add({b"a": b"right"})
    assert store.read([b"a"]) == {b"a": b"right"}


def test_the_cache_can_be_deleted_while_it_is_used(store: BlobStore, file: Path) -> None:
    store.add(entries(range(10)))
    shutil.rmtree(file.parent)
    store.read(entries(range(10)))
    store.add(entries(range(10)))
    store.close()
    store.add(entries(range(5)))
    assert store.read(entries(range(5))) == entries(range(5))


def test_a_full_disk_is_one_line_and_adds_nothing(store: BlobStore, file: Path) -> None:
    store.add(entries(range(3)))
    assert store._connection is not None
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(ArtifactError, match=r"store\.sqlite: .*full; free some space") as caught:
        store.add(entries(range(3, 2000)))
    assert "\n" not in str(caught.value)
    assert store.read(entries(range(2000))) == entries(range(3))
    store.add(entries(range(3, 4)))  # space is there again


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(ArtifactError, match=r"\$HIDVAE_CACHE"):
        BlobStore(tmp_path / "cache" / "store.sqlite").add({b"a": b"1"})


def test_waiting_for_another_process_ends(
    store: BlobStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add({b"a": b"1"})
    store.close()
    monkeypatch.setattr(blobs, "_SECONDS_TO_WAIT", 0.2)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    assert store.read([b"a"]) == {b"a": b"1"}  # who reads waits for nobody
    with pytest.raises(ArtifactError, match="locked"):
        store.add({b"b": b"2"})
    assert time.monotonic() - started < 5
    other.execute("ROLLBACK")
    other.close()
    store.add({b"b": b"2"})
