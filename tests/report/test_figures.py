from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from hidvae.errors import MissingExtraError
from hidvae.report.figures import bars, lines, plotly_script, stacked_rows, treemap

DRAWN: dict[str, Callable[[str], str]] = {
    "bars": lambda label: bars("f", [label, "b"], [1, 2], x="x", y="y"),
    "rows": lambda label: stacked_rows("f", [label], {label: [1.0]}, x="x"),
    "lines": lambda label: lines("f", {label: ([1, 2], [3, 4])}, x="x", y="y", log_x=True),
    "treemap": lambda label: treemap("f", ["r", "a"], ["", "r"], ["all", label], [3, 2]),
}


def data_of(html: str) -> list[dict[str, Any]]:
    start = html.index("[", html.index("Plotly.newPlot("))
    return json.JSONDecoder().raw_decode(html[start:])[0]


def test_without_plotly_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(MissingExtraError, match=r'pip install "hidvae\[report\]"'):
        plotly_script()


@pytest.mark.parametrize("kind", DRAWN)
def test_labels_are_text(kind: str) -> None:
    pytest.importorskip("plotly")
    html = DRAWN[kind]("</script><b>&")
    assert html.count("</script>") == html.count("<script")
    assert "&lt;/script&gt;&lt;b&gt;&amp;" in json.dumps(data_of(html))
    assert "<b>" not in html


@pytest.mark.parametrize("kind", DRAWN)
def test_figures_bring_no_library_and_take_the_page_s_width(kind: str) -> None:
    pytest.importorskip("plotly")
    html = DRAWN[kind]("a")
    assert len(html) < 20_000
    assert '<div id="figure-f"' in html
    assert re.search(r'"responsive":\s*true', html)
    assert "http" not in html


def test_values_arrive_as_they_are() -> None:
    pytest.importorskip("plotly")
    (curve,) = data_of(lines("f", {"a": ([1, 10], [2, 20])}, x="x", y="y"))
    assert (curve["x"], curve["y"]) == ([1, 10], [2, 20])
    (drawn,) = data_of(bars("f", ["p", "q"], [5, 6], x="x", y="y"))
    assert (drawn["x"], drawn["y"]) == (["p", "q"], [5, 6])
    (tree,) = data_of(DRAWN["treemap"]("leaf"))
    assert (tree["ids"], tree["parents"], tree["values"]) == (["r", "a"], ["", "r"], [3, 2])
    parts = data_of(stacked_rows("f", ["u", "v"], {"p": [1, 2], "q": [3, 4]}, x="x"))
    assert [(part["name"], part["x"]) for part in parts] == [("p", [1, 2]), ("q", [3, 4])]
