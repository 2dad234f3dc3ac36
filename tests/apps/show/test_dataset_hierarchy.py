from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.apps.show.conftest import ITEMS

from hidvae.apps.show.dataset_facts import Hierarchy, Level
from hidvae.apps.show.dataset_hierarchy import hierarchy_of_categories, hierarchy_of_tags
from hidvae.store.artifacts import read_stage


def classes(hierarchy: Hierarchy) -> list[list[tuple[str, int]]]:
    return [level.largest(9) for level in hierarchy.levels]


def test_categories_by_depth() -> None:
    hierarchy, labels = hierarchy_of_categories(pl.DataFrame(ITEMS))
    assert classes(hierarchy) == [[("Home", 5)], [("Light", 2), ("Seats", 2)], [("Pine", 1)]]
    assert [level.coverage for level in hierarchy.levels] == [5 / 6, 4 / 6, 1 / 6]
    assert [level.num_singletons for level in hierarchy.levels] == [0, 0, 1]
    assert [level.majority_share for level in hierarchy.levels] == [1, 1 / 2, 1]
    assert labels.row(3) == ("Home", "Seats", "Pine")
    assert labels.row(5) == (None, None, None)
    assert not hierarchy.is_made


def test_no_categories_at_all() -> None:
    items = pl.DataFrame({"categories": [None, None]}, schema={"categories": pl.List(pl.String)})
    hierarchy, labels = hierarchy_of_categories(items)
    assert list(hierarchy.levels) == []
    assert hierarchy.nodes.is_empty()
    assert labels.height == 2


def test_equal_labels_under_different_parents_are_different_classes() -> None:
    paths = [["A", "Other"], ["B", "Other"], ["B", "Other"], ["A > B", "x"], ["A", "B > x"]]
    hierarchy, _ = hierarchy_of_categories(pl.DataFrame({"categories": paths}))
    assert classes(hierarchy)[1] == [("Other", 2), ("B > x", 1), ("Other", 1), ("x", 1)]
    assert hierarchy.nodes["id"].n_unique() == hierarchy.nodes.height == 3 + 4


def test_nodes_are_a_tree_whose_parents_hold_their_children(
    run: Path, add_tags: Callable[..., None]
) -> None:
    add_tags()
    made, _ = hierarchy_of_tags(read_stage(run / "tags", produced_by="hidvae tag"))
    found, _ = hierarchy_of_categories(pl.DataFrame(ITEMS))
    for nodes in (made.nodes, found.nodes):
        counts = dict(nodes.select("id", "count").iter_rows())
        sums = nodes.filter(pl.col("parent") != "").group_by("parent").agg(pl.col("count").sum())
        assert sums.height
        for parent, total in sums.iter_rows():
            assert total <= counts[parent]


def test_tags_of_a_run(run: Path, add_tags: Callable[..., None]) -> None:
    add_tags()
    hierarchy, labels = hierarchy_of_tags(read_stage(run / "tags", produced_by="hidvae tag"))
    assert hierarchy.is_made
    assert classes(hierarchy) == [
        [("Seats", 3), ("Light", 2)],
        [("Lamps", 2), ("Oak", 1), ("Pine", 1)],
    ]
    assert [level.num_tagged for level in hierarchy.levels] == [5, 4]
    assert labels.row(5) == ("Seats", None)
    assert [level.sources for level in hierarchy.levels] == [{}, {}]


def test_a_tag_below_an_unknown_one_is_a_class_but_no_part_of_the_tree(
    run: Path, add_tags: Callable[..., None]
) -> None:
    add_tags(ids=[[0, 0], [0, 0], [1, 1], [1, 2], [-1, 2], [-1, -1]])
    hierarchy, _ = hierarchy_of_tags(read_stage(run / "tags", produced_by="hidvae tag"))
    assert classes(hierarchy)[1] == [("Lamps", 2), ("Pine", 2), ("Oak", 1)]
    nodes = hierarchy.nodes.filter(depth=1).select("name", "count").rows()
    assert nodes == [("Lamps", 2), ("Oak", 1), ("Pine", 1)]


def test_sources_are_counted_where_they_are_written_down(
    run: Path, add_tags: Callable[..., None]
) -> None:
    add_tags(with_sources=True)
    hierarchy, _ = hierarchy_of_tags(read_stage(run / "tags", produced_by="hidvae tag"))
    assert [level.sources for level in hierarchy.levels] == [
        {"category": 4, "llm": 1, "unknown": 1},
        {"category": 3, "unknown": 2, "llm": 1},
    ]


def test_classes_without_items_are_classes_but_no_singletons() -> None:
    classes = pl.DataFrame({"path": ["a", "b", "c"], "name": ["a", "b", "c"], "count": [4, 1, 0]})
    level = Level("level 0", 10, classes, {})
    assert (level.num_classes, level.num_singletons, level.num_tagged) == (3, 1, 5)
    assert (level.coverage, level.majority_share) == (5 / 10, 4 / 5)
    assert level.smallest(2) == [("c", 0)]
    empty = Level("level 1", 10, classes.clear(), {})
    assert (empty.coverage, empty.majority_share, empty.largest(2)) == (0, 0, [])


@pytest.mark.parametrize("shown", [1, 2, 3])
def test_no_class_is_both_large_and_small(
    shown: int, run: Path, add_tags: Callable[..., None]
) -> None:
    add_tags()
    hierarchy, _ = hierarchy_of_tags(read_stage(run / "tags", produced_by="hidvae tag"))
    level = hierarchy.levels[1]
    both = level.largest(shown) + level.smallest(shown)
    assert len(both) == len(set(both)) == min(2 * shown, 3)
    assert both[-1] == ("Pine", 1)
