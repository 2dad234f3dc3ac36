from __future__ import annotations

import importlib.util
import json
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.features.tags.llm_server import PROMPT_TOKENS, Reply, choose_first, serve

from hidvae.config import LLMConfig
from hidvae.errors import ConfigError, HidvaeError, MissingExtraError
from hidvae.features.tags import llm_client
from hidvae.features.tags.llm_client import Answer, Prompt, open_chat
from hidvae.features.tags.llm_prompts import object_schema

KEY = "sk-a-very-secret-key"


@pytest.fixture(autouse=True)
def key_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def prompt(text: str) -> Prompt:
    schema = object_schema({"tag": {"type": "string", "enum": [f"tag of {text}", "none"]}})
    return Prompt([{"role": "user", "content": text}], schema)


def config_of(url: str, **settings: Any) -> LLMConfig:
    return LLMConfig(**{"base_url": url, "model": "m", **settings})


def ask(config: LLMConfig, *texts: str) -> list[Answer]:
    with open_chat(config) as chat:
        return chat.complete([prompt(text) for text in texts])


def test_answers_come_in_the_order_of_the_prompts() -> None:
    def later_first(request: dict[str, Any], number: int) -> Reply:
        time.sleep(0.1 if request["messages"][0]["content"] == "a" else 0)
        return choose_first(request)

    with serve(later_first) as server:
        answers = ask(config_of(server.url), "a", "b", "c")
    assert [json.loads(answer.text)["tag"][-1] for answer in answers] == ["a", "b", "c"]
    assert all(answer.prompt_tokens == PROMPT_TOKENS for answer in answers)
    assert not any(answer.was_cached or answer.failed_tries for answer in answers)


def test_a_request_asks_for_the_schema_and_the_most_probable_answer() -> None:
    with serve() as server:
        ask(config_of(server.url), "a")
    request = server.requests[0]
    form = request["response_format"]
    assert form["type"] == "json_schema" and form["json_schema"]["strict"] is True
    assert form["json_schema"]["schema"] == prompt("a").schema
    assert request["temperature"] == 0 and request["seed"] == 0 and request["model"] == "m"


def test_an_answer_is_asked_for_once_on_a_machine() -> None:
    with serve() as server:
        config = config_of(server.url)
        first = ask(config, "a", "b", "a")
        again = ask(config, "b", "a")
        assert len(server.requests) == 2
        ask(config_of(server.url, model="other"), "a")
        assert len(server.requests) == 3
    assert [answer.was_cached for answer in first] == [False, False, True]
    assert [answer.was_cached for answer in again] == [True, True]
    assert [answer.text for answer in again] == [first[1].text, first[0].text]
    assert ask(config, "a")[0].text == first[0].text  # without the server


def test_no_more_requests_at_once_than_allowed() -> None:
    texts = [str(number) for number in range(12)]
    with serve(seconds=0.05) as server:
        ask(config_of(server.url, concurrency=3), *texts)
        assert server.most_at_once == 3


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    def busy_at_first(request: dict[str, Any], number: int) -> Reply:
        if number == 0:
            return Reply(status=429, headers={"Retry-After": "0.3"})
        return (
            Reply(status=500, headers={"Retry-After": "0.01"})
            if number == 1
            else choose_first(request)
        )

    with serve(busy_at_first) as server:
        started = time.perf_counter()
        (answer,) = ask(config_of(server.url), "a")
    assert answer.failed_tries == 2 and not answer.was_cached
    assert time.perf_counter() - started >= 0.3


def test_a_server_that_stays_broken_stops_the_run_in_one_line() -> None:
    quick = {"Retry-After": "0.01"}
    with (
        serve(lambda request, number: Reply(status=503, headers=quick)) as server,
        pytest.raises(
            HidvaeError, match="found none in 6 tries.*503.*the same command continues"
        ) as e,
    ):
        ask(config_of(server.url), "a")
    assert len(server.requests) == 6
    assert "\n" not in str(e.value)


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm_client, "MAX_RETRIES", 0)
    with serve() as server:
        url = server.url
    with pytest.raises(HidvaeError, match=f"{url}: expected an answer.*Connection"):
        ask(config_of(url), "a")


