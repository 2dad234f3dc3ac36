from __future__ import annotations

import numpy as np
import pytest

from hidvae.data.prepare import Dataset
from hidvae.data.sources.demo import Demo, demo_words, generate_demo


def test_same_seed_same_frames(demo_truth: Demo) -> None:
    again = generate_demo(120, 200, seed=7)
    assert again.items.equals(demo_truth.items)
    assert again.interactions.equals(demo_truth.interactions)
    assert np.array_equal(again.successors, demo_truth.successors)
    other = generate_demo(120, 200, seed=8)
    assert not other.items.equals(demo_truth.items)
    assert not other.interactions.equals(demo_truth.interactions)


@pytest.mark.parametrize("num_items", [60, 600, 4000])
def test_titles_are_distinct_and_the_hierarchy_is_a_tree(num_items: int) -> None:
    demo = generate_demo(num_items, 10)
    assert demo.items.height == num_items
    assert demo.items["title"].n_unique() == num_items
    assert demo.items["item_id"].n_unique() == num_items
    paths = demo.items["categories"].to_list()
    assert all(len(path) == 4 and path[0] == demo_words()["root"] for path in paths)
    for level in (1, 2, 3):
        parents: dict[str, set[str]] = {}
        for path in paths:
            parents.setdefault(path[level], set()).add(path[level - 1])
        assert all(len(found) == 1 for found in parents.values()), f"level {level}"
    assert len({path[1] for path in paths}) == min(
        max(2, num_items // 60), len(demo_words()["departments"])
    )


def test_histories_have_5_to_30_events(demo_dataset: Dataset) -> None:
    lengths = demo_dataset.interactions.sequences.lengths
    assert lengths.min() == 5
    assert lengths.max() <= 30
    assert demo_dataset.interactions.sequences.num_users == 200


def test_successors_stand_on_the_next_shelf_and_in_another_aisle(demo_truth: Demo) -> None:
    paths = np.array(demo_truth.items["categories"].to_list())
    first, second = paths[demo_truth.successors[:, 0]], paths[demo_truth.successors[:, 1]]
    assert (first[:, 2] == paths[:, 2]).all()
    assert (first[:, 3] != paths[:, 3]).all()
    assert (second[:, 1] == paths[:, 1]).all()
    assert (second[:, 2] != paths[:, 2]).all()
    aisles = dict(zip(demo_truth.aisle.tolist(), paths[:, 2].tolist(), strict=True))
    assert [aisles[a] for a in demo_truth.aisle.tolist()] == paths[:, 2].tolist()


def test_users_keep_to_their_tastes(demo_truth: Demo) -> None:
    assert np.allclose(demo_truth.tastes.sum(axis=1), 1)
    assert ((demo_truth.tastes > 0).sum(axis=1) == 3).all()
    first = demo_truth.interactions.unique("user_id", keep="first", maintain_order=True)
    row_of = {item: row for row, item in enumerate(demo_truth.items["item_id"])}
    for user, item, _ in first.iter_rows():  # the first event is always drawn by taste
        assert demo_truth.tastes[int(user[1:]), demo_truth.aisle[row_of[item]]] > 0


def test_the_rule_beats_popularity_clearly(demo_dataset: Dataset, demo_truth: Demo) -> None:
    split = demo_dataset.split
    last = split.test_histories.padded(1)[:, 0]
    by_rule = (demo_truth.successors[last] == split.test_targets[:, None]).any(axis=1).mean()
    counts = np.bincount(split.train.items, minlength=demo_dataset.catalogue.num_items)
    by_popularity = np.isin(split.test_targets, np.argsort(-counts)[:10]).mean()
    assert by_rule > 0.5
    assert by_popularity < 0.5 * by_rule
