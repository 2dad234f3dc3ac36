"""The script that takes the pictures of docs/report.md."""

from __future__ import annotations

import importlib
import struct
from pathlib import Path
from types import ModuleType

import pytest
from tests.browser import CHROMIUM, needs_browser

ROOT = Path(__file__).parent.parent

pytest.importorskip("plotly")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    found = importlib.import_module("picture_report")
    monkeypatch.setattr(found, "CHROMIUM", CHROMIUM)
    return found


@needs_browser
def test_a_picture_shows_its_section(
    script: ModuleType, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "report-tree.png"
    monkeypatch.setattr(script, "PICTURES", {name: script.PICTURES[name]})
    (picture,) = script.take(tiny_run, tmp_path / "new")
    content = picture.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert "{},{}".format(*struct.unpack(">II", content[16:24])) == script.PICTURES[name][1]
    assert len(content) > 20_000, "an empty page has 5 kB"


def test_the_pictures_of_the_docs_are_those_of_the_script(script: ModuleType) -> None:
    page = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    for name in script.PICTURES:
        assert f"(images/{name})" in page
        assert (ROOT / "docs" / "images" / name).stat().st_size <= script.LARGEST_BYTES
