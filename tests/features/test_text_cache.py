from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hidvae.features import text_cache
from hidvae.cache import cache_folder
from hidvae.features.text_cache import encode_texts
from hidvae.features.text_encoder import HashingEncoder

TEXTS = ["b", "a", "b", "c"]


class CountingEncoder(HashingEncoder):
    def __init__(self) -> None:
        self.encoded: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded.append(list(texts))
        return super().encode(texts)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> CountingEncoder:
    counting = CountingEncoder()
    monkeypatch.setattr(text_cache, "load_text_encoder", lambda name, batch_size: counting)
    return counting


def encode(texts: Sequence[str], *, name: str = "any", use_cache: bool = True) -> np.ndarray:
    return encode_texts(texts, text_encoder=name, batch_size=8, use_cache=use_cache)


def cached_files() -> list[Path]:
    return sorted((cache_folder() / "embeddings").iterdir())


def test_a_hit_gives_identical_vectors_without_the_encoder(encoder: CountingEncoder) -> None:
    first = encode(TEXTS)
    second = encode(TEXTS)
    np.testing.assert_array_equal(first, HashingEncoder().encode(TEXTS))
    np.testing.assert_array_equal(second, first)
    assert encoder.encoded == [["a", "b", "c"]]  # each distinct text once
    assert [file.suffix for file in cached_files()] == [".safetensors"]  # nothing half-written


def test_order_and_repeats_do_not_miss_the_cache(encoder: CountingEncoder) -> None:
    encode(TEXTS)
    np.testing.assert_array_equal(encode(["c", "b", "a"]), HashingEncoder().encode(["c", "b", "a"]))
    assert len(encoder.encoded) == 1


def test_other_texts_or_another_model_miss_the_cache(encoder: CountingEncoder) -> None:
    encode(TEXTS)
    encode([*TEXTS, "d"])
    encode(TEXTS, name="other")
    encode(["ab", "c"])
    encode(["a", "bc"])
    assert len(encoder.encoded) == 5


def test_a_model_folder_is_known_by_its_weights(encoder: CountingEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for value in (0.0, 1.0, 1.0):
        save_file({"weight": np.full(1, value)}, folder / "model.safetensors")
        encode(TEXTS, name=str(folder))
    assert len(encoder.encoded) == 2


def test_without_the_cache_nothing_is_read_or_written(encoder: CountingEncoder) -> None:
    encode(TEXTS, use_cache=False)
    encode(TEXTS, use_cache=False)
    assert len(encoder.encoded) == 2
    assert not cache_folder().exists()


@pytest.mark.parametrize("damage", ["truncated", "other rows", "nan", "other tensor"])
def test_a_damaged_file_is_rebuilt_with_a_warning(
    damage: str, encoder: CountingEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    right = encode(TEXTS)
    file = cached_files()[0]
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:100])
    elif damage == "other rows":
        save_file({"embeddings": np.zeros((2, 256), np.float32)}, file)
    elif damage == "nan":
        save_file({"embeddings": np.full((3, 256), np.nan, np.float32)}, file)
    else:
        save_file({"vectors": np.zeros((3, 256), np.float32)}, file)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(encode(TEXTS), right)
    assert "damaged" in caplog.text
    np.testing.assert_array_equal(encode(TEXTS), right)
    assert len(encoder.encoded) == 2


def test_a_cache_that_cannot_be_written_costs_only_a_warning(
    encoder: CountingEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("HIDVAE_CACHE", str(tmp_path / "a file"))
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(encode(TEXTS), HashingEncoder().encode(TEXTS))
    assert "not cached" in caplog.text


def test_the_cache_is_in_the_home_folder_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIDVAE_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "hidvae"
