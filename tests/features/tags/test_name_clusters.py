from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from hidvae.config import LLMConfig
from hidvae.features.tags.llm_client import Answer, Prompt
from hidvae.features.tags.llm_report import LLMReport
from hidvae.features.tags.name_clusters import name_clusters
from hidvae.features.tags.vocabulary import TagVocabulary

CONFIG = LLMConfig()
VOCABULARY = TagVocabulary(
    names=[["hair, oil", "skin, cream"], ["shampoo", "dye", "soap"]],
    paths=[
        ["hair, oil", "skin, cream"],
        ["hair, oil > shampoo", "hair, oil > dye", "skin, cream > soap"],
    ],
    parents=[np.array([-1, -1]), np.array([0, 0, 1])],
    counts=[np.array([4, 3]), np.array([2, 2, 2])],
)
IDS = np.array([[0, 0], [0, 0], [0, 1], [0, 1], [1, 2], [1, 2], [1, -1]])
TEXTS = [f"text of item {item}" for item in range(7)]


class Scripted:
    def __init__(self, name: Callable[[str], object]):
        self.name = name
        self.said: list[str] = []

    def complete(self, prompts: Sequence[Prompt]) -> list[Answer]:
        said = [prompt.messages[-1]["content"] for prompt in prompts]
        self.said += said
        return [Answer(json.dumps({"name": self.name(text)}), 10, 1, False) for text in said]


def name(answer: Callable[[str], object]) -> tuple[TagVocabulary, LLMReport, list[str]]:
    chat = Scripted(answer)
    named, report = name_clusters(VOCABULARY, IDS, TEXTS, CONFIG, chat)
    return named, report, chat.said


def words_of(said: str) -> str:
    return next(line[16:] for line in said.split("\n") if line.startswith("Frequent words: "))


def test_clusters_are_named_coarse_to_fine() -> None:
    named, report, said = name(lambda text: words_of(text).split(",")[0].title())
    assert named.names == [["Hair", "Skin"], ["Shampoo", "Dye", "Soap"]]
    assert named.paths[1] == ["Hair > Shampoo", "Hair > Dye", "Skin > Soap"]
    assert all((a == b).all() for a, b in zip(named.parents, VOCABULARY.parents, strict=True))
    assert all((a == b).all() for a, b in zip(named.counts, VOCABULARY.counts, strict=True))
    assert (report.questions, report.chosen, report.refused, report.requests) == (5, 5, 0, 5)
    assert "Within: Hair" in said[2] and "Within" not in said[0]


def test_a_prompt_holds_samples_of_its_own_cluster() -> None:
    _, _, said = name(lambda text: words_of(text).split(",")[0])
    members = [[0, 1, 2, 3], [4, 5, 6], [0, 1], [2, 3], [4, 5]]
    for text, items in zip(said, members, strict=True):
        assert [n for n in range(7) if f"text of item {n}" in text] == items


def test_samples_of_a_large_cluster_are_few_and_spread() -> None:
    vocabulary = TagVocabulary([["w"]], [["w"]], [np.array([-1])], [np.array([100])])
    chat = Scripted(lambda text: "Name")
    texts = [f"text {item:03}" for item in range(100)]
    name_clusters(vocabulary, np.zeros((100, 1), np.int64), texts, CONFIG, chat)
    shown = [item for item in range(100) if texts[item] in chat.said[0]]
    assert len(shown) == 8 and shown[0] == 0 and shown[-1] == 99


def test_siblings_of_one_name_are_asked_again_with_the_names_taken() -> None:
    def same_at_first(text: str) -> str:
        if "do not repeat" in text:
            return "Colour"
        return "Care" if words_of(text) in ("shampoo", "dye") else words_of(text).split(",")[0]

    named, report, said = name(same_at_first)
    assert named.names[1] == ["Care", "Colour", "soap"]
    assert "do not repeat: Care" in said[-1] and words_of(said[-1]) == "dye"
    assert report.requests == 6 and report.questions == 5


def test_stubborn_siblings_are_told_apart_by_their_words() -> None:
    named, _, _ = name(lambda text: "Care" if "Within" in text else words_of(text).split(",")[0])
    assert named.names[1] == ["Care", "Care (dye)", "Care"]  # the last has another parent
    assert named.paths[1][1] == "hair > Care (dye)"


def test_capitals_alone_do_not_tell_siblings_apart() -> None:
    named, _, _ = name(lambda text: "CARE" if words_of(text) in ("dye", "skin, cream") else "Care")
    for level, parents in enumerate(VOCABULARY.parents):
        of_parents = list(zip(parents, map(str.lower, named.names[level]), strict=True))
        assert len(set(of_parents)) == len(of_parents)


@pytest.mark.parametrize(
    "answer", ["", "  ", None, 7, "a b c d e", "x" * 41, "Hair > Oil", "!?", "Other"]
)
def test_unusable_names_are_refused_and_the_words_stay(answer: object) -> None:
    named, report, _ = name(lambda text: answer)
    assert named.names == VOCABULARY.names and named.paths == VOCABULARY.paths
    assert (report.chosen, report.refused) == (0, 5)


def test_broken_json_is_refused() -> None:
    class Broken:
        def complete(self, prompts: Sequence[Prompt]) -> list[Answer]:
            return [Answer('{"name": "Ha', 1, 1, False) for _ in prompts]

    named, report = name_clusters(VOCABULARY, IDS, TEXTS, CONFIG, Broken())
    assert named.names == VOCABULARY.names and report.refused == 5


def test_names_lose_needless_spaces() -> None:
    named, _, _ = name(lambda text: f"  {words_of(text).split(',')[0]} \n care ")
    assert named.names[0] == ["hair care", "skin care"]
