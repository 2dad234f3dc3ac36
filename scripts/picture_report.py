"""Pictures of a run's report for the docs: docs/images/report.png and its companions.

    python scripts/picture_report.py runs/demo

Writes the report to a temporary folder and opens it in the system's Chromium
(``HIDVAE_CHROMIUM`` where it is not /usr/bin/chromium).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from hidvae.apps.show.report import write_report

CHROMIUM = os.environ.get("HIDVAE_CHROMIUM", "/usr/bin/chromium")
IMAGES = Path(__file__).parent.parent / "docs" / "images"
LARGEST_BYTES = 300_000
PICTURES = {
    "report.png": ("", "1200,900", "light"),
    "report-training.png": ("Training", "1200,820", "dark"),
    "report-tree.png": ("Tree of semantic IDs", "1200,740", "light"),
}
"""Name of the file -> the section to show (the top of the page if empty), window, colours."""
ANCHOR = re.compile(r'<li><a href="#([^"]+)">([^<]+)</a></li>')
ONLY = "<style>header, main section:not(:has(#%s)) { display: none; }</style></head>"


def main() -> None:
    """Parse the command line, write the report, take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a trained run")
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder for the pictures")
    arguments = parser.parse_args()
    for picture in take(arguments.run, arguments.output):
        print(picture)


def take(run: Path, folder: Path) -> list[Path]:
    """Write the pictures.

    Args:
        run: What the report is of.
        folder: Made if it is not there.

    Returns:
        The files, each at most ``LARGEST_BYTES``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        page = write_report(run, Path(name) / "report.html").read_text(encoding="utf-8")
        anchors = {title: anchor for anchor, title in ANCHOR.findall(page)}
        for file, (title, size, colors) in PICTURES.items():
            shown = Path(name) / "shown.html"
            only = page.replace("</head>", ONLY % anchors[title], 1) if title else page
            shown.write_text(only, encoding="utf-8")
            _take_one(shown.as_uri(), folder / file, size, colors, Path(name) / "profile")
    files = [folder / file for file in PICTURES]
    for file in files:
        if (num_bytes := file.stat().st_size) > LARGEST_BYTES:
            sys.exit(f"{file}: expected at most {LARGEST_BYTES} bytes; found {num_bytes}")
    return files


def _take_one(address: str, file: Path, size: str, colors: str, profile: Path) -> None:
    scheme = {"dark": 0, "light": 1}[colors]
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={profile}",
        f"--window-size={size}",
        f"--blink-settings=preferredColorScheme={scheme}",
        "--virtual-time-budget=5000",
        f"--screenshot={file.resolve()}",
        address,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode or not file.is_file():
        sys.exit(f"{CHROMIUM} took no picture: {done.stderr.strip()[-300:]}")


if __name__ == "__main__":
    main()
