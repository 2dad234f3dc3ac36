"""schemathesis tries what the OpenAPI allows and what it forbids, and finds nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .conftest import AUTHORIZED, Running

CONFIG = """
[checks.positive_data_acceptance]
# What a schema cannot say, such as a tag or a column that the run does not have.
expected-statuses = [200, 404, 409, 422]
"""


def test_schemathesis_finds_nothing(changeable: Running, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    (header,) = (f"{name}: {value}" for name, value in AUTHORIZED.items())
    command = [str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(config)]
    command += ["run", f"{changeable.url}/openapi.json", "--header", header, "--no-color"]
    command += ["--max-examples", "4", "--seed", "1", "--generation-database", "none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "14/14" in done.stdout
