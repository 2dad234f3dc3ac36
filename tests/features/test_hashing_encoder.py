from __future__ import annotations

import numpy as np
import pytest

from hidvae.features.hashing_encoder import HashingEncoder
from hidvae.features.text_encoder import TextEncoder, load_text_encoder

TEXTS = ["red lipstick", "matte red lipstick", "car engine oil", "Ölwechsel für das Auto", "口红"]


def test_hashing_gives_unit_rows_that_follow_the_order_of_the_texts() -> None:
    encoder = load_text_encoder("hashing")
    assert isinstance(encoder, TextEncoder)
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (5, encoder.dim) == (5, 256)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(encoder.encode(TEXTS[::-1]), vectors[::-1])


def test_hashing_does_not_depend_on_what_else_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    together = HashingEncoder().encode(TEXTS)
    alone = np.concatenate([HashingEncoder().encode([text]) for text in TEXTS])
    monkeypatch.setattr(HashingEncoder, "_TEXTS_PER_BATCH", 2)
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


def test_batches_hold_each_text_once_and_stay_when_others_are_taken_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(HashingEncoder, "_TEXTS_PER_BATCH", 2)
    assert HashingEncoder().batches(TEXTS) == [[0, 1], [2, 3], [4]]
    assert HashingEncoder().batches(TEXTS[2:]) == [[0, 1], [2]]
    assert HashingEncoder().batches([]) == []
