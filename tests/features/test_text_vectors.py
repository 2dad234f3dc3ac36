from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hidvae.config import EmbeddingConfig
from hidvae.features import text_vectors as module
from hidvae.features.hashing_encoder import HashingEncoder
from hidvae.features.text_vectors import text_vectors
from hidvae.store.cache import cache_folder

TEXTS = ["b", "a", "b", "c"]


class CountingEncoder(HashingEncoder):
    def __init__(self) -> None:
        self.encoded: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded.append(sorted(texts))
        return super().encode(texts)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> CountingEncoder:
    counting = CountingEncoder()
    monkeypatch.setattr(module, "load_text_encoder", lambda name, backend: counting)
    return counting


def encode(texts: Sequence[str], *, name: str = "any", **settings: object) -> np.ndarray:
    return text_vectors(texts, EmbeddingConfig(text_encoder=name, **settings))  # type: ignore[arg-type]


def test_a_hit_gives_identical_vectors_without_the_encoder(encoder: CountingEncoder) -> None:
    first = encode(TEXTS)
    np.testing.assert_array_equal(first, HashingEncoder().encode(TEXTS))
    np.testing.assert_array_equal(encode(TEXTS), first)
    np.testing.assert_array_equal(encode(["c", "b", "a"]), first[[3, 0, 1]])
    assert encoder.encoded == [["a", "b", "c"]]  # each distinct text once


def test_other_texts_miss_the_cache_alone(encoder: CountingEncoder) -> None:
    encode(TEXTS)
    np.testing.assert_array_equal(
        encode([*TEXTS, "d", "ab"]), HashingEncoder().encode([*TEXTS, "d", "ab"])
    )
    assert encoder.encoded[1:] == [["ab", "d"]]


def test_another_model_or_backend_has_a_file_of_its_own(encoder: CountingEncoder) -> None:
    encode(TEXTS)
    encode(TEXTS, name="other")
    encode(TEXTS, text_backend="onnx-int8")
    assert len(encoder.encoded) == 3
    files = sorted(path.name for path in (cache_folder() / "vectors").iterdir())
    assert [name.rsplit("-", 1)[0] for name in files] == [
        "any-onnx-int8",
        "any-torch",
        "other-torch",
    ]


def test_hashing_is_the_same_on_every_backend(encoder: CountingEncoder) -> None:
    encode(TEXTS, name="hashing")
    encode(TEXTS, name="hashing", text_backend="onnx-int8")
    assert len(encoder.encoded) == 1


def test_a_model_folder_is_known_by_its_files(encoder: CountingEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for content in (b"first", b"second", b"second"):
        (folder / "model.safetensors").write_bytes(content)
        encode(TEXTS, name=str(folder))
    assert len(encoder.encoded) == 2


def test_with_an_encoder_of_ones_own_nothing_is_read_or_written(encoder: CountingEncoder) -> None:
    text_vectors(TEXTS, EmbeddingConfig(), encoder)
    text_vectors(TEXTS, EmbeddingConfig(), encoder)
    assert len(encoder.encoded) == 2
    assert not cache_folder().exists()


def test_an_empty_text_is_zeros_and_is_not_encoded(encoder: CountingEncoder) -> None:
    vectors = encode(["", "a", "", "b"])
    np.testing.assert_array_equal(vectors[[1, 3]], HashingEncoder().encode(["a", "b"]))
    assert not vectors[[0, 2]].any()
    assert encoder.encoded == [["a", "b"]]


def test_an_encoder_that_is_there_is_used_and_nothing_is_cached(encoder: CountingEncoder) -> None:
    given = CountingEncoder()
    config = EmbeddingConfig(text_encoder="any")
    np.testing.assert_array_equal(
        text_vectors(TEXTS, config, given), HashingEncoder().encode(TEXTS)
    )
    assert (given.encoded, encoder.encoded) == ([["a", "b", "c"]], [])
    assert not cache_folder().exists()


def test_no_texts_are_no_rows(encoder: CountingEncoder) -> None:
    assert encode([]).shape == (0, 256)


def test_the_cache_is_in_the_home_folder_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIDVAE_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "hidvae"
