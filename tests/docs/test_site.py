"""The site of docs/ builds without a warning and loads nothing from other hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import ROOT

import hidvae


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a page that is in no menu, or a broken link, fails it."""
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir"]
    done = subprocess.run([*command, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs")).with_suffix(".html").is_file(), page


def test_nothing_comes_from_other_hosts(site: Path) -> None:
    loads = re.compile(r"<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=\"?(//|https?:)")
    for file in site.rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        assert not loads.search(text), file.name
        assert 'class="mermaid"' not in text, f"{file.name}: the theme fetches mermaid"
    for file in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(//|https?:)|@import", file.read_text("utf-8")), file.name


def test_the_python_api_is_read_from_the_source(site: Path) -> None:
    text = (site / "python-api.html").read_text(encoding="utf-8")
    for name in ("recommender.Recommender.recommend", "filters.Filters.most_per_tag"):
        assert f'id="hidvae.ranking.{name}"' in text, name
    assert "shorter only if fewer items" in text, "a sentence of a docstring"
    for name in hidvae.__all__:  # settings have the page configuration
        assert f">{name}<" in text or name.endswith("Config"), f"docs/python-api.md: add {name}"
