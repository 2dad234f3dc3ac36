"""Facts as rows of text, which the plain view and the page both show."""

from __future__ import annotations

from collections.abc import Sequence

from hidvae.apps.show.dataset_facts import Column, Count, DatasetFacts, Distribution, Hierarchy
from hidvae.apps.show.formats import number, percent, short

Row = tuple[str, ...]

LONGEST_LABEL = 40

LEVEL_HEADER: Row = ("", "items", "coverage", "classes", "of one item", "largest class")
COLUMN_HEADER: Row = ("column", "missing", "distinct", "such as")


def size_rows(facts: DatasetFacts) -> list[Row]:
    """Users, items, events, and how full the matrix of users and items is."""
    return [
        ("num_users", number(facts.num_users)),
        ("num_items", number(facts.num_items)),
        ("num_events", number(facts.num_events)),
        ("density", f"{facts.density:.4%}"),
        ("sparsity", f"{1 - facts.density:.4%}"),
    ]


def count_rows(counts: Sequence[Count]) -> list[Row]:
    """Name, value, share and meaning of the counts above zero."""
    return [
        (
            count.name,
            number(count.value),
            "" if count.share is None else f"{percent(count.share)} of {count.whole}",
            count.meaning,
        )
        for count in counts
        if count.value
    ]


def zero_names(counts: Sequence[Count]) -> str:
    """Names of the counts that are zero, in one line."""
    return ", ".join(count.name for count in counts if not count.value)


def spread_rows(numbers: Distribution) -> list[Row]:
    """Quartiles and mean."""
    quartiles = " · ".join(number(value) for value in numbers.quartiles)
    return [("min, quartiles, max", quartiles), ("mean", f"{numbers.mean:.2f}")]


def popularity_rows(facts: DatasetFacts) -> list[Row]:
    """How unevenly the items share the events."""
    popularity = facts.popularity
    half = popularity.num_for_half
    return [
        *spread_rows(popularity.events),
        *(
            (f"top {name} of items", f"{percent(share)} of events")
            for name, share in popularity.top_shares.items()
        ),
        ("half of the events", f"on {number(half)} items ({percent(half / facts.num_items)})"),
    ]


def depth_rows(depth: Distribution) -> list[Row]:
    """Share of items whose category path is at least so long."""
    deepest = int(depth.values[-1])
    if not deepest:
        return [("category path", "on no item")]
    return [
        (f"category path >= {length}", f"{percent(depth.share_at_least(length))} of items")
        for length in range(1, deepest + 1)
    ]


def level_rows(hierarchy: Hierarchy) -> list[Row]:
    """A row per level, as ``LEVEL_HEADER`` says."""
    return [
        (
            level.name,
            number(level.num_tagged),
            percent(level.coverage),
            number(level.num_classes),
            number(level.num_singletons),
            percent(level.majority_share),
        )
        for level in hierarchy.levels
    ]


def class_rows(hierarchy: Hierarchy, num_shown: int) -> list[Row]:
    """The largest and the smallest classes of every level, by name with their items."""
    rows: list[Row] = []
    for level in hierarchy.levels:
        ends = {"largest": level.largest(num_shown), "smallest": level.smallest(num_shown)}
        for end, classes in ends.items():
            if classes:
                listed = " · ".join(
                    f"{short(name, LONGEST_LABEL)} {number(count)}" for name, count in classes
                )
                rows.append((f"{level.name}, {end}", listed))
    return rows


def source_rows(hierarchy: Hierarchy) -> list[Row]:
    """A header, then a row per level: items by what gave them their tag. Empty if unknown."""
    names = list(dict.fromkeys(name for level in hierarchy.levels for name in level.sources))
    if not names:
        return []
    return [
        ("tags from", *names),
        *(
            (level.name, *(number(level.sources.get(name, 0)) for name in names))
            for level in hierarchy.levels
        ),
    ]


def column_rows(columns: Sequence[Column]) -> list[Row]:
    """A row per column, as ``COLUMN_HEADER`` says."""
    return [
        (
            column.name,
            percent(column.missing_share),
            number(column.num_distinct),
            column.example,
        )
        for column in columns
    ]
