"""Tables in, figures out: parts of a page that Plotly draws, in its colours.

A figure is written as Plotly's JavaScript takes it: the classes of its Python package check every
property of every figure, which takes longer than all the rest of a report. Plotly reads a small
HTML of its own in labels, so names from the data are escaped here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup
from numpy.typing import ArrayLike

from hidvae.log import printable

COLORS = ("#4c8fd6", "#e08a3c", "#4fa870", "#c65d7b", "#8d78c9", "#a3884c", "#3fa7a7", "#8a8f98")
"""Of lines and bars; they stand out on white and on black."""
_TILES = ("#2f6db0", "#a85a17", "#2f7d52", "#a3415f", "#6a55a8", "#7d6630", "#2a7878", "#5f6770")
"""Darker, as white names stand on them."""
_ROOT_TILE = "#4a525b"
_MAX_TILES = 3000
"""More are too many to see, and make a page large."""
_HEIGHT = 320
_ROW_HEIGHT = 26
_CONFIG = {"displayModeBar": False, "responsive": True, "scrollZoom": False}
_AXIS = {"automargin": True, "fixedrange": True, "gridcolor": "#d9dfe5"}
_STANDOFF = 8
_LAYOUT = {
    "margin": {"l": 8, "r": 24, "t": 8, "b": 8},
    "paper_bgcolor": "rgba(0, 0, 0, 0)",
    "plot_bgcolor": "rgba(0, 0, 0, 0)",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "legend": {"orientation": "h", "traceorder": "normal", "y": 1.02, "yanchor": "bottom", "x": 0},
    "dragmode": False,
}
_IN_SCRIPT = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>\u2028\u2029"}
"""What could end a script, or a line of it, as JSON writes it otherwise."""

Parts = Mapping[str, Any]
"""Part of a figure, as Plotly's JavaScript names it."""


