"""The pictures of docs/images that show the server's page and a run's report.

    python scripts/take_pictures.py runs/demo

Serves the run on a free port of the loopback and does what a newcomer would, and opens the run's
report, in the system's Chromium (``HIDVAE_CHROMIUM`` where it is not /usr/bin/chromium).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from hidvae.apps.show.report import write_report

CHROMIUM = os.environ.get("HIDVAE_CHROMIUM", "/usr/bin/chromium")
IMAGES = Path(__file__).parent.parent / "docs" / "images"
LARGEST_BYTES = 300_000
REPORT = {
    "report.png": ("", (1200, 900), "light"),
    "report-training.png": ("Training", (1200, 820), "dark"),
    "report-tree.png": ("Tree of semantic IDs", (1200, 740), "light"),
}
"""Name of the file -> section of the report (its top if empty), window, colours."""
ONLY = "header, main section:not(:has(#%s)) { display: none; }"


def main() -> None:
    """Parse the command line, serve, take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a trained run")
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder for the pictures")
    arguments = parser.parse_args()
    with served(arguments.run) as address, sync_playwright() as tools:
        browser = tools.chromium.launch(
            executable_path=CHROMIUM, args=["--headless", "--no-sandbox"]
        )
        files = take_page(browser, address, arguments.output)
        files += take_report(browser, arguments.run, arguments.output)
        browser.close()
    for file in files:
        print(file)
        if (size := file.stat().st_size) > LARGEST_BYTES:
            sys.exit(f"{file}: expected at most {LARGEST_BYTES} bytes; found {size}")


@contextlib.contextmanager
def served(run: Path) -> Iterator[str]:
    """Address of a server of a run, as long as the block lasts."""
    command = [sys.executable, "-m", "hidvae", "serve", str(run), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            said = []
            for line in server.stderr:
                said.append(line)
                if found := re.search(r"http://\S+", line):
                    yield found[0]
                    return
            sys.exit("".join(said))
        finally:
            server.terminate()
            server.stderr.read()


def take_page(browser: Any, address: str, folder: Path) -> list[Path]:
    """Write the pictures of the server's page, and return them.

    Args:
        browser: Playwright's.
        address: Of the server.
        folder: Made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in ("page.png", "page-tree.png", "page-phone.png")]
    laptop = _open(browser, address, 1280, 800)
    _steer(laptop)
    laptop.screenshot(path=files[0])
    laptop.click("nav [data-view=tree]")
    laptop.wait_for_selector(".tile")
    laptop.screenshot(path=files[1])
    phone = _open(browser, address, 390, 844, device_scale_factor=2)
    phone.evaluate("document.getElementById('recommend').scrollIntoView()")
    phone.screenshot(path=files[2])
    return files


def take_report(browser: Any, run: Path, folder: Path) -> list[Path]:
    """Write the pictures of a run's report, and return them.

    Args:
        browser: Playwright's.
        run: What the report is of.
        folder: Made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        report = write_report(run, Path(name) / "report.html").resolve()
        for file, (title, (width, height), colors) in REPORT.items():
            tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=colors)
            tab.goto(report.as_uri())
            tab.wait_for_selector(".main-svg")
            if title:
                anchor = tab.locator("h2", has_text=re.compile(f"^{title}$")).get_attribute("id")
                tab.add_style_tag(content=ONLY % anchor)
                tab.evaluate("dispatchEvent(new Event('resize'))")
            tab.screenshot(path=folder / file)
            tab.close()
    return [folder / file for file in REPORT]


def _open(browser: Any, address: str, width: int, height: int, **options: Any) -> Any:
    """A tab with a sample user's recommendations."""
    tab = browser.new_page(viewport={"width": width, "height": height}, **options)
    tab.goto(address)
    tab.wait_for_selector(".card")
    tab.click("#sample")
    tab.wait_for_selector(".card .probable")
    return tab


def _steer(tab: Any) -> None:
    """Leave out the finest tag of the second card."""
    tab.locator(".card").nth(1).locator("button.tag").last.click()
    tab.click("#tag-menu >> text=Not this")
    tab.wait_for_selector("#recommendations:not([aria-busy])")
    tab.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    tab.mouse.move(0, 0)


if __name__ == "__main__":
    main()
