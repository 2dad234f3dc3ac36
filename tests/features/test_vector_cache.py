from __future__ import annotations

import logging
import multiprocessing
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hidvae.features import vector_cache
from hidvae.features.cached_encoding import content_keys
from hidvae.features.vector_cache import VectorCache


def keys_of(numbers: range | list[int]) -> np.ndarray:
    return content_keys(str(number).encode() for number in numbers)


def vectors_of(numbers: range | list[int], dim: int = 3) -> np.ndarray:
    return np.outer(np.asarray(numbers, np.float32) + 1, np.arange(1, dim + 1, dtype=np.float32))


def fill(cache: VectorCache, *spans: range) -> None:
    for span in spans:
        assert cache.write(keys_of(span), vectors_of(span))


def shards(cache: VectorCache) -> list[Path]:
    return sorted(cache.folder.glob("*.safetensors"))


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    return VectorCache(tmp_path / "vectors")


def test_rows_come_in_the_order_asked_for_with_repeats(
    cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_cache, "_BLOCK_ROWS", 4)
    fill(cache, range(0, 10), range(10, 13))
    asked = [12, 3, 3, 99, 0, 9, 12, 7]
    vectors, is_found = cache.read(keys_of(asked))
    assert is_found.tolist() == [number != 99 for number in asked]
    assert vectors is not None
    np.testing.assert_array_equal(vectors[is_found], vectors_of(asked)[is_found])


def test_an_empty_cache_knows_nothing(cache: VectorCache) -> None:
    vectors, is_found = cache.read(keys_of([1, 2]))
    assert vectors is None
    assert not is_found.any()


def test_a_key_that_ends_in_zero_bytes_is_a_key(cache: VectorCache) -> None:
    raw = b"a" * 31 + b"\0" + b"b" * 32 + b"a" * 30 + b"\0\0"
    keys = np.frombuffer(raw, vector_cache.KEY_DTYPE)
    cache.write(keys[:2], vectors_of([0, 1]))
    vectors, is_found = cache.read(keys)
    assert vectors is not None
    assert is_found.tolist() == [True, True, False]
    np.testing.assert_array_equal(vectors[:2], vectors_of([0, 1]))


def test_keys_that_begin_alike_are_told_apart(cache: VectorCache) -> None:
    keys = np.frombuffer(b"".join(b"a" * 31 + last for last in (b"1", b"2", b"3")), "S32")
    cache.write(keys[:2], vectors_of([0, 1]))
    vectors, is_found = cache.read(keys[[2, 1, 0, 1]])
    assert is_found.tolist() == [False, True, True, True]
    assert vectors is not None
    np.testing.assert_array_equal(vectors[1:], vectors_of([1, 0, 1]))


def test_small_shards_become_one_and_large_ones_stay(
    cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, *(range(start, start + 5) for start in range(0, 40, 4)))  # they overlap
    cache.compact()
    (merged,) = shards(cache)
    assert load_file(merged)["keys"].shape == (41, 32)  # each key once
    vectors, is_found = cache.read(keys_of(range(41)))
    assert is_found.all()
    np.testing.assert_array_equal(vectors, vectors_of(range(41)))
    monkeypatch.setattr(vector_cache, "_SMALL_SHARD_BYTES", merged.stat().st_size)
    fill(cache, range(50, 51), range(51, 52))
    cache.compact()
    assert len(shards(cache)) == 2
    assert merged in shards(cache)


def test_groups_of_small_shards_are_bounded(
    cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, *(range(start, start + 10) for start in range(0, 60, 10)))
    one = shards(cache)[0].stat().st_size
    monkeypatch.setattr(vector_cache, "_SMALL_SHARD_BYTES", 2 * one)
    cache.compact()
    assert len(shards(cache)) == 3
    assert cache.read(keys_of(range(60)))[1].all()


def flip(position: int) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[position] ^= 1
        file.write_bytes(content)

    return damage


