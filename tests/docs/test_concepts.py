"""The pictures of docs/concepts.md are within their sheet; the page speaks of what they show."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from tests.docs.pages import ROOT

IMAGES = ROOT / "docs" / "images"
PICTURES = sorted(IMAGES.glob("*.svg"))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.stem)
def test_what_is_drawn_lies_on_the_sheet(picture: Path) -> None:
    root = ElementTree.parse(picture).getroot()
    limits = {name: float(root.attrib[name]) for name in ("width", "height")}
    for node in root.iter():
        for side, places in (
            ("width", ("x", "cx", "x1", "x2")),
            ("height", ("y", "cy", "y1", "y2")),
        ):
            for place in places:
                assert 0 <= float(node.attrib.get(place, 0)) <= limits[side], node.attrib
    assert "prefers-color-scheme:dark" in picture.read_text("utf-8")


def test_the_page_speaks_of_the_item_in_its_picture() -> None:
    page = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    texts = [node.text or "" for node in ElementTree.parse(IMAGES / "semantic-id.svg").iter()]
    codes = [text for text in texts if re.fullmatch(r"<[a-c]_\d+>", text)]
    assert f"`{' '.join(codes[-3:])}`" in page
