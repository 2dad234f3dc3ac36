from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from tests.features.tiny_models import save_tiny_bert

from hidvae.errors import ConfigError, MissingExtraError
from hidvae.features import onnx_backend
from hidvae.features.text_encoder import load_text_encoder
from hidvae.store.cache import cache_folder

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in onnx_backend._PACKAGES),
    reason='needs pip install "hidvae[onnx]"',
)
TEXTS = ["red lipstick", "a", "car engine oil for old cars", "x" * 200]


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_bert(tmp_path_factory.mktemp("bert") / "tiny", pooling="cls"))


@pytest.mark.slow
@needs_onnx
def test_quantized_vectors_are_close_and_the_model_is_exported_once(
    tiny_bert: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    exact = load_text_encoder(tiny_bert).encode(TEXTS)
    vectors = load_text_encoder(tiny_bert, "onnx-int8").encode(TEXTS)
    assert vectors.dtype == np.float32
    assert (vectors != exact).any()
    assert ((vectors * exact).sum(1) > 0.99).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    (file,) = (path for path in (cache_folder() / "models").rglob("*") if path.is_file())
    assert file.name == "model.onnx"
    capfd.readouterr()
    monkeypatch.setattr(onnx_backend.QuantizedModel, "_export", None)  # would fail if called
    again = load_text_encoder(tiny_bert, "onnx-int8")
    np.testing.assert_array_equal(again.encode(TEXTS), vectors)
    file.write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="cannot be loaded.*delete it") as caught:
        load_text_encoder(tiny_bert, "onnx-int8")
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnx" else find_spec(name)
    )
    with pytest.raises(MissingExtraError, match=r"needs onnx, which.*hidvae\[onnx\]"):
        load_text_encoder(tiny_bert, "onnx-int8")


@needs_onnx
def test_a_model_without_token_vectors_is_refused(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import BoW

    SentenceTransformer(modules=[BoW(["red", "oil"])], device="cpu").save(str(tmp_path / "bow"))
    with pytest.raises(ConfigError, match="found BoW in .*text_backend=torch"):
        load_text_encoder(str(tmp_path / "bow"), "onnx-int8")
