from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.features.tags.llm_samples import Shop, make_shop
from tests.features.tags.llm_server import Reply, choose_by_hash, serve

from hidvae.config import LLMConfig
from hidvae.errors import HidvaeError, ShapeError
from hidvae.features.tags import from_llm, llm_client
from hidvae.features.tags.from_llm import fill_with_llm, preview_prompts
from hidvae.features.tags.llm_client import Answer, Prompt, open_chat
from hidvae.features.tags.llm_report import LLMReport

CONFIG = LLMConfig(base_url="http://127.0.0.1:1/v1", model="m")


class Scripted:
    """A model that answers by a function of the prompt."""

    def __init__(self, answer: Callable[[Prompt], str]):
        self.answer = answer
        self.prompts: list[Prompt] = []

    def complete(self, prompts: Sequence[Prompt]) -> list[Answer]:
        self.prompts += prompts
        return [Answer(self.answer(prompt), 10, 1, was_cached=False) for prompt in prompts]


def first_choice(prompt: Prompt) -> str:
    properties = prompt.schema["properties"]
    return json.dumps({key: of["enum"][0] for key, of in properties.items()})


def fill(
    shop: Shop, answer: Callable[[Prompt], str] = first_choice, ids: Any = None, **settings: Any
) -> tuple[np.ndarray, LLMReport, list[Prompt]]:
    chat = Scripted(answer)
    config = LLMConfig(base_url=CONFIG.base_url, model="m", **settings)
    given = shop.ids if ids is None else ids
    filled, report = fill_with_llm(given, shop.candidates, config, chat)
    return filled, report, chat.prompts


def said(prompt: Prompt) -> str:
    return prompt.messages[-1]["content"]


@pytest.mark.parametrize("items_per_request", [1, 3, 100])
def test_a_model_that_knows_fills_everything(items_per_request: int) -> None:
    shop = make_shop(10)
    filled, report, prompts = fill(shop, items_per_request=items_per_request)
    assert (filled == shop.truth).all() and filled.dtype == np.int64
    assert (shop.ids == -1).all()
    assert (report.questions, report.chosen, report.none, report.refused) == (30, 30, 0, 0)
    assert report.requests == len(prompts) == 3 * -(-10 // items_per_request)


def test_a_prompt_holds_text_parent_and_candidates_only_of_that_parent() -> None:
    shop = make_shop(1)
    _, _, prompts = fill(shop)
    names, paths = shop.vocabulary.names, shop.vocabulary.paths
    top, middle, _ = shop.truth[0]
    assert "Within" not in said(prompts[0]) and shop.texts[0] in said(prompts[0])
    assert f"Within: {paths[0][top]}\n" in said(prompts[1])
    assert f"Within: {paths[1][middle]}\n" in said(prompts[2])
    assert sorted(prompts[0].schema["properties"]["tag"]["enum"]) == ["Hair", "Skin", "none"]
    leaves = [names[2][t] for t in np.flatnonzero(shop.vocabulary.parents[2] == middle)]
    assert sorted(prompts[2].schema["properties"]["tag"]["enum"]) == sorted([*leaves, "none"])


def test_known_tags_stay_and_are_not_asked_for() -> None:
    shop = make_shop(12)
    ids = shop.truth.copy()
    ids[:4, 2] = -1
    ids[4] = [1 - shop.truth[4, 0], -1, -1]  # a known tag is kept even if the model would differ
    filled, report, prompts = fill(shop, ids=ids)
    assert (filled[5:] == shop.truth[5:]).all() and (filled[:4] == shop.truth[:4]).all()
    assert filled[4, 0] == ids[4, 0]
    assert not any(text in said(p) for p in prompts for text in shop.texts[5:])


def test_none_leaves_the_tag_and_all_below_unknown() -> None:
    shop = make_shop(6)

    def no_middle(prompt: Prompt) -> str:
        is_middle = "Within" in said(prompt) and " > " not in said(prompt).split("Item")[0]
        return '{"tag": "none"}' if is_middle else first_choice(prompt)

    filled, report, prompts = fill(shop, no_middle)
    assert (filled[:, 0] == shop.truth[:, 0]).all() and (filled[:, 1:] == -1).all()
    assert (report.questions, report.chosen, report.none, report.refused) == (12, 6, 6, 0)
    assert len(prompts) == 12


@pytest.mark.parametrize("answer", ['{"tag": "Unicorns"}', "not json", '{"tag": "Other"}', ""])
def test_other_answers_are_refused_and_counted(answer: str) -> None:
    shop = make_shop(5)
    filled, report, prompts = fill(shop, lambda prompt: answer)
    assert (filled == -1).all()
    assert (report.refused, report.questions, len(prompts)) == (5, 5, 5)


def test_one_bad_answer_spoils_only_its_own_item() -> None:
    shop = make_shop(4)

    def second_is_odd(prompt: Prompt) -> str:
        answers = json.loads(first_choice(prompt))
        return json.dumps({**answers, "item_2": "Unicorns"})

    filled, report, _ = fill(shop, second_is_odd, items_per_request=4)
    assert (filled[1] == -1).all() and report.refused >= 1
    assert (filled[[0, 2, 3], 0] == shop.truth[[0, 2, 3], 0]).all()


def test_long_texts_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_llm, "MAX_TEXT_CHARS", 20)
    shop = make_shop(1)
    shop.texts[0] = "word " * 1000
    _, _, prompts = fill(shop)
    assert said(prompts[0]).endswith("Item: word word word word")


