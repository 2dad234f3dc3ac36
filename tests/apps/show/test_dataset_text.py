from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from rich.cells import cell_len

from hidvae.apps.show.dataset_facts import Column, Count, SampleItem
from hidvae.apps.show.dataset_text import WIDTH, dataset_text
from hidvae.apps.show.describe_dataset import describe


def cells(line: str) -> list[str]:
    return line.split()


def lines_of(text: str, title: str) -> list[str]:
    """The lines under a title."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(title))
    stop = next((i for i in range(start, len(lines)) if not lines[i]), len(lines))
    return lines[start + 1 : stop]


@pytest.mark.parametrize("with_tags", [False, True])
def test_every_part_is_there(run: Path, add_tags: Callable[..., None], with_tags: bool) -> None:
    if with_tags:
        add_tags(with_sources=True)
    text = dataset_text(describe(run))
    assert cells(lines_of(text, "sizes")[2]) == ["num_events", "13"]
    counted = "\n".join(lines_of(text, "counted by prepare"))
    assert "dropped_events" in counted
    assert "13.3% of events read" in counted
    histogram = lines_of(text, "events per user")
    assert "3 · 3 · 5 · 5 · 5" in histogram[0]
    assert "half of the events" in text
    assert any(cells(line)[:2] == ["brand", "66.7%"] for line in text.splitlines() if line)
    assert ("tags from" in text) == with_tags
    assert ("category path >= 2" in text) == with_tags
    assert ("classes of the tags" if with_tags else "classes of the category paths") in text
    assert "    test        Oak chair" in text


def test_bars_are_in_proportion(run: Path) -> None:
    text = dataset_text(describe(run))
    bars = {cells(line)[0]: line.count("#") for line in text.splitlines() if line.endswith("#")}
    assert bars["5"] == 2 * bars["3"] > 0
    assert "4" not in bars


def test_new_counts_are_shown_without_code(run: Path) -> None:
    facts = describe(run)
    new = [Count("cats_on_keyboards", 12_345), Count("dogs_on_keyboards", 0)]
    ties = [Count("tied_whiskers", 7, 0.25, "cats")]
    text = dataset_text(replace(facts, counts=new, ties=ties))
    assert cells(lines_of(text, "counted by prepare")[0]) == ["cats_on_keyboards", "12,345"]
    assert "none: dogs_on_keyboards" in text
    assert cells(lines_of(text, "ties")[0]) == ["tied_whiskers", "7", "25.0%", "of", "cats"]


def test_no_line_is_wider_than_promised(run: Path, add_tags: Callable[..., None]) -> None:
    add_tags()
    facts = describe(run)
    long = "很长的标题 and so on " * 40
    item = SampleItem("i" * 200, long, [long] * 3, 1, {"n" * 90: long})
    column = Column("c" * 120, "String", 1, 0.25, 123_456, long)
    text = dataset_text(
        replace(
            facts,
            items=[item],
            columns=[column],
            notes=[long],
            counts=[Count("x" * 90, 1, 0.5, "y" * 50, long)],
        )
    )
    assert max(cell_len(line) for line in text.splitlines()) <= WIDTH
    row = next(line for line in text.splitlines() if "ccc" in line)
    assert cells(row)[1:3] == ["25.0%", "123,456"]  # only the last cell gives way
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_markup_in_titles_is_shown_as_it_is(run: Path) -> None:
    facts = describe(run)
    title = "[bold]loud[/bold] [/] :smile: [link=http://x]y[/link]"
    text = dataset_text(replace(facts, items=[replace(facts.items[0], title=title)]))
    assert title in text


def test_names_cannot_steer_a_terminal(run: Path) -> None:
    facts = describe(run)
    bell = "\x1b[2J\x07"
    classes = facts.hierarchy.levels[0].classes.with_columns(name=pl.lit(bell + "x" * 99))
    level = replace(facts.hierarchy.levels[0], classes=classes)
    hierarchy = replace(facts.hierarchy, levels=[level])
    column = replace(facts.columns[0], name=bell)
    text = dataset_text(
        replace(facts, name=bell, hierarchy=hierarchy, columns=[column], notes=[bell])
    )
    assert "[2J" in text
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "xxx…" in text


def test_same_dataset_same_text(run: Path) -> None:
    assert dataset_text(describe(run)) == dataset_text(describe(run))
