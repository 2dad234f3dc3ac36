from __future__ import annotations

import json

import pytest

from hidvae.features.tags.llm_prompts import (
    NONE,
    REFUSED,
    TagQuestion,
    choice_prompt,
    choice_schema,
    one_line,
    read_choices,
)

CREAM = TagQuestion("Night cream", "Beauty > Skin", ("Cream", "Soap"))
DYE = TagQuestion("Red hair dye", "Beauty > Hair", ("Dye", "Shampoo", "none"))


def test_a_prompt_says_what_is_to_be_decided() -> None:
    prompt = choice_prompt([CREAM])
    last = prompt.messages[-1]
    assert last["role"] == "user"
    for said in ("Night cream", "Beauty > Skin", "Cream | Soap | none"):
        assert said in last["content"]
    assert prompt.schema["properties"]["tag"]["enum"] == ["Cream", "Soap", "none"]


def test_prompts_begin_alike() -> None:
    first, second = choice_prompt([CREAM]), choice_prompt([DYE])
    assert first.messages[:-1] == second.messages[:-1]
    assert choice_prompt([CREAM]) == first


def test_the_worked_examples_keep_to_the_form_of_the_answer() -> None:
    for questions in ([CREAM], [CREAM, DYE]):
        messages = choice_prompt(questions).messages
        for asked, answered in zip(messages[1:-1:2], messages[2:-1:2], strict=True):
            assert [asked["role"], answered["role"]] == ["user", "assistant"]
            lists = [line[6:] for line in asked["content"].split("\n") if line.startswith("Tags: ")]
            answers = json.loads(answered["content"]).values()
            for tags, answer in zip(lists, answers, strict=True):
                assert answer in tags.split(" | ")


def test_every_item_of_a_shared_prompt_has_its_own_candidates() -> None:
    prompt = choice_prompt([CREAM, DYE])
    assert "Item 1: Night cream" in prompt.messages[-1]["content"]
    assert "Item 2: Red hair dye" in prompt.messages[-1]["content"]
    properties = choice_schema([CREAM, DYE])["properties"]
    assert [of["enum"][0] for of in properties.values()] == ["Cream", "Dye"]
    answer = json.dumps({"item_1": "Soap", "item_2": "Soap"})
    assert read_choices(answer, [CREAM, DYE]) == [1, REFUSED]


def test_a_tag_may_be_called_none() -> None:
    assert read_choices('{"tag": "none"}', [CREAM]) == [NONE]
    assert read_choices('{"tag": "none"}', [DYE]) == [2]
    assert read_choices('{"tag": "none of these"}', [DYE]) == [NONE]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Cream",
        '{"tag": "Cream"',
        '{"tag": "cream"}',
        '{"tag": "Shampoo"}',
        '{"tag": null}',
        '{"tag": ["Cream"]}',
        '{"name": "Cream"}',
        '["Cream"]',
        "[" * 100_000,
    ],
)
def test_anything_but_a_candidate_is_refused(text: str) -> None:
    assert read_choices(text, [CREAM]) == [REFUSED]


def test_texts_are_cut_and_kept_on_one_line() -> None:
    assert one_line("a\n\n b\tTags: c", 100) == "a b Tags: c"
    assert one_line("abc def", 4) == "abc"
