"""A dataset as one web page: the rows of the plain view, with plots; it only formats."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from markupsafe import Markup

from hidvae.apps.show import dataset_rows as rows
from hidvae.apps.show.dataset_facts import DatasetFacts, Distribution, Hierarchy
from hidvae.apps.show.figures import bars, lines, plotly_script, stacked_rows, tree
from hidvae.apps.show.formats import number, short
from hidvae.apps.show.page import Section, figures, heading, page, paragraph, table

_ROOT = "all items"
_MAX_POINTS = 300
_SHOWN_CLASSES = 10


def dataset_page(facts: DatasetFacts) -> str:
    """The page, whole; it loads nothing from anywhere."""
    script = plotly_script()
    settings = ", ".join(f"{name}={value}" for name, value in facts.settings.items())
    introduction = [
        paragraph(
            f"{number(facts.num_users)} users, {number(facts.num_items)} items, "
            f"{number(facts.num_events)} events."
            + (f" Settings other than the defaults: {settings}." if settings else "")
        ),
        *(paragraph(note) for note in facts.notes),
    ]
    sections = [
        Section("Sizes", [table(rows.size_rows(facts), numbers=(1,))]),
        Section("Counted by prepare", list(_counts(facts))),
        Section("Events per user", list(_lengths(facts))),
        Section("Events per item", list(_popularity(facts))),
        Section(facts.hierarchy.title.capitalize(), list(_hierarchy(facts))),
        Section("Columns of the items", list(_columns(facts))),
        Section("Some items", list(_items(facts))),
        Section("Some users", list(_users(facts))),
    ]
    shown = [section for section in sections if section.parts]
    return page(f"Dataset {facts.name}", introduction, shown, script)


def _counts(facts: DatasetFacts) -> Iterator[Markup]:
    for title, counts in (
        ("Left out, mended, repeated", facts.counts),
        ("Ties: events of one user at the same time", facts.ties),
    ):
        if counts:
            yield heading(title)
        if found := rows.count_rows(counts):
            yield table(found, ("", "count", "share", "meaning"), numbers=(1, 2))
        if zeros := rows.zero_names(counts):
            yield paragraph(f"None: {zeros}")


def _lengths(facts: DatasetFacts) -> Iterator[Markup]:
    yield table(rows.spread_rows(facts.lengths))
    bins = facts.lengths.bins(16)
    histogram = bars(
        "lengths",
        [entry.label for entry in bins],
        [entry.count for entry in bins],
        x="events of the user",
        y="users",
    )
    places, users = _at_least(facts.lengths)
    reached = lines(
        "positions", {"users": (places, users)}, x="position in the history", y="users", log_y=True
    )
    yield figures(
        [
            ("Users by their number of events", histogram),
            ("Users whose history reaches a position", reached),
        ]
    )


def _popularity(facts: DatasetFacts) -> Iterator[Markup]:
    popularity = facts.popularity
    yield table(rows.popularity_rows(facts))
    taken = popularity.events.values > 0
    spread = lines(
        "popularity",
        {"items": (popularity.events.values[taken], popularity.events.counts[taken])},
        x="events of the item",
        y="items",
        log_x=True,
        log_y=True,
        are_points=True,
    )
    has_events = popularity.events_at_rank > 0
    ranked = lines(
        "ranks",
        {"events": (popularity.ranks[has_events], popularity.events_at_rank[has_events])},
        x="rank of the item",
        y="events of the item",
        log_x=True,
        log_y=True,
    )
    yield figures([("Items by their number of events", spread), ("Events by rank", ranked)])


def _hierarchy(facts: DatasetFacts) -> Iterator[Markup]:
    hierarchy = facts.hierarchy
    if hierarchy.is_made:
        yield table(rows.depth_rows(facts.category_depth))
    if not any(level.num_classes for level in hierarchy.levels):
        yield paragraph("None: no item has one.")
        return
    yield table(rows.level_rows(hierarchy), rows.LEVEL_HEADER, numbers=range(1, 6))
    yield figures([_tiles(hierarchy, facts.num_items)])
    yield figures(list(_class_figures(hierarchy)))
    yield table(rows.class_rows(hierarchy, _SHOWN_CLASSES))
    if sources := rows.source_rows(hierarchy):
        yield table(sources[1:], sources[0], numbers=range(1, len(sources[0])))


def _tiles(hierarchy: Hierarchy, num_items: int) -> tuple[str, Markup]:
    """The tree of tags by area."""
    nodes = hierarchy.nodes
    root, root_path, size = _ROOT, "", num_items
    if (top := nodes.filter(depth=0)).height == 1:  # a root of its own
        root_path, root, size = top.select("id", "name", "count").row(0)
        nodes = nodes.filter(pl.col("depth") > 0)
    names = pl.Series([short(name, rows.LONGEST_LABEL) for name in nodes["name"]], dtype=pl.String)
    nodes = nodes.with_columns(name=names)
    caption = f"Items by their {hierarchy.title}; a click opens a tile"
    root = short(root, rows.LONGEST_LABEL)
    return tree("tree", caption, nodes, root, size, root_id=root_path)


def _class_figures(hierarchy: Hierarchy) -> Iterator[tuple[str, Markup]]:
    sizes = {
        level.name: _thinned(level.classes.filter(pl.col("count") > 0)["count"].to_numpy())
        for level in hierarchy.levels
        if level.num_tagged
    }
    yield (
        "Class sizes per level",
        lines("classes", sizes, x="rank of the class", y="items", log_x=True, log_y=True),
    )
    names = [level.name for level in hierarchy.levels]
    parts = list(dict.fromkeys(name for level in hierarchy.levels for name in level.sources))
    covered: dict[str, list[float]]
    if parts:
        covered = {
            part: [level.sources.get(part, 0) for level in hierarchy.levels] for part in parts
        }
    else:
        covered = {
            "known": [level.num_tagged for level in hierarchy.levels],
            "unknown": [level.num_items - level.num_tagged for level in hierarchy.levels],
        }
    title = "Where the tags come from" if parts else "Coverage"
    yield title, stacked_rows("coverage", names, covered, x="items")


def _columns(facts: DatasetFacts) -> Iterator[Markup]:
    missing = {"missing": [column.missing_share for column in facts.columns]}
    names = [column.name for column in facts.columns]
    yield figures(
        [
            (
                "Items that lack it",
                stacked_rows("missing", names, missing, x="share of items", are_shares=True),
            )
        ]
    )
    yield table(rows.column_rows(facts.columns), rows.COLUMN_HEADER, numbers=(1, 2))


def _items(facts: DatasetFacts) -> Iterator[Markup]:
    for item in facts.items:
        yield heading(item.title)
        yield table(
            [
                ("item_id", item.item_id),
                (facts.hierarchy.title, " > ".join(item.tags) or "none"),
                ("events", number(item.num_events)),
                *item.fields.items(),
            ]
        )


def _users(facts: DatasetFacts) -> Iterator[Markup]:
    for user in facts.users:
        yield heading(f"{user.user_id}, {number(user.num_events)} events")
        yield table(user.latest, ("used for", "item"))


def _at_least(numbers: Distribution) -> tuple[np.ndarray, np.ndarray]:
    """(n,) numbers and how many things reach each."""
    reaching = numbers.counts[::-1].cumsum()[::-1]
    shown = np.unique(np.linspace(0, reaching.size - 1, _MAX_POINTS).round().astype(np.int64))
    return numbers.values[shown], reaching[shown]


def _thinned(falling: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) ranks from 1, closer at the start, and the numbers there."""
    ranks = np.unique(np.geomspace(1, falling.size, _MAX_POINTS).round().astype(np.int64))
    return ranks, falling[ranks - 1]
