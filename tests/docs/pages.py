"""The README and the pages of docs/, and the fenced blocks in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"`(src/[\w/]+\.py)`:\n\n\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    """The page, from the root."""
    language: str
    text: str
    file: str
    """The file that it is the content of, where the line above names one; else empty."""

    def commands(self) -> Iterator[list[str]]:
        """Words of each command line, without comments."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    found = []
    for match in _BLOCK.finditer(text):
        named = _FILE_NAME.search(text, 0, match.start())
        found.append(Block(name, match[1], match[2], named[1] if named else ""))
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
