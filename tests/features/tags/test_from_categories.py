from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from hidvae.data.catalogue import Catalogue
from hidvae.errors import DataError
from hidvae.features.tags.from_categories import tags_from_categories
from hidvae.features.tags.vocabulary import TagVocabulary

CatalogueOf = Callable[..., Catalogue]
PATHS = [
    ["Shop", "Hair", "Combs"],
    ["Shop", "Hair", "Brushes", "Round"],
    ["Shop", "Face"],
    ["Shop", "Hair", "Combs"],
    ["Shop", "Face", "Combs"],
]


def tags_of(
    catalogue_of: CatalogueOf, paths: list[Any], **settings: Any
) -> tuple[list[list[int]], TagVocabulary]:
    ids, vocabulary = tags_from_categories(catalogue_of(categories=paths), **settings)
    return ids.tolist(), vocabulary


def test_levels_are_prefixes_below_the_shared_root(catalogue_of: CatalogueOf) -> None:
    ids, vocabulary = tags_of(catalogue_of, PATHS, num_levels=2)
    assert ids == [[1, 2], [1, 1], [0, -1], [1, 2], [0, 0]]
    assert vocabulary.names == [["Face", "Hair"], ["Combs", "Brushes", "Combs"]]
    assert vocabulary.paths[1] == ["Face > Combs", "Hair > Brushes", "Hair > Combs"]
    assert [parents.tolist() for parents in vocabulary.parents] == [[-1, -1], [0, 1, 1]]
    assert [counts.tolist() for counts in vocabulary.counts] == [[2, 3], [1, 1, 2]]
    assert vocabulary.sizes == [2, 3]


def test_the_parent_of_an_items_tag_is_its_tag_one_level_up(catalogue_of: CatalogueOf) -> None:
    generator = np.random.default_rng(0)
    paths = [
        ["root", *(str(label) for label in generator.integers(0, 3, generator.integers(1, 5)))]
        for _ in range(200)
    ]
    ids, vocabulary = tags_from_categories(catalogue_of(categories=paths), num_levels=3)
    for level in (1, 2):
        known = ids[:, level] >= 0
        parents = vocabulary.parents[level][ids[known, level]]
        np.testing.assert_array_equal(parents, ids[known, level - 1])
        assert vocabulary.paths[level] == sorted(vocabulary.paths[level])
    for row, path in enumerate(paths):
        depth = int((ids[row] >= 0).sum())
        assert depth == min(len(path) - 1, 3)
        assert vocabulary.paths[depth - 1][ids[row, depth - 1]] == " > ".join(path[1:4])


def test_levels_deeper_than_every_path_are_empty(catalogue_of: CatalogueOf) -> None:
    ids, vocabulary = tags_of(catalogue_of, [["A"], ["B"]], num_levels=3)
    assert ids == [[0, -1, -1], [1, -1, -1]]
    assert vocabulary.sizes == [2, 0, 0]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([["A", "B"], ["A", "C"]], ["B", "C"]),  # one root
        ([["A", "B", "C"], ["A", "B", "D"]], ["C", "D"]),  # two constant levels
        ([["A"], ["A", "C"]], ["C"]),  # an item that has only the root
        ([["A", "B"], ["A", "B"]], ["B"]),  # all alike: the deepest stays
        ([["A"], ["B"]], ["A", "B"]),  # no root
        ([["A", "B"], None], ["B"]),  # items without a path have no say
        ([["A", "B", "C"], ["A", "B"], ["A"]], ["B"]),  # B is not shared by all
    ],
)
def test_constant_leading_levels_are_skipped(
    paths: list[list[str] | None], names: list[str], catalogue_of: CatalogueOf
) -> None:
    _, vocabulary = tags_of(catalogue_of, paths, num_levels=1, allow_missing=True)
    assert vocabulary.names == [names]


def test_equal_joined_paths_of_different_labels_stay_apart(catalogue_of: CatalogueOf) -> None:
    ids, _ = tags_of(catalogue_of, [["A > B", "C"], ["A", "B > C"], ["D", "E"]], num_levels=2)
    assert len({row[1] for row in ids}) == 3


def test_a_path_ends_before_a_blank_label() -> None:
    paths = [["R", "A", None, "X"], ["R", " "], ["R", "B", "C"]]
    catalogue = Catalogue(pl.DataFrame({"item_id": ["i", "j", "k"], "categories": paths}))
    ids, vocabulary = tags_from_categories(catalogue, num_levels=2)
    assert ids.tolist() == [[0, -1], [-1, -1], [1, 0]]
    assert vocabulary.names == [["A", "B"], ["C"]]


def test_rare_tags_are_merged_into_one_last_class(catalogue_of: CatalogueOf) -> None:
    paths = [["A", "x"]] * 3 + [["A", "y"]] + [["B", "x"]] + [["C"]] * 2
    ids, vocabulary = tags_of(catalogue_of, paths, num_levels=2, min_count=2)
    assert vocabulary.names == [["A", "C", "Other"], ["x", "Other"]]
    assert ids == [[0, 0]] * 3 + [[0, 1]] + [[2, 1]] + [[1, -1]] * 2
    assert [parents.tolist() for parents in vocabulary.parents] == [[-1, -1, -1], [0, -1]]
    assert [counts.tolist() for counts in vocabulary.counts] == [[4, 2, 1], [3, 2]]


def test_without_rare_tags_there_is_no_other(catalogue_of: CatalogueOf) -> None:
    _, vocabulary = tags_of(catalogue_of, [["A"], ["A"], ["B"], ["B"]], num_levels=1, min_count=2)
    assert vocabulary.names == [["A", "B"]]


def test_missing_paths_are_refused_by_name(catalogue_of: CatalogueOf) -> None:
    with pytest.raises(DataError) as caught:
        tags_of(catalogue_of, [["A"], None, [], ["B"]], num_levels=1)
    message = str(caught.value)
    assert "none on 2 of 4 items, first item_id 'i1' (row 2), 'i2' (row 3)" in message
    assert "--set TagConfig.missing_categories=unknown" in message


def test_missing_paths_are_unknown_where_allowed(catalogue_of: CatalogueOf) -> None:
    ids, _ = tags_of(catalogue_of, [["A"], None, [], ["B"]], num_levels=1, allow_missing=True)
    assert ids == [[0], [-1], [-1], [1]]


@pytest.mark.parametrize("allow_missing", [True, False])
def test_no_path_anywhere_names_the_way_out(allow_missing: bool, catalogue_of: CatalogueOf) -> None:
    for catalogue in (
        catalogue_of(title=["A", "B"]),
        catalogue_of(categories=[None, []]),
        Catalogue(pl.DataFrame({"item_id": ["i"]})),
    ):
        with pytest.raises(DataError, match=r"--set TagConfig\.source=none"):
            tags_from_categories(catalogue, num_levels=2, allow_missing=allow_missing)
