"""A real browser without a window: Chromium, where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = (os.environ.get("HIDVAE_CHROMIUM", "chromium"), "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), "")
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")


def command(profile: Path, *options: str) -> list[str]:
    """Chromium's command line, with a profile of its own and no network but the loopback."""
    return [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        *options,
    ]


@dataclass(frozen=True)
class Opened:
    """What a page became."""

    dom: str
    """Its elements after its scripts have run, as HTML."""
    complaints: list[str]
    """Lines of the console: errors, warnings, what the policy refused."""


def open_page(file: Path, profile: Path, *options: str) -> Opened:
    """Open a file and let its scripts run for some seconds of the browser's own time."""
    shown = subprocess.run(
        command(
            profile,
            "--enable-logging=stderr",
            "--virtual-time-budget=5000",
            "--dump-dom",
            *options,
            file.as_uri(),
        ),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    complaints = [line for line in shown.stderr.splitlines() if re.search(r"CONSOLE[:(]", line)]
    return Opened(shown.stdout, complaints)