def plotly_script() -> str:
    """Plotly's own JavaScript, which a page with figures holds once."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def bars(name: str, labels: Sequence[str], values: ArrayLike, *, x: str, y: str) -> Markup:
    """Upright bars, one per label.

    Args:
        name: Of the figure, unique on its page.
        labels: (n,).
        values: (n,).
        x: Title of the labels.
        y: Title of the values.
    """
    trace = {
        "type": "bar",
        "x": [_label(label) for label in labels],
        "y": np.asarray(values).tolist(),
        "marker": {"color": COLORS[0]},
    }
    return _to_html(name, [trace], _axis(x, type="category", showgrid=False), _axis(y))


def grouped_bars(
    name: str,
    labels: Sequence[str],
    groups: Mapping[str, Sequence[float | None]],
    *,
    x: str,
    y: str,
) -> Markup:
    """Upright bars side by side: one per label and group.

    Args:
        name: Of the figure, unique on its page.
        labels: (n,).
        groups: Name of a group -> (n,) values, None where there is none.
        x: Title of the labels.
        y: Title of the values.
    """
    shown = [_label(label) for label in labels]
    traces = [
        {
            "type": "bar",
            "x": shown,
            "y": list(values),
            "name": _label(group),
            "marker": {"color": COLORS[number % len(COLORS)]},
        }
        for number, (group, values) in enumerate(groups.items())
    ]
    upright = _axis(x, type="category", showgrid=False)
    return _to_html(name, traces, upright, _axis(y), barmode="group", showlegend=True)


def intervals(
    name: str,
    labels: Sequence[str],
    values: Sequence[float],
    bounds: Sequence[tuple[float, float] | None],
    *,
    x: str,
) -> Markup:
    """A row per label: a value, and the interval around it where there is one.

    Args:
        name: Of the figure, unique on its page.
        labels: (n,), from the top.
        values: (n,).
        bounds: (n,) lower and upper ends.
        x: Title of the values.
    """
    ends = [bound or (value, value) for bound, value in zip(bounds, values, strict=True)]
    trace = {
        "type": "scatter",
        "x": list(values),
        "y": [_label(label) for label in labels],
        "mode": "markers",
        "marker": {"size": 9, "color": COLORS[0]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [high - value for (_, high), value in zip(ends, values, strict=True)],
            "arrayminus": [value - low for (low, _), value in zip(ends, values, strict=True)],
        },
    }
    height = 100 + _ROW_HEIGHT * len(labels)
    rows = _axis(type="category", autorange="reversed")
    return _to_html(name, [trace], _axis(x, rangemode="tozero"), rows, height=height)


def heatmap(
    name: str,
    rows: Sequence[str],
    columns: Sequence[str],
    counts: ArrayLike,
    *,
    x: str,
    y: str,
) -> Markup:
    """Counts in a grid, darker the larger their share of their row.

    Args:
        name: Of the figure, unique on its page.
        rows: (n,), from the top.
        columns: (m,).
        counts: (n, m).
        x: Title of the columns.
        y: Title of the rows.
    """
    grid = np.asarray(counts)
    shares = grid / np.maximum(grid.sum(axis=1, keepdims=True), 1)
    trace = {
        "type": "heatmap",
        "x": [_label(label) for label in columns],
        "y": [_label(label) for label in rows],
        "z": shares.round(4).tolist(),
        "text": grid.tolist(),
        "texttemplate": "%{text}",
        "hovertemplate": "%{y} as %{x}: %{text} (%{z:.1%})<extra></extra>",
        "zmin": 0,
        "zmax": 1,
        "showscale": False,
        "colorscale": [[0, "#f5f7f9"], [1, _TILES[0]]],
        "xgap": 1,
        "ygap": 1,
    }
    return _to_html(
        name,
        [trace],
        _axis(x, type="category", showgrid=False, tickangle=45),
        _axis(y, type="category", showgrid=False, autorange="reversed"),
        height=240 + _ROW_HEIGHT * len(rows),
    )


def stacked_rows(
    name: str,
    labels: Sequence[str],
    parts: Mapping[str, Sequence[float]],
    *,
    x: str,
    are_shares: bool = False,
) -> Markup:
    """A row per label, made of named parts that stand behind one another.

    Args:
        name: Of the figure, unique on its page.
        labels: (n,), from the top.
        parts: Name of a part -> (n,) lengths.
        x: Title of the lengths.
        are_shares: The lengths are in [0, 1], to be read as percentages.
    """
    shown = [_label(label) for label in labels]
    traces = [
        {
            "type": "bar",
            "y": shown,
            "x": list(lengths),
            "name": _label(part),
            "orientation": "h",
            "marker": {"color": COLORS[number % len(COLORS)]},
        }
        for number, (part, lengths) in enumerate(parts.items())
    ]
    return _to_html(
        name,
        traces,
        _axis(x, **({"range": [0, 1], "tickformat": ".0%"} if are_shares else {})),
        _axis(type="category", showgrid=False, autorange="reversed"),
        height=120 + _ROW_HEIGHT * len(labels),
        barmode="stack",
        showlegend=True,
    )


def lines(
    name: str,
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x: str,
    y: str,
    log_x: bool = False,
    log_y: bool = False,
    are_points: bool = False,
) -> Markup:
    """Curves, or points, over shared axes.

    Args:
        name: Of the figure, unique on its page.
        series: Name -> (n,) places and (n,) heights.
        x: Title of the places.
        y: Title of the heights.
        log_x: Whether places are spread by magnitude; they are above 0 then.
        log_y: The same for heights.
        are_points: Draw points that are not joined.
    """
    traces = [
        {
            "type": "scatter",
            "x": np.asarray(places).tolist(),
            "y": np.asarray(heights).tolist(),
            "name": _label(part),
            "mode": "markers" if are_points else "lines+markers",
            "marker": {"size": 5},
            "line": {"color": COLORS[number % len(COLORS)]},
        }
        for number, (part, (places, heights)) in enumerate(series.items())
    ]
    by_magnitude = {"type": "log", "dtick": 1}
    across = _axis(x, **(by_magnitude if log_x else {"type": "linear"}))
    upwards = _axis(y, **(by_magnitude if log_y else {"type": "linear"}))
    return _to_html(name, traces, across, upwards)


def treemap(
    name: str,
    ids: Sequence[str],
    parents: Sequence[str],
    labels: Sequence[str],
    values: Sequence[int],
    *,
    max_depth: int = 3,
) -> Markup:
    """Nested areas; a click opens one.

    Args:
        name: Of the figure, unique on its page.
        ids: (n,) unique.
        parents: (n,) an id each, "" for the root.
        labels: (n,) names to show.
        values: (n,) sizes; a parent's is at least the sum of its children's.
        max_depth: Levels that are drawn at once.
    """
    trace = {
        "type": "treemap",
        "ids": list(ids),
        "parents": list(parents),
        "labels": [_label(label) for label in labels],
        "values": list(values),
        "branchvalues": "total",
        "maxdepth": max_depth,
        "texttemplate": "%{label}<br>%{value:,}",
        "textfont": {"color": "#ffffff"},
        "hovertemplate": "%{label}<br>%{value:,} (%{percentParent:.1%})<extra></extra>",
        "marker": {"cornerradius": 3},
        "root": {"color": _ROOT_TILE},
        "tiling": {"pad": 2},
    }
    return _to_html(
        name,
        [trace],
        height=520,
        treemapcolorway=_TILES,
        extendtreemapcolors=False,
        uniformtext={"minsize": 10, "mode": "hide"},
    )


def tree(
    name: str,
    caption: str,
    nodes: pl.DataFrame,
    root: str,
    size: int,
    *,
    root_id: str = "",
    max_depth: int = 3,
) -> tuple[str, Markup]:
    """A tree as nested areas; its smallest nodes are left out where there are too many.

    Args:
        name: Of the figure, unique on its page.
        caption: What it shows.
        nodes: ``id``, ``parent`` (an id), ``name``, ``count`` and ``depth`` of each but the root.
        root: Name of the root.
        size: Items under the root.
        root_id: What its children call it.
        max_depth: Levels that are drawn at once.

    Returns:
        The caption, which says how many nodes are left out, and the figure.
    """
    num_left_out = max(0, nodes.height - _MAX_TILES)
    if num_left_out:
        caption += f" ({num_left_out:,} of the smallest are not drawn)"
        # a parent is at least as large as its children, and comes first where it is as large
        nodes = nodes.sort("count", "depth", descending=[True, False], maintain_order=True).head(
            _MAX_TILES
        )
    drawn = treemap(
        name,
        ["root", *(f"/{path}" for path in nodes["id"])],
        ["", *("root" if path == root_id else f"/{path}" for path in nodes["parent"])],
        [root, *nodes["name"]],
        [size, *nodes["count"]],
        max_depth=max_depth,
    )
    return caption, drawn


def _label(text: str) -> str:
    """A name from the data, as text to Plotly."""
    return escape(printable(text))


def _axis(title: str | None = None, **settings: Any) -> Parts:
    """An axis of a figure; without a title it names what stands along it by its ticks."""
    text = {} if title is None else {"text": title}
    return {**_AXIS, "title": {**text, "standoff": _STANDOFF}, **settings}


def _to_html(
    name: str,
    traces: Sequence[Parts],
    x: Parts | None = None,
    y: Parts | None = None,
    *,
    height: int = _HEIGHT,
    **layout: Any,
) -> Markup:
    axes = {} if x is None else {"xaxis": x, "yaxis": y}
    drawn = (traces, {**_LAYOUT, "height": height, **axes, **layout}, _CONFIG)
    arguments = ", ".join(map(_script_json, (f"figure-{name}", *drawn)))
    return Markup(
        f'<div style="height:{height}px; width:100%;">'
        f'<div id="{escape(f"figure-{name}")}" style="height:100%; width:100%;"></div>'
        f"<script>Plotly.newPlot({arguments});</script></div>"
    )


def _script_json(value: Any) -> str:
    """JSON that may stand in a script."""
    text = json.dumps(_known(value), ensure_ascii=False, separators=(",", ":"))
    return text.translate(_IN_SCRIPT)


def _known(value: Any) -> Any:
    """A value with None for numbers that are not finite, of which JSON has none."""
    if isinstance(value, Mapping):
        return {key: _known(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
