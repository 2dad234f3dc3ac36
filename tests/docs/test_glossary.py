"""The glossary is true: its names are in the code, and names that were given up are gone."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ENTRY = re.compile(r"^- \*\*(.+?)\*\*(?: \((.+?)\))?: (.+?)(?=^- |^#|\Z)", re.M | re.S)
ENTRIES = [(term, names or "", sentence.strip()) for term, names, sentence in ENTRY.findall(PAGE)]

RETIRED = {
    r"prior": "graph score",
    r"bonus": "graph score",
    r"[Ff]usion(?:Config)?": "item graph, GraphConfig",
    r"[Oo]rders(?:Message)?": "filters",
    r"is_offered|may_enter": "allowed, denied",
    r"known_items|unknown_factor": "warm, cold",
    r"collaborative(?:_\w+)?": "co-occurrence",
    r"transitions": "co-occurrence",
    r"word_vectors": "TF-IDF vectors",
    r"[Tt]ag_?[Tt]okens": "nothing: tag tokens are gone",
}
"""A name that was given up, as a whole word or part of an identifier, and what took its place."""
STILL_THERE: dict[str, str] = {}
"""A retired name that still occurs, and why. It must occur: an entry in vain fails."""
NOT_YET: set[str] = set()
"""Names of the glossary that the code is about to get. One that is there fails too."""
MAY_NAME_THEM = {
    "docs/glossary.md": "",
    "docs/journal.md": "tells the past",
    "docs/results.md": "shows measurements under the names they were made with",
    "docs/extending.md": "has a shop that exports its orders",
    "docs/data-format.md": "has tables of orders",
    "docs/your-data.md": "the same",
    "docs/decisions/0007-fusion.md": "its own name is older",
    "docs/decisions/0010-rooms.md": "tells the past",
}


def identifiers(text: str) -> Iterator[str]:
    """Names in a Python source, without comments and strings."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            yield token.string


def words_of(name: str) -> set[str]:
    """An identifier and its runs of parts: graph_prior has prior; GraphPrior has Prior."""
    parts = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)
    return {name, *parts, *(part.lower() for part in parts)}


def code_names() -> dict[str, set[str]]:
    """Every identifier of src/, and the files it is in."""
    found: dict[str, set[str]] = {}
    for file in sorted((ROOT / "src").rglob("*.py")):
        for name in set(identifiers(file.read_text(encoding="utf-8"))):
            found.setdefault(name, set()).add(file.relative_to(ROOT).as_posix())
    return found


CODE = code_names()


def places_of(pattern: str) -> list[str]:
    """Where a retired name is: identifiers of src/, file names, words of the pages."""
    whole = re.compile(pattern)
    in_code = [
        f"{sorted(files)[0]}: {name}"
        for name, files in CODE.items()
        if any(whole.fullmatch(word) for word in words_of(name))
    ]
    in_names = [
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "src").rglob("*.py")
        if any(whole.fullmatch(word) for word in words_of(file.stem))
    ]
    word = re.compile(rf"(?<![\w./-])(?:{pattern})(?![\w/-])(?!\.md|\.py|\.csv)")
    in_pages = [
        f"{name}: {match[0]}"
        for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
        if (name := page.relative_to(ROOT).as_posix()) not in MAY_NAME_THEM
        for match in word.finditer(page.read_text(encoding="utf-8"))
    ]
    return in_code + in_names + in_pages


def test_there_are_entries_and_each_term_stands_once() -> None:
    terms = [term for term, _, _ in ENTRIES]
    assert len(terms) > 40
    assert len(terms) == len(set(terms)) == PAGE.count("\n- ")


@pytest.mark.parametrize(("term", "names", "sentence"), ENTRIES, ids=[e[0] for e in ENTRIES])
def test_an_entry_is_one_sentence_and_its_names_are_in_the_code(
    term: str, names: str, sentence: str
) -> None:
    assert re.fullmatch(r"[A-Z][^.]*\.", sentence.replace("\n", " ")), sentence
    for name in re.findall(r"`(\w+)`", names):
        assert (name in CODE) != (name in NOT_YET), f"{term}: is {name} in src/?"


@pytest.mark.parametrize("pattern", [name for name in RETIRED if name not in STILL_THERE])
def test_a_retired_name_is_gone(pattern: str) -> None:
    found = places_of(pattern)
    assert not found, f"say {RETIRED[pattern]!r} instead:\n" + "\n".join(found[:20])


@pytest.mark.parametrize("pattern", STILL_THERE)
def test_what_is_still_there_is_still_there(pattern: str) -> None:
    assert pattern in RETIRED
    assert places_of(pattern), f"{pattern} is gone: take it out of STILL_THERE"


def test_the_search_for_names_finds_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert {"prior", "Prior"} <= words_of("GraphPrior")
    assert "prior" not in words_of("priority")
    monkeypatch.setitem(CODE, "apply_bonus", {"src/hidvae/x.py"})
    assert "src/hidvae/x.py: apply_bonus" in places_of("bonus")
