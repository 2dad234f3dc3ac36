"""The pictures of docs/concepts.md: drawn from a run, whole, and within their sheet."""

from __future__ import annotations

import importlib
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest
from tests.docs.pages import ROOT

from hidvae import Recommender

IMAGES = ROOT / "docs" / "images"
SVG = "{http://www.w3.org/2000/svg}"
NAMES = (
    "overview",
    "semantic-id",
    "residual-quantization",
    "trie-and-beam-search",
    "graph-at-decoding",
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        return importlib.import_module("draw_concepts")


@pytest.fixture(scope="module")
def drawn(script: ModuleType, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    script.main([str(tiny_run), "--output", str(folder)])
    return folder


def texts(file: Path) -> list[str]:
    return [node.text or "" for node in ElementTree.parse(file).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_lies_on_the_sheet(name: str, drawn: Path) -> None:
    for folder in (drawn, IMAGES):
        root = ElementTree.parse(folder / f"{name}.svg").getroot()
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        for node in root.iter():
            for places, limit in (
                (("x", "cx", "x1", "x2"), width),
                (("y", "cy", "y1", "y2"), height),
            ):
                for place in places:
                    assert 0 <= float(node.attrib.get(place, 0)) <= limit, node.attrib
        assert "prefers-color-scheme:dark" in (folder / f"{name}.svg").read_text("utf-8")


def test_the_id_in_the_picture_is_the_items(drawn: Path, tiny_run: Path) -> None:
    shown = texts(drawn / "semantic-id.svg")
    recommender = Recommender.load(tiny_run)
    titles = recommender.catalogue.titles
    ids = [recommender.semantic_ids.strings(titles.index(t)) for t in shown if t in titles]
    codes = [text for text in shown if re.fullmatch(r"<[a-c]_\d+>", text)]
    assert codes[-3:] in ids
    assert codes == [*codes[-3:][:1], *codes[-3:][:2], *codes[-3:]]


def test_scores_in_the_picture_are_sorted(drawn: Path) -> None:
    scores = [
        float(t) for t in texts(drawn / "graph-at-decoding.svg") if re.fullmatch(r"-?\d+\.\d\d", t)
    ]
    assert len(scores) == 6 and scores == sorted(scores, reverse=True)


def test_probabilities_in_the_trie_multiply_to_the_items(
    script: ModuleType, tiny_run: Path
) -> None:
    for found in script.choose_example(tiny_run).found:
        first, second, third = found.code_probs
        assert first * second * third == pytest.approx(found.prob, rel=1e-3)


def test_the_page_speaks_of_the_item_in_its_picture() -> None:
    page = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    codes = [t for t in texts(IMAGES / "semantic-id.svg") if re.fullmatch(r"<[a-c]_\d+>", t)]
    assert f"`{' '.join(codes[-3:])}`" in page
