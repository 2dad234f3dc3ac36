"""docs/your-data.md shows real tables and real answers: each is made to happen here."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hidvae.apps.cli import app, run_app

PAGE = Path(__file__).parents[2] / "docs" / "your-data.md"
_BLOCK = re.compile(r"```(\w+)(?: title=\"(.+?)\")?\n(.*?)```", re.DOTALL)


@dataclass
class Example:
    """A section of the page."""

    title: str
    files: dict[str, str] = field(default_factory=dict)
    steps: list[tuple[str, str]] = field(default_factory=list)
    """A command and what it prints."""


def examples() -> list[Example]:
    """The sections with a command."""
    found = []
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        example = Example(section.splitlines()[0])
        for kind, name, text in _BLOCK.findall(section):
            if name:
                example.files[name] = text
            elif kind == "sh":
                example.steps.append((text.strip(), ""))
            elif kind == "text":
                example.steps[-1] = (example.steps[-1][0], text)
        if example.steps:
            found.append(example)
    return found


def test_there_are_five() -> None:
    assert len(examples()) >= 5


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.title)
def test_example(
    example: Example,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in example.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    for command, expected in example.steps:
        words = shlex.split(command)
        assert words[:3] == ["hidvae", "prepare", "--check"], command
        assert run_app(app, "hidvae", words[1:]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out == expected, command
