"""The script that takes the pictures of the docs."""

from __future__ import annotations

import importlib
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.apps.serve.conftest import Running

ROOT = Path(__file__).parents[4]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("take_pictures")


def test_it_takes_the_pictures_that_the_docs_show(
    browser: Any, shared: Running, tiny_run: Path, tmp_path: Path, script: ModuleType
) -> None:
    files = script.take_page(browser, shared.url, tmp_path / "new")
    files += script.take_report(browser, tiny_run, tmp_path / "new")
    assert {file.name for file in files} == {file.name for file in script.IMAGES.glob("*.png")}
    for file in files:
        content = file.read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(content) > 20_000, "an empty page has 5 kB"
        if file.name in script.REPORT:
            assert struct.unpack(">II", content[16:24]) == script.REPORT[file.name][1]
    docs = "".join(page.read_text("utf-8") for page in (ROOT / "docs").glob("*.md"))
    for picture in script.IMAGES.glob("*.png"):
        assert f"images/{picture.name}" in docs
        assert picture.stat().st_size <= script.LARGEST_BYTES
