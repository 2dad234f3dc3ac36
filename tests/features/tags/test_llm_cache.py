from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hidvae.errors import ArtifactError
from hidvae.features.tags.llm_cache import AnswerCache, StoredAnswer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "llm" / "answers.sqlite"


@pytest.fixture
def cache(file: Path) -> Iterator[AnswerCache]:
    cache = AnswerCache(file)
    yield cache
    cache.close()


def test_what_was_stored_is_read(cache: AnswerCache, file: Path) -> None:
    answer = StoredAnswer('{"tag": "Zahnpasta ü 牙膏\n"}', 12, 3)
    assert cache.store("key", answer) == answer
    assert cache.read(["key", "other", "key"]) == {"key": answer}
    other = AnswerCache(file)
    assert other.read(["key"]) == {"key": answer}
    other.close()


def test_the_first_answer_stays(cache: AnswerCache) -> None:
    first = StoredAnswer("first", 1, 1)
    cache.store("key", first)
    assert cache.store("key", StoredAnswer("second", 2, 2)) == first


def test_more_keys_than_a_statement_takes(cache: AnswerCache) -> None:
    keys = [str(number) for number in range(1234)]
    for key in keys[::10]:
        cache.store(key, StoredAnswer(key, 0, 0))
    assert cache.read(keys) == {key: StoredAnswer(key, 0, 0) for key in keys[::10]}


def test_threads_and_connections_share_the_file(cache: AnswerCache, file: Path) -> None:
    def store_all(owner: int) -> None:
        mine = AnswerCache(file) if owner % 2 else cache
        for key in range(50):
            mine.store(str(key), StoredAnswer(f"{owner}", owner, 0))
        if mine is not cache:
            mine.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store_all, range(4)))
    assert len(cache.read(map(str, range(50)))) == 50


def test_a_killed_process_leaves_all_it_stored(cache: AnswerCache, file: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from hidvae.features.tags.llm_cache import AnswerCache, StoredAnswer\n"
        "cache = AnswerCache(Path(sys.argv[1]))\n"
        "for key in range(20):\n"
        "    cache.store(str(key), StoredAnswer('kept', 1, 1))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(file)], env=os.environ, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(cache.read(map(str, range(20)))) == 20


def test_a_damaged_file_is_named(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("no database, but long enough to be taken for one" * 100)
    with pytest.raises(
        ArtifactError, match=r"answers.sqlite: expected a writable cache.*delete"
    ) as e:
        AnswerCache(file)
    assert "\n" not in str(e.value)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "llm").write_text("in the way")
    with pytest.raises(ArtifactError, match=r"\$HIDVAE_CACHE"):
        AnswerCache(tmp_path / "llm" / "answers.sqlite")
