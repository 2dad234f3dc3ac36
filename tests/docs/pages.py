"""The README and the pages of docs/, and the fenced blocks in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from hidvae.config import load_config
from hidvae.run.run import Run

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


def write_shop(folder: Path, run: Path) -> None:
    """Write a run's catalogue and log as items.csv and interactions.csv."""
    dataset = Run(run).dataset
    folder.mkdir(parents=True, exist_ok=True)
    items = pl.read_parquet(run / "dataset" / "items.parquet")
    paths = pl.col("categories").list.join(" > ")
    items.with_columns(paths).write_csv(folder / "items.csv")
    dataset.events_frame().write_csv(folder / "interactions.csv")


def fit_in_seconds(monkeypatch: pytest.MonkeyPatch, settings: list[str]) -> None:
    """Let ``Run.fit`` of a snippet train small models."""
    fit = Run.fit.__func__  # type: ignore[attr-defined]
    small = load_config([], [name for name in settings if not name.startswith("DatasetConfig")])

    def fit_small(cls: type[Run], *tables: object, **options: object) -> Run:
        return fit(cls, *tables, config=small, **options)

    monkeypatch.setattr(Run, "fit", classmethod(fit_small))
