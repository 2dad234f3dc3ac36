"""The report in a real browser: drawn without a complaint, on a phone's width, in the dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.apps.show.pages import Page
from tests.browser import needs_browser, open_page

from hidvae.apps.show.report import write_report

pytestmark = needs_browser

MEASURE = """
addEventListener("load", () => setTimeout(() => parent.postMessage([
  innerWidth,
  document.documentElement.scrollWidth,
  Math.max(...[...document.querySelectorAll(".main-svg")]
    .map(drawing => drawing.getBoundingClientRect().right)),
  getComputedStyle(document.body).backgroundColor,
  getComputedStyle(document.querySelector(".xtick text")).fill,
].join("; "), "*"), 500));
"""
PHONE = """<!DOCTYPE html><title>waiting</title>
<iframe src="measured.html" style="width: 360px; height: 700px; border: 0"></iframe>
<script>addEventListener("message", event => { document.title = event.data; });</script>
"""  # a window without a screen is never narrower than 500 pixels


@pytest.fixture(scope="module")
def report(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tiny_run, tmp_path_factory.mktemp("report") / "report.html")


def test_every_figure_is_drawn_and_the_console_is_empty(report: Path, tmp_path: Path) -> None:
    opened = open_page(report, tmp_path)
    assert opened.complaints == []
    wanted = Page(report.read_text(encoding="utf-8")).figures
    drawn = re.findall(
        r'<div id="figure-([^"]+)"[^>]*>\s*<div[^>]*>.{0,300}?main-svg', opened.dom, re.S
    )
    assert sorted(drawn) == sorted(wanted)


def test_a_page_that_loads_something_would_be_noticed(report: Path, tmp_path: Path) -> None:
    """The two tests around this one can fail: the policy refuses, and the console says so."""
    page = report.read_text(encoding="utf-8")
    spoilt = tmp_path / "spoilt.html"
    foreign = '<img src="https://127.0.0.1/a.png"><script>nothing.there();</script></body>'
    spoilt.write_text(page.replace("</body>", foreign), encoding="utf-8")
    complaints = "\n".join(open_page(spoilt, tmp_path / "profile").complaints)
    assert "Content Security Policy" in complaints
    assert "nothing is not defined" in complaints


@pytest.mark.parametrize(
    ("scheme", "ground", "text"),
    [
        ("0", "rgb(20, 24, 28)", "rgb(228, 232, 236)"),
        ("1", "rgb(255, 255, 255)", "rgb(29, 35, 41)"),
    ],
    ids=["dark", "light"],
)
def test_it_fits_a_phone_in_the_dark_and_in_the_light(
    report: Path, tmp_path: Path, scheme: str, ground: str, text: str
) -> None:
    page = report.read_text(encoding="utf-8")
    measured = page.replace("</body>", f"<script>{MEASURE}</script></body>")
    (tmp_path / "measured.html").write_text(measured, encoding="utf-8")
    (tmp_path / "phone.html").write_text(PHONE, encoding="utf-8")
    option = f"--blink-settings=preferredColorScheme={scheme}"
    dom = open_page(tmp_path / "phone.html", tmp_path / "profile", option).dom
    found = re.search("<title>(.*?)</title>", dom)
    assert found is not None
    width, needed, right, *colors = found.group(1).split("; ")
    assert float(width) == 360
    assert max(float(needed), float(right)) <= 360
    assert colors == [ground, text]