def test_a_slow_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm_client, "MAX_RETRIES", 0)
    monkeypatch.setattr(llm_client, "TIMEOUT_SECONDS", 0.1)
    with serve(seconds=0.6) as server, pytest.raises(HidvaeError, match="timed out"):
        ask(config_of(server.url), "a")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_at_once_and_is_not_shown(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    error = {"message": f"Incorrect API key: {KEY}"}
    with (
        serve(lambda request, number: Reply(status=status, error=error)) as server,
        pytest.raises(ConfigError, match=rf"\$OPENAI_API_KEY.*refused the one set.*{status}") as e,
    ):
        ask(config_of(server.url, concurrency=1), *"abcdefgh")
    assert len(server.requests) <= 2  # one more may have been on its way
    assert KEY not in str(e.value) and e.value.__cause__ is None and e.value.__suppress_context__
    assert KEY not in caplog.text


def test_the_key_goes_to_the_server_and_nowhere_else(
    cache_of_its_own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with serve() as server:
        config = config_of(server.url)
        ask(config, "a")
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in caplog.text and KEY not in repr(config)
    files = [file for file in cache_of_its_own.rglob("*") if file.is_file()]
    assert files and not any(KEY.encode() in file.read_bytes() for file in files)


def test_a_server_of_ones_own_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with serve() as server:
        assert ask(config_of(server.url), "a")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert ask(config_of(""), "b")
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(ConfigError, match=r"\$OPENAI_API_KEY: expected a key for https://api"):
        ask(config_of(""), "a")


def test_an_unknown_model_stops_at_once() -> None:
    with (
        serve(lambda *_: Reply(status=404, error={"message": "no model m"})) as server,
        pytest.raises(ConfigError, match="LLMConfig.model: expected.*found 'm'.*no model m"),
    ):
        ask(config_of(server.url), "a")
    assert len(server.requests) == 1


def test_a_refused_request_stops_at_once() -> None:
    with (
        serve(lambda *_: Reply(status=400, error={"message": "too long"})) as server,
        pytest.raises(HidvaeError, match="refused the request.*too long"),
    ):
        ask(config_of(server.url), "a")
    assert len(server.requests) == 1


def test_parameters_that_a_model_does_not_take_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def particular(request: dict[str, Any], number: int) -> Reply:
        for name in ("temperature", "max_tokens"):
            if name in request:
                return Reply(status=400, error={"message": "unsupported", "param": name})
        return choose_first(request)

    with serve(particular) as server:
        answers = ask(config_of(server.url), *"abcdef")
        assert len(answers) == 6
        assert "seed" in server.requests[-1]
        asked = len(server.requests)
        assert all(answer.was_cached for answer in ask(config_of(server.url), *"abcdef"))
        assert len(server.requests) == asked
    assert caplog.text.count("does not accept temperature") == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(raw_body="<html>hello</html>", content_type="text/html"),
        Reply(raw_body="{broken", content_type="application/json"),
        Reply(raw_body='{"choices": []}'),
        Reply(raw_body="[1]"),
    ],
)
def test_something_else_than_a_chat_completion(reply: Reply) -> None:
    with serve(lambda *_: reply) as server, pytest.raises(HidvaeError) as e:
        ask(config_of(server.url), "a")
    assert "expected a" in str(e.value) and "\n" not in str(e.value)


def test_an_answer_without_text_or_usage_is_empty() -> None:
    body = {"id": "1", "choices": [{"index": 0, "message": {"role": "assistant"}}]}
    with serve(lambda *_: Reply(raw_body=json.dumps(body))) as server:
        (answer,) = ask(config_of(server.url), "a")
    assert answer == Answer("", 0, 0, was_cached=False)


def test_a_server_that_dies_in_the_middle_loses_nothing() -> None:
    texts = [str(number) for number in range(10)]
    alive = threading.Event()

    def dies(request: dict[str, Any], number: int) -> Reply:
        return choose_first(request) if number < 6 or alive.is_set() else Reply(hang_up=True)

    with serve(dies) as server:
        config = config_of(server.url, concurrency=2)
        with pytest.raises(HidvaeError, match="the same command continues"):
            ask(config, *texts)
        alive.set()
        asked = len(server.requests)
        answers = ask(config, *texts)
        assert sum(answer.was_cached for answer in answers) == 6
        assert len(server.requests) - asked == 4
    assert [json.loads(answer.text)["tag"] for answer in answers] == [f"tag of {t}" for t in texts]


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://host/v1", "http://", "https://me:secret@host/v1"]
)
def test_an_address_that_cannot_be_right(url: str) -> None:
    with pytest.raises(ConfigError, match="LLMConfig.base_url: expected an address") as e:
        ask(config_of(url), "a")
    assert "secret" not in str(e.value)


def test_the_offline_server_has_one_model() -> None:
    with pytest.raises(ConfigError, match="LLMConfig.model: expected 'gemma-3-270m'.*'gpt'"):
        ask(LLMConfig(model="gpt"), "a")


def test_a_missing_client_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "hidvae\[llm\]"'):
        ask(config_of("http://localhost/v1"), "a")
