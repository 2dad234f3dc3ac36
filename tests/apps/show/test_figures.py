from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from hidvae.apps.show.figures import (
    bars,
    grouped_bars,
    heatmap,
    intervals,
    lines,
    stacked_rows,
    treemap,
)

DRAWN: dict[str, Callable[[str], str]] = {
    "bars": lambda label: bars("f", [label, "b"], [1, 2], x="x", y="y"),
    "groups": lambda label: grouped_bars("f", [label], {label: [1.0]}, x="x", y="y"),
    "intervals": lambda label: intervals("f", [label], [1.0], [(0.5, 2.0)], x="x"),
    "heatmap": lambda label: heatmap("f", [label], [label, "b"], [[1, 2]], x="x", y="y"),
    "rows": lambda label: stacked_rows("f", [label], {label: [1.0]}, x="x"),
    "lines": lambda label: lines("f", {label: ([1, 2], [3, 4])}, x="x", y="y", log_x=True),
    "treemap": lambda label: treemap("f", ["r", "a"], ["", "r"], ["all", label], [3, 2]),
}


def data_of(html: str) -> list[dict[str, Any]]:
    start = html.index("[", html.index("Plotly.newPlot("))
    return json.JSONDecoder().raw_decode(html[start:])[0]


@pytest.mark.parametrize("kind", DRAWN)
def test_labels_are_text(kind: str) -> None:
    html = DRAWN[kind]("</script><b>&")
    assert html.count("</script>") == html.count("<script")
    assert "&lt;/script&gt;&lt;b&gt;&amp;" in json.dumps(data_of(html))
    assert "<b>" not in html


@pytest.mark.parametrize("kind", DRAWN)
def test_figures_bring_no_library_and_take_the_page_s_width(kind: str) -> None:
    html = DRAWN[kind]("a")
    assert len(html) < 20_000
    assert '<div id="figure-f"' in html
    assert re.search(r'"responsive":\s*true', html)
    assert "http" not in html


def test_values_arrive_as_they_are() -> None:
    (curve,) = data_of(lines("f", {"a": ([1, 10], [2, 20])}, x="x", y="y"))
    assert (curve["x"], curve["y"]) == ([1, 10], [2, 20])
    (drawn,) = data_of(bars("f", ["p", "q"], [5, 6], x="x", y="y"))
    assert (drawn["x"], drawn["y"]) == (["p", "q"], [5, 6])
    (tree,) = data_of(DRAWN["treemap"]("leaf"))
    assert (tree["ids"], tree["parents"], tree["values"]) == (["r", "a"], ["", "r"], [3, 2])
    parts = data_of(stacked_rows("f", ["u", "v"], {"p": [1, 2], "q": [3, 4]}, x="x"))
    assert [(part["name"], part["x"]) for part in parts] == [("p", [1, 2]), ("q", [3, 4])]


def test_intervals_reach_from_end_to_end_where_there_are_any() -> None:
    (drawn,) = data_of(intervals("f", ["p", "q"], [1.0, 2.0], [(0.5, 2.5), None], x="x"))
    assert drawn["error_x"]["array"] == [1.5, 0]
    assert drawn["error_x"]["arrayminus"] == [0.5, 0]


def test_a_heatmap_shows_counts_and_colours_shares_of_the_row() -> None:
    (drawn,) = data_of(heatmap("f", ["p", "q"], ["p", "q"], [[3, 1], [0, 0]], x="x", y="y"))
    assert drawn["text"] == [[3, 1], [0, 0]]
    assert drawn["z"] == [[0.75, 0.25], [0, 0]]


def test_groups_may_lack_a_value() -> None:
    groups = {"g": [1.0, None], "h": [2.0, 3.0]}
    drawn = data_of(grouped_bars("f", ["p", "q"], groups, x="x", y="y"))
    assert {part["name"]: part["y"] for part in drawn} == groups
