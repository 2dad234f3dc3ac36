"""Filters: kept without exception, and k items wherever k may be recommended."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hidvae.errors import ConfigError, DataError
from hidvae.features.tags.vocabulary import TagVocabulary
from hidvae.ranking.filters import (
    Filters,
    ItemTagIndex,
    TagLimit,
    chosen,
    diversified,
    pool_for,
    within_limit,
)
from hidvae.ranking.recommender import Recommender


@pytest.fixture(scope="module")
def recommender(tiny_run: Path) -> Recommender:
    return Recommender.load(tiny_run, device="cpu")


@pytest.fixture(scope="module")
def history(recommender: Recommender) -> list[str]:
    return [recommender.catalogue.item_ids[index] for index in (3, 50, 17, 90, 3, 41)]


def tags_of(recommender: Recommender, item_ids: list[str], level: int) -> list[int]:
    rows = recommender.catalogue.index_of(item_ids)
    return recommender.item_tags.tag_ids[rows, level].tolist()


def paths(recommender: Recommender) -> list[tuple[int, int, str]]:
    """Level, tag and path of every tag."""
    return [
        (level, tag, path)
        for level, of_level in enumerate(recommender.tags.paths)
        for tag, path in enumerate(of_level)
    ]


# --- lists --------------------------------------------------------------------------------------


def test_only_under_a_path_and_all_that_is_there(
    recommender: Recommender, history: list[str]
) -> None:
    for level, tag, path in paths(recommender):
        there = np.flatnonzero(recommender.item_tags.tag_ids[:, level] == tag)
        new = set(there.tolist()) - set(recommender.catalogue.index_of(history).tolist())
        found = recommender.recommend(history, len(new) + 3, filters=Filters(under=(path,)))
        names = [each.item_id for each in found]
        assert set(recommender.catalogue.index_of(names).tolist()) == new, path
        assert len(names) == len(set(names))


def test_several_paths_are_either_or_and_others_are_left_out(
    recommender: Recommender, history: list[str]
) -> None:
    level, tag, path = paths(recommender)[0]
    inner_level, inner, inner_path = next(
        each for each in paths(recommender) if each[0] == 1 and each[2].startswith(path)
    )
    filters = Filters(under=(path,), not_under=(inner_path.upper(),))
    names = [each.item_id for each in recommender.recommend(history, 20, filters=filters)]
    assert set(tags_of(recommender, names, level)) == {tag}
    assert inner not in tags_of(recommender, names, inner_level)
    everything = Filters(under=tuple(path for level, _, path in paths(recommender) if level == 0))
    with_all = recommender.recommend(history, 10, filters=everything)
    assert [each.item_id for each in with_all] == [
        each.item_id for each in recommender.recommend(history, 10)
    ]


def test_items_that_are_not_wanted_are_replaced_by_the_next(
    recommender: Recommender, history: list[str]
) -> None:
    plain = [each.item_id for each in recommender.recommend(history, 12, beam_width=120)]
    filters = Filters(without=(plain[0], plain[4]))
    found = [
        each.item_id for each in recommender.recommend(history, 10, filters=filters, beam_width=120)
    ]
    assert set(found) == set(plain) - {plain[0], plain[4]}


@pytest.mark.parametrize(("most", "level"), [(1, 0), (2, 0), (1, 1), (3, 2)])
def test_no_tag_has_more_than_its_share(
    most: int, level: int, recommender: Recommender, history: list[str]
) -> None:
    filters = Filters(most_per_tag=most, tag_level=level)
    found = recommender.recommend(history, 60, filters=filters)
    tags = tags_of(recommender, [each.item_id for each in found], level)
    assert max(Counter(tag for tag in tags if tag >= 0).values()) == most
    # As many as there can be: every tag's share of its new items, and all items without a tag.
    seen = recommender.catalogue.index_of(history)
    left = np.delete(recommender.item_tags.tag_ids[:, level], np.unique(seen))
    possible = sum(
        count if tag < 0 else min(count, most) for tag, count in Counter(left.tolist()).items()
    )
    assert len(found) == min(60, possible)


def test_diversity_mixes_tags_and_breaks_no_order(
    recommender: Recommender, history: list[str]
) -> None:
    def kinds(penalty: float, **filters: Any) -> list[int]:
        found = recommender.recommend(history, 10, filters=Filters(diversity=penalty, **filters))
        assert len(found) == len({each.item_id for each in found}) == 10
        return tags_of(recommender, [each.item_id for each in found], 1)

    plain, mixed = kinds(0.0), kinds(50.0)
    assert len(set(mixed)) > len(set(plain))
    assert max(Counter(kinds(50.0, most_per_tag=2, tag_level=1)).values()) <= 2


def test_nothing_left_is_an_empty_list(recommender: Recommender, history: list[str]) -> None:
    _, _, path = paths(recommender)[0]
    assert (
        recommender.recommend(history, 5, filters=Filters(under=(path,), not_under=(path,))) == []
    )


def test_probabilities_stay_those_of_the_whole_catalogue(
    recommender: Recommender, history: list[str]
) -> None:
    _, _, path = paths(recommender)[0]
    free = {
        each.item_id: each.prob
        for each in recommender.recommend(history, 100, exclude_history=False, beam_width=120)
    }
    for each in recommender.recommend(history, 5, filters=Filters(under=(path,))):
        assert each.prob == pytest.approx(free[each.item_id], rel=1e-4)


# --- bad filters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["under", "not_under"])
def test_a_path_that_does_not_exist_names_the_nearest(
    order: str, recommender: Recommender, history: list[str]
) -> None:
    _, _, path = paths(recommender)[-1]
    for wrong in (path + "x", path.rpartition(" > ")[2]):
        with pytest.raises(DataError, match="tag path") as error:
            recommender.recommend(history, 5, filters=Filters(**{order: (wrong,)}))  # type: ignore[arg-type]
        assert repr(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_orders_out_of_range_are_one_line(recommender: Recommender, history: list[str]) -> None:
    with pytest.raises(ConfigError, match="from 0 to 2; found 7"):
        recommender.recommend(history, 5, filters=Filters(most_per_tag=1, tag_level=7))
    with pytest.raises(ConfigError, match="at least 0; found -1"):
        Filters(most_per_tag=-1)
    with pytest.raises(ConfigError, match="expected a list; found the text 'Garden'"):
        Filters(under="Garden")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="'nothing'"):
        recommender.recommend(history, 5, filters=Filters(without=("nothing",)))


# --- parts --------------------------------------------------------------------------------------


def test_a_predicted_tag_counts_where_the_catalogue_knows_none_and_does_not_contradict() -> None:
    vocabulary = TagVocabulary(
        names=[["A", "B"], ["x", "y"]],
        paths=[["A", "B"], ["A > x", "B > y"]],
        parents=[np.array([-1, -1]), np.array([0, 1])],
        counts=[np.array([1, 1]), np.array([1, 1])],
    )
    own = np.array([[0, 0], [1, -1], [-1, -1], [0, -1]])
    predicted = np.array([[1, 1], [1, 1], [0, 0], [1, 1]])
    index = ItemTagIndex(vocabulary, own, predicted)
    assert index.tag_ids.tolist() == [[0, 0], [1, 1], [0, 0], [0, -1]]
    assert index.is_under("a>x").tolist() == [True, False, True, False]
    assert own[2, 0] == -1, "the catalogue's table is left as it is"


def test_only_the_first_of_every_tag_are_within_its_limit() -> None:
    tags = np.array([[0, 0, 1, -1, -1, 1], [2, 2, 2, 0, 2, -1]])
    assert within_limit(tags, 1).tolist() == [
        [True, False, True, True, True, False],
        [True, False, False, True, False, True],
    ]
    assert within_limit(tags, 2).tolist() == [[True] * 6, [True, True, False, True, False, True]]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_diverse_list_is_full_if_its_pool_is_as_long_as_it_says(most: int) -> None:
    rng = np.random.default_rng(most)
    for _ in range(50):
        tag_ids = rng.integers(-1, 5, (60, 1))
        limit = TagLimit(tag_ids[:, 0], most)
        filters = Filters(diversity=1.0, most_per_tag=most)
        size, of_pool = pool_for(8, filters, limit)
        assert of_pool is not None
        order = rng.permutation(60)
        pool = order[within_limit(of_pool.tags[order][None], of_pool.most)[0]][None, :size]
        scores = -np.arange(pool.shape[1])[None].astype(np.float32)
        (places,) = chosen(pool, scores, 8, filters, tag_ids, limit)
        counts = Counter(tag_ids[pool[0, places], 0].tolist())
        assert all(count <= most for tag, count in counts.items() if tag >= 0)
        of_tag = Counter(tag_ids[:, 0].tolist())
        possible = sum(n if tag < 0 else min(n, most) for tag, n in of_tag.items())
        assert len(places) == min(8, possible)


def test_a_diverse_order_is_the_greedy_one() -> None:
    tag_ids = np.array([[0, 0], [0, 0], [0, 1], [1, 2], [-1, -1], [-1, -1]])
    items = np.array([[0, 1, 2, 3, 4, -1], [4, 5, 0, -1, -1, -1]])
    scores = np.array(
        [[5.0, 4.9, 4.5, 4.2, 1.0, -np.inf], [3.0, 2.0, 1.0, -np.inf, -np.inf, -np.inf]]
    )
    # 0; then 3 (4.2), 2 (4.5 - .5), 1 (4.9 - 1), 4, which is like nothing, and the padding.
    assert diversified(items, scores, tag_ids, 1.0).tolist() == [
        [0, 3, 2, 1, 4, 5],
        [0, 1, 2, 3, 4, 5],
    ]
    assert diversified(items, scores, tag_ids, 0.0).tolist() == [[0, 1, 2, 3, 4, 5]] * 2
