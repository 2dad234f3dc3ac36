"""Every curl of docs/serving.md works as it stands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import TOKEN, Running

PAGE = Path(__file__).parents[3] / "docs" / "serving.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_page(changeable: Running) -> None:
    blocks = re.findall(r"^```sh\n(curl .*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        for command in re.split(r"^(?=curl )", block, flags=re.MULTILINE)[1:]:
            command = command.replace("http://127.0.0.1:8000", changeable.url)
            command = command.replace("curl ", "curl -sS --fail-with-body ", 1)
            done = subprocess.run(
                ["bash", "-c", command],
                env={**os.environ, "HIDVAE_TOKEN": TOKEN},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, command + done.stdout + done.stderr
            assert "/metrics" in command or json.loads(done.stdout)
