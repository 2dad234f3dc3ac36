from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from tests.apps.show.pages import Page

from hidvae.apps.show.dataset_facts import DatasetFacts
from hidvae.apps.show.dataset_page import dataset_page
from hidvae.apps.show.describe_dataset import describe
from hidvae.apps.show.views import inspect_dataset

NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)> & \"quotes\" 'too'"


@pytest.fixture
def facts(run: Path, add_tags: Callable[..., None]) -> DatasetFacts:
    add_tags(with_sources=True)
    return describe(run)


def test_page_is_whole_and_has_an_outline(facts: DatasetFacts) -> None:
    page = Page(dataset_page(facts))
    assert [level for level, _ in page.headings][:2] == ["h1", "h2"]
    assert page.headings[0][1] == "Dataset shop"
    assert {"header", "nav", "main", "section", "figure", "figcaption"} <= set(page.tags)
    assert len(page.ids) == len(set(page.ids))
    assert list(page.figures) == [
        "lengths",
        "positions",
        "popularity",
        "ranks",
        "tree",
        "classes",
        "coverage",
        "missing",
    ]
    for shown in ("13.3% of events read", "Nobody's", "tags from", "num_events", "66.7%"):
        assert shown in page.text, shown


def test_page_loads_nothing(facts: DatasetFacts) -> None:
    page = Page(dataset_page(facts))
    page.assert_needs_nothing()
    assert "Plotly" in page.html  # the library is in the page


def test_text_of_the_data_is_never_code(tables: Path) -> None:
    items = pl.read_parquet(tables / "items.parquet").with_columns(
        title=pl.lit(NASTY), brand=pl.lit(NASTY), categories=pl.lit([NASTY, "</script><b>"])
    )
    items = items.with_columns(pl.lit(1).alias(NASTY))
    items.write_parquet(tables / "items.parquet")
    facts = describe(tables)
    html = dataset_page(replace(facts, name=NASTY, notes=[NASTY]))
    plain = Page(dataset_page(describe(tables, num_samples=0)))
    page = Page(html)
    assert page.text.count(NASTY) > 5
    assert "<img" not in html.split("</script>", 1)[1]
    assert {"img", "b"}.isdisjoint(page.tags)
    assert page.tags.count("script") == plain.tags.count("script")
    assert "alert(1)</script>" not in html


def test_names_in_figures_are_not_markup_there_either(facts: DatasetFacts) -> None:
    nodes = facts.hierarchy.nodes.with_columns(name=pl.lit("<b>bold</b>"))
    html = dataset_page(replace(facts, hierarchy=replace(facts.hierarchy, nodes=nodes)))
    assert r"&lt;b&gt;bold&lt;" in html
    assert r"\u003cb\u003ebold" not in html


def test_a_dataset_without_categories_has_a_page(tables: Path) -> None:
    items = pl.read_parquet(tables / "items.parquet").select("item_id")
    items.write_parquet(tables / "items.parquet")
    html = dataset_page(describe(tables, num_samples=0))
    assert "tree" not in Page(html).figures
    assert "None: no item has one." in html
    assert "Some items" not in html


def test_only_the_smallest_tags_are_left_out_of_a_large_tree(
    facts: DatasetFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "not drawn" not in dataset_page(facts)
    monkeypatch.setattr("hidvae.apps.show.figures._MAX_TILES", 3)
    html = dataset_page(facts)
    assert "(2 of the smallest are not drawn)" in html
    ids = re.search(r'"ids":(\[.*?\])', html)
    assert ids is not None
    assert "Lamps" in ids.group(1)
    assert "Oak" not in ids.group(1)


def test_one_root_is_the_root_of_the_tree(run: Path) -> None:
    html = dataset_page(describe(run))
    labels = re.search(r'"labels":(\["Home",.*?\])', html)
    assert labels is not None
    assert labels.group(1).count("Home") == 1
    ids, parents = (re.search(rf'"{name}":(\[.*?\])', html) for name in ("ids", "parents"))
    assert ids is not None
    assert parents is not None
    missing = set(json.loads(parents.group(1))) - set(json.loads(ids.group(1)))
    assert missing == {""}


def test_same_dataset_same_page_written_whole(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    told = inspect_dataset(run, file)
    assert str(file) in told
    first = file.read_bytes()
    inspect_dataset(run, file)
    assert file.read_bytes() == first
    assert first.decode("utf-8").startswith("<!DOCTYPE html>")
    assert [p.name for p in tmp_path.iterdir() if "writing" in p.name] == []
