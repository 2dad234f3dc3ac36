from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.features.tags.llm_samples import Shop, make_shop

from hidvae.errors import ShapeError
from hidvae.features.tags.from_llm import Candidates, with_known_parents


@pytest.fixture
def shop() -> Shop:
    return make_shop(20)


def candidates_of(shop: Shop) -> Candidates:
    return shop.candidates


def test_candidates_are_children_of_the_tag_above_nearest_first(shop: Shop) -> None:
    candidates = candidates_of(shop)
    rows = np.arange(20)
    for level in (0, 1, 2):
        nearest = candidates.nearest(shop.truth, level, rows, num_candidates=10)
        assert [tags[0] for tags in nearest] == shop.truth[:, level].tolist()
        for item, tags in enumerate(nearest):
            parent = shop.truth[item, level - 1] if level else -1
            children = np.flatnonzero(shop.vocabulary.parents[level] == parent).tolist()
            others = [t for t in children if shop.vocabulary.names[level][t] == "Other"]
            assert sorted(tags.tolist()) == sorted(set(children) - set(others))


def test_at_most_so_many_candidates_and_ties_by_tag_id(shop: Shop) -> None:
    flat = replace(shop, item_vectors=np.ones_like(shop.item_vectors))
    nearest = candidates_of(flat).nearest(shop.truth, 1, np.arange(20), num_candidates=2)
    for item, tags in enumerate(nearest):
        children = np.flatnonzero(shop.vocabulary.parents[1] == shop.truth[item, 0])
        assert tags.tolist() == children[:2].tolist()


def test_order_and_lengths_of_vectors_change_nothing(shop: Shop) -> None:
    rows = np.array([7, 3, 3, 12])
    scaled = replace(shop, item_vectors=shop.item_vectors * 100)
    some = candidates_of(scaled).nearest(shop.truth, 2, rows, 10)
    all_ = candidates_of(shop).nearest(shop.truth, 2, np.arange(20), 10)
    assert [tags.tolist() for tags in some] == [all_[row].tolist() for row in rows]


def test_items_are_open_where_the_tag_above_has_children(shop: Shop) -> None:
    candidates = candidates_of(shop)
    ids = shop.ids.copy()
    assert candidates.open_items(ids, 0).tolist() == list(range(20))
    assert candidates.open_items(ids, 1).size == 0  # nothing known above
    ids[0, 0] = 0  # Hair
    ids[1] = [0, shop.vocabulary.names[1].index("Dye"), -1]  # without children
    ids[2, 0] = shop.vocabulary.names[0].index("Other")
    assert candidates.open_items(ids, 0).tolist() == list(range(3, 20))
    assert candidates.open_items(ids, 1).tolist() == [0]
    assert candidates.open_items(ids, 2).size == 0


def test_a_known_tag_tells_those_above_it(shop: Shop) -> None:
    ids = shop.ids.copy()
    ids[:, 2] = shop.truth[:, 2]
    ids[0] = -1
    filled = with_known_parents(ids, shop.vocabulary)
    assert (filled[1:] == shop.truth[1:]).all() and (filled[0] == -1).all()
    assert (ids[:, :2] == -1).all()


def test_no_items(shop: Shop) -> None:
    assert candidates_of(shop).nearest(shop.truth, 1, np.zeros(0, np.int64), 3) == []


@pytest.mark.parametrize("part", ["ids", "item_vectors", "width", "level"])
def test_arrays_that_do_not_belong_together(shop: Shop, part: str) -> None:
    ids = shop.ids[:, :2] if part == "ids" else shop.ids
    items = shop.item_vectors[:5] if part == "item_vectors" else shop.item_vectors
    tags = shop.tag_vectors
    if part == "width":
        tags = [vectors[:, :4] for vectors in tags]
    if part == "level":
        tags = tags[:2]
    with pytest.raises(ShapeError, match="expected .* found "):
        Candidates(shop.vocabulary, shop.texts, items, tags).check_shapes(ids)
