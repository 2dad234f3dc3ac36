"""The page in a real browser, on the real server; what it asks for and complains of is watched."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.apps.serve.conftest import Running

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

CHROMIUM = Path(os.environ.get("HIDVAE_CHROMIUM", "/usr/bin/chromium"))
SCREENSHOTS = "HIDVAE_SCREENSHOTS"
"""Folder that keeps the screenshots; otherwise pytest's temporary one does."""

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="package")  # Playwright's event loop runs until then, and allows no other
def browser() -> Iterator[Any]:
    """The system's Chromium."""
    if not CHROMIUM.is_file():
        pytest.skip(f"needs Chromium at {CHROMIUM}; set HIDVAE_CHROMIUM to where it is")
    with playwright.sync_playwright() as tools:
        opened = tools.chromium.launch(
            executable_path=str(CHROMIUM), args=["--headless", "--no-sandbox"]
        )
        yield opened
        opened.close()


@dataclass
class Visit:
    """One visit to the page."""

    tab: Any
    """Playwright's page."""
    server: str
    expected_complaints: list[str] = field(default_factory=list)
    """Parts of console messages that the test provokes."""

    def open(self, address: str = "") -> None:
        """Go to a state of the page, and wait until its list is there."""
        self.tab.goto(f"{self.server}/{address}")
        self.tab.wait_for_selector("#recommendations:not([aria-busy]) > *", state="attached")

    def open_sample(self) -> None:
        """What a newcomer does: one click."""
        self.open()
        self.tab.click("#sample")
        self.tab.wait_for_selector(".card .probable")

    def recommended(self, history: list[str], **filters: Any) -> list[dict[str, Any]]:
        """What the server says."""
        body = {"users": [{"history": history}], "k": 10, "filters": filters}
        answer = self.tab.request.post(f"{self.server}/recommend", data=body)
        assert answer.ok, answer.text()
        items: list[dict[str, Any]] = answer.json()["results"][0]["items"]
        return items

    def get(self, path: str) -> Any:
        """Another answer of the server."""
        return self.tab.request.get(f"{self.server}/{path}").json()

    def history(self) -> list[str]:
        """Ids in the address, oldest first."""
        ids: list[str] = self.tab.evaluate(
            "new URLSearchParams(location.hash.slice(1)).getAll('h')"
        )
        return ids

    def shows(self, items: list[dict[str, Any]]) -> None:
        """Wait until exactly these items are recommended, in this order."""
        ids = [item["item_id"] for item in items]
        self.tab.wait_for_function(
            """ids => {
                const cards = [...document.querySelectorAll(".card")];
                return cards.map((card) => card.dataset.item).join() === ids.join();
            }""",
            arg=ids,
        )


@pytest.fixture
def visits(browser: Any, shared: Running) -> Iterator[Callable[..., Visit]]:
    """Opens tabs; afterwards none has complained, and none has asked another host."""
    opened: list[tuple[Visit, list[str], list[str]]] = []

    def visit(size: dict[str, int] = DESKTOP, scheme: str = "light") -> Visit:
        tab = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        tab.set_default_timeout(10_000)
        complaints: list[str] = []
        asked: list[str] = []
        tab.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        opened.append((Visit(tab, shared.url), complaints, asked))
        return opened[-1][0]

    yield visit
    for done, complaints, asked in opened:
        done.tab.close()
        unexpected = [
            said
            for said in complaints
            if not any(part in said for part in done.expected_complaints)
        ]
        assert unexpected == []
        assert [url for url in asked if not url.startswith(f"{shared.url}/")] == []


@pytest.fixture
def visit(visits: Callable[..., Visit]) -> Visit:
    """A tab as wide as a laptop's."""
    return visits()


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where screenshots go."""
    folder = Path(os.environ.get(SCREENSHOTS) or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
