from __future__ import annotations

import contextlib
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.features.batch_encoder import CONFIG, BatchEncoder
from tests.stages import embed

from hidvae.errors import DataError
from hidvae.features import cached_encoding, text_vectors
from hidvae.features.cached_encoding import content_key, encode_cached
from hidvae.store.artifacts import StageFolder
from hidvae.store.cache import cache_folder

FILE = "vectors.sqlite"
TEXTS = [f"text {'x' * (number * 7 % 23)} {number}" for number in range(60)]


@pytest.fixture(autouse=True)
def a_write_per_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_encoding, "_SECONDS_BETWEEN_WRITES", 0.0)


def encode(texts: list[str], encoder: BatchEncoder, file: Path | None) -> np.ndarray:
    keys = [content_key(text.encode()) for text in texts]
    return encode_cached(texts, keys, load=lambda: encoder, file=file)


@pytest.mark.parametrize("fails_at", range(1, 7))
def test_an_interrupted_encoding_goes_on_to_the_same_bits(fails_at: int, tmp_path: Path) -> None:
    whole = BatchEncoder()
    expected = encode(TEXTS, whole, tmp_path / "whole")
    assert len(whole.encoded) == 7
    first, second = BatchEncoder(), BatchEncoder()
    first.fails_at = fails_at
    with pytest.raises(KeyboardInterrupt):
        encode(TEXTS, first, tmp_path / "resumed")
    np.testing.assert_array_equal(encode(TEXTS, second, tmp_path / "resumed"), expected)
    assert first.encoded + second.encoded == whole.encoded


def test_an_interruption_keeps_what_is_done_since_the_last_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_encoding, "_SECONDS_BETWEEN_WRITES", 1e9)
    first, second = BatchEncoder(), BatchEncoder()
    first.fails_at = 3
    with pytest.raises(KeyboardInterrupt):
        encode(TEXTS, first, tmp_path / FILE)
    encode(TEXTS, second, tmp_path / FILE)
    assert len(second.encoded) == 7 - 3


def test_a_lost_batch_is_encoded_in_the_same_batches(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = BatchEncoder()
    expected = encode(TEXTS, whole, tmp_path / FILE)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        lost = [content_key(text.encode()) for text in whole.encoded[2]]
        connection.executemany("DELETE FROM blobs WHERE key = ?", [(key,) for key in lost])
        changed = [content_key(text.encode()) for text in whole.encoded[5]]
        statement = "UPDATE blobs SET blob = zeroblob(24) WHERE key = ?"
        connection.executemany(statement, [(key,) for key in changed])
    again = BatchEncoder()
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(encode(TEXTS, again, tmp_path / FILE), expected)
    assert again.encoded == [whole.encoded[2], whole.encoded[5]]
    assert caplog.text.count("an entry is damaged") == len(changed)


@pytest.mark.parametrize("is_file_in_the_way", [True, False])
def test_a_cache_that_cannot_be_used_costs_the_cache_alone(
    is_file_in_the_way: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / FILE
    if is_file_in_the_way:
        (tmp_path / "folder").touch()
        file = tmp_path / "folder" / FILE
    else:
        file.mkdir()
    with caplog.at_level(logging.WARNING):
        vectors = encode(TEXTS, BatchEncoder(), file)
    np.testing.assert_array_equal(vectors, encode(TEXTS, BatchEncoder(), None))
    assert len(caplog.records) == 1
    assert "vectors are not cached: " in caplog.text


def num_kept(file: Path) -> int:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM blobs").fetchone()[0])
        except sqlite3.OperationalError:  # not made yet
            return 0


def test_a_killed_process_goes_on_to_the_same_artifact(
    demo_dataset: StageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "embeddings"
    command = [sys.executable, "-m", "tests.features.batch_encoder", str(demo_dataset.path)]
    process = subprocess.Popen([*command, str(output)], cwd=Path(__file__).parents[2])
    started = time.monotonic()
    while not (files := list(cache_folder().rglob("*.sqlite"))) or num_kept(files[0]) < 2:
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() - started < 60
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not output.exists()
    second, whole = BatchEncoder(), BatchEncoder()
    monkeypatch.setattr(text_vectors, "load_text_encoder", lambda *args: second)
    resumed = embed(CONFIG, demo_dataset, output)
    monkeypatch.setenv("HIDVAE_CACHE", str(tmp_path / "fresh"))
    monkeypatch.setattr(text_vectors, "load_text_encoder", lambda *args: whole)
    uninterrupted = embed(CONFIG, demo_dataset, tmp_path / "uninterrupted")
    assert resumed.fingerprint == uninterrupted.fingerprint
    assert 0 < len(second.encoded) < len(whole.encoded)


def test_equal_contents_are_encoded_once_and_a_full_cache_needs_no_encoder(tmp_path: Path) -> None:
    encoder = BatchEncoder()
    vectors = encode([*TEXTS, *TEXTS[::-1]], encoder, tmp_path / FILE)
    np.testing.assert_array_equal(vectors, np.concatenate([vectors[:60], vectors[:60][::-1]]))
    assert sorted(text for batch in encoder.encoded for text in batch) == sorted(TEXTS)

    def never() -> BatchEncoder:
        raise AssertionError("loaded")

    keys = [content_key(text.encode()) for text in TEXTS]
    found = encode_cached(TEXTS, keys, load=never, file=tmp_path / FILE)
    np.testing.assert_array_equal(found, vectors[:60])


def test_only_what_is_missing_is_encoded(tmp_path: Path) -> None:
    before = encode(TEXTS[:30], BatchEncoder(), tmp_path / FILE)
    encoder = BatchEncoder()
    vectors = encode(TEXTS, encoder, tmp_path / FILE)
    np.testing.assert_array_equal(vectors[:30], before)
    assert sorted(text for batch in encoder.encoded for text in batch) == sorted(TEXTS[30:])


def test_without_a_file_nothing_is_kept(tmp_path: Path) -> None:
    np.testing.assert_array_equal(
        encode(TEXTS, BatchEncoder(), None), encode(TEXTS, BatchEncoder(), tmp_path / "x")
    )
    assert os.listdir(tmp_path) == ["x"]


def test_vectors_that_are_not_finite_are_refused_and_not_kept(tmp_path: Path) -> None:
    class Broken(BatchEncoder):
        def encode(self, texts: object) -> np.ndarray:
            return np.full((len(texts), self.dim), np.nan, np.float32)  # type: ignore[arg-type]

    with pytest.raises(DataError, match="expected finite vectors; found NaN.*'text") as caught:
        encode(TEXTS, Broken(), tmp_path / "x")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_a_model_that_changed_its_width_under_its_name_is_refused(tmp_path: Path) -> None:
    encode(TEXTS[:3], BatchEncoder(), tmp_path / FILE)
    wider = BatchEncoder()
    wider.dim = 7
    with pytest.raises(DataError, match="vectors of 7 numbers.*found 6.*delete this file"):
        encode(TEXTS, wider, tmp_path / FILE)