def rewrite(**changes: np.ndarray) -> Callable[[Path], None]:
    return lambda file: save_file({**load_file(file), **changes}, file)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"\0" * file.stat().st_size),
        flip(-1),
        flip(-150),  # within the keys or the vectors, whichever comes last
        rewrite(vectors=np.full((5, 3), np.nan, np.float32)),
        rewrite(vectors=np.zeros((5, 3), np.float32)),
        rewrite(vectors=np.zeros((5, 3), np.float64)),
        rewrite(keys=np.zeros((5, 32), np.uint8)),
        rewrite(other=np.zeros(1)),
        lambda file: save_file({"embeddings": np.zeros((5, 3), np.float32)}, file),
    ],
)
def test_a_damaged_shard_is_dropped_and_the_others_stay(
    damage: Callable[[Path], None], cache: VectorCache, caplog: pytest.LogCaptureFixture
) -> None:
    fill(cache, range(0, 5), range(5, 10))
    first, second = shards(cache)
    damage(first)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            vectors, is_found = cache.read(keys_of(range(10)))
            assert vectors is not None
            found = np.flatnonzero(is_found)
            np.testing.assert_array_equal(vectors[found], vectors_of(range(10))[found])
            if first.exists():  # a damaged key alone is a miss; nobody asks for what it became
                assert found.tolist() == [5, 6, 7, 8, 9]
    assert set(found) <= set(range(5, 10))
    assert second.exists()


def test_a_damaged_shard_is_named_and_deleted(
    cache: VectorCache, caplog: pytest.LogCaptureFixture
) -> None:
    fill(cache, range(0, 5))
    flip(-1)(shards(cache)[0])
    name = shards(cache)[0].name
    with caplog.at_level(logging.WARNING):
        cache.read(keys_of(range(5)))
    assert f"{name}: damaged" in caplog.text
    assert shards(cache) == []


def test_a_damaged_shard_does_not_spoil_a_merge(cache: VectorCache) -> None:
    fill(cache, range(0, 5), range(5, 10), range(10, 15))
    flip(-1)(shards(cache)[1])
    cache.compact()
    assert len(shards(cache)) == 1
    _, is_found = cache.read(keys_of(range(15)))
    assert np.flatnonzero(~is_found).tolist() == [5, 6, 7, 8, 9]


def test_shards_merged_while_they_are_read_are_found_in_the_new_one(
    cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, range(0, 5), range(5, 10))
    enter = vector_cache._Shard.__enter__
    calls = []

    def merge_first(shard: vector_cache._Shard) -> vector_cache._Shard:
        calls.append(shard)
        if len(calls) == 1:
            cache.compact()  # as another process would
        return enter(shard)

    monkeypatch.setattr(vector_cache._Shard, "__enter__", merge_first)
    vectors, is_found = cache.read(keys_of(range(10)))
    assert is_found.all()
    np.testing.assert_array_equal(vectors, vectors_of(range(10)))


def write_and_merge(folder: Path, first: int) -> None:
    cache = VectorCache(folder)
    for start in range(first, first + 60, 3):
        cache.write(keys_of(range(start, start + 6)), vectors_of(range(start, start + 6)))
        cache.compact()


def test_several_processes_lose_nothing(cache: VectorCache) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write_and_merge, args=(cache.folder, k)) for k in (0, 30, 60)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    vectors, is_found = cache.read(keys_of(range(120)))
    assert is_found.all()
    np.testing.assert_array_equal(vectors, vectors_of(range(120)))
    assert not list(cache.folder.glob("*.writing"))


def test_half_written_files_of_killed_processes_go_after_a_day(cache: VectorCache) -> None:
    fill(cache, range(3))
    old, new = cache.folder / "1.writing", cache.folder / "2.writing"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    cache.compact()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_cache_that_cannot_be_written_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a file").touch()
    cache = VectorCache(tmp_path / "a file")
    with caplog.at_level(logging.WARNING):
        assert not cache.write(keys_of([1]), vectors_of([1]))
    assert "not cached" in caplog.text


def test_reading_needs_little_more_memory_than_the_result(cache: VectorCache) -> None:
    num_rows, dim = 60_000, 64
    keys = keys_of(range(num_rows))
    cache.write(keys, np.ones((num_rows, dim), np.float32))
    shuffled = np.random.default_rng(0).permutation(keys)
    tracemalloc.start()
    vectors, _ = cache.read(shuffled)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert vectors is not None
    assert peak < 1.8 * vectors.nbytes  # keys and places are half as large as such short vectors
