"""What the commands print stays text, whatever the catalogue calls its items."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from hidvae import Recommender
from hidvae.apps.show.terminal import print_items, print_recommendations

NASTY = "[bold]loud[/bold] \x1b[2J"


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100, highlight=False)


def written(console: Console) -> str:
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(char.isprintable() or char == "\n" for char in text)
    return str(text)


def test_items_are_shown_with_their_codes_and_tags(tiny_run: Path, console: Console) -> None:
    recommender = Recommender.load(tiny_run, device="cpu")
    ids = recommender.catalogue.item_ids[:7]
    print_items(recommender, ids, console)
    shown = written(console)
    assert " ".join(recommender.semantic_ids.strings(0)) in shown
    assert recommender.catalogue.titles[0][:20] in shown
    assert "[green]" not in shown
    assert "and 2 more" in shown


def test_titles_are_text(tiny_run: Path, console: Console) -> None:
    recommender = Recommender.load(tiny_run, device="cpu")
    (item,) = recommender.recommend(recommender.catalogue.item_ids[:3], 1)
    print_recommendations(
        [dataclasses.replace(item, title=NASTY, tag_path=(NASTY,), tag_confidences=(0.5,))], console
    )
    assert written(console).count("[bold]loud[/bold]") == 2
