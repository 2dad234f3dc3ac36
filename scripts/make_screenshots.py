"""Pictures of the server's page for the docs: docs/images/page.png and its companions.

    python scripts/make_screenshots.py runs/demo

Serves the run on a free port of the loopback, does what a newcomer would in the system's Chromium
(``HIDVAE_CHROMIUM`` where it is not /usr/bin/chromium), and stops the server.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

CHROMIUM = os.environ.get("HIDVAE_CHROMIUM", "/usr/bin/chromium")
IMAGES = Path(__file__).parent.parent / "docs" / "images"
LARGEST_BYTES = 300_000


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
        for picture in take(browser, address, arguments.output):
            print(picture)
        browser.close()


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


def take(browser: Any, address: str, folder: Path) -> list[Path]:
    """Write the pictures.

    Args:
        browser: Playwright's.
        address: Of the server.
        folder: Made if it is not there.

    Returns: The files, each at most ``LARGEST_BYTES``.
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
    for file in files:
        size = file.stat().st_size
        if size > LARGEST_BYTES:
            sys.exit(f"{file}: expected at most {LARGEST_BYTES} bytes; found {size}")
    return files


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