def test_arrays_that_disagree_are_refused() -> None:
    shop = make_shop(3)
    with pytest.raises(ShapeError):
        fill(shop, ids=shop.ids[:2])


def test_a_preview_is_what_would_be_asked() -> None:
    shop = make_shop(10)
    ids = shop.truth.copy()
    ids[2:6] = -1
    ids[8, 2] = -1
    preview = preview_prompts(ids, shop.candidates, CONFIG, num_items=3)
    _, report, prompts = fill(shop, ids=ids)
    assert preview.prompts == prompts[:3]
    assert report.requests == preview.num_requests == 4 * 3 + 1
    mean_bytes = np.mean([sum(len(m["content"]) for m in p.messages) for p in preview.prompts])
    assert preview.prompt_tokens == pytest.approx(13 * mean_bytes / 4, rel=0.01)
    assert all(text in str(preview) for text in [*shop.texts[2:5], "at most 13 requests"])
    assert shop.texts[5] not in str(preview)


def test_a_preview_where_nothing_is_missing() -> None:
    shop = make_shop(3)
    preview = preview_prompts(shop.truth, shop.candidates, CONFIG, 5)
    assert preview.prompts == [] and preview.num_requests == preview.prompt_tokens == 0


def fill_over_http(shop: Shop, url: str) -> tuple[np.ndarray, LLMReport]:
    config = LLMConfig(base_url=url, model="m", concurrency=2)
    with open_chat(config) as chat:
        return fill_with_llm(shop.ids, shop.candidates, config, chat)


def test_a_run_whose_server_died_goes_on_and_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_client, "MAX_RETRIES", 0)
    shop = make_shop(12)
    dying = True

    def dies_on_the_second_level(request: dict[str, Any], number: int) -> Reply:
        return Reply(hang_up=True) if dying and number >= 17 else choose_by_hash(request)

    with serve(dies_on_the_second_level) as server:
        with pytest.raises(HidvaeError, match="the same command continues"):
            fill_over_http(shop, server.url)
        dying, asked = False, len(server.requests)
        resumed, report = fill_over_http(shop, server.url)
        assert report.cached == 17
        assert len(server.requests) - asked == report.requests - 17
        monkeypatch.setenv("HIDVAE_CACHE", str(tmp_path / "another cache"))
        whole, whole_report = fill_over_http(shop, server.url)
    assert (resumed == whole).all()
    assert whole_report.cached == 0 and whole_report.requests == report.requests
    assert whole_report.chosen == report.chosen and 0 < report.chosen < report.questions


_KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.features.tags.llm_samples import make_shop
from tests.features.tags.test_from_llm import fill_over_http
fill_over_http(make_shop(30), sys.argv[1])
"""


def test_a_killed_run_goes_on_and_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(Path(__file__).parents[3])
    with serve(lambda request, number: choose_by_hash(request), seconds=0.03) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", _KILLED, server.url, root], env=dict(os.environ)
        )
        waiting_until = time.monotonic() + 60
        while len(server.requests) < 15 and process.poll() is None:
            assert time.monotonic() < waiting_until
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        resumed, report = fill_over_http(make_shop(30), server.url)
        assert 10 <= report.cached < report.requests  # at most two were on their way, each way
        monkeypatch.setenv("HIDVAE_CACHE", str(tmp_path / "another cache"))
        whole, _ = fill_over_http(make_shop(30), server.url)
    assert (resumed == whole).all() and (whole >= 0).any()
