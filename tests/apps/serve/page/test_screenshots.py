"""The script that takes the pictures of the docs."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from tests.apps.serve.conftest import Running

ROOT = Path(__file__).parents[4]


def test_it_writes_the_pictures_that_the_docs_have(
    browser: Any, shared: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    script = importlib.import_module("make_screenshots")
    files = script.take(browser, shared.url, tmp_path / "images")
    assert {file.name for file in files} == {file.name for file in script.IMAGES.glob("page*.png")}
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG")
        assert 10_000 < file.stat().st_size <= script.LARGEST_BYTES
