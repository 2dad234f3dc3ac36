from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hidvae.data.catalogue import Catalogue
from hidvae.data.schema import check_items
from hidvae.errors import DataError
from hidvae.features.tags import from_categories
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
    _, vocabulary = tags_of(catalogue_of, paths, num_levels=1)
    assert vocabulary.names == [names]


def test_equal_joined_paths_of_different_labels_stay_apart(catalogue_of: CatalogueOf) -> None:
    plain = [["D", "E"], ["D", "F"], ["G", "H"]]  # most, so that an arrow is part of a label
    ids, _ = tags_of(catalogue_of, [["A > B", "C"], ["A", "B > C"], *plain], num_levels=2)
    assert len({row[1] for row in ids}) == 5


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


def test_missing_paths_are_unknown_where_allowed(catalogue_of: CatalogueOf) -> None:
    ids, _ = tags_of(catalogue_of, [["A"], None, [], ["B"]], num_levels=1)
    assert ids == [[0], [-1], [-1], [1]]


def test_no_path_anywhere_names_the_way_out(catalogue_of: CatalogueOf) -> None:
    for catalogue in (
        catalogue_of(title=["A", "B"]),
        catalogue_of(categories=[None, []]),
        Catalogue(pl.DataFrame({"item_id": ["i"]})),
    ):
        with pytest.raises(DataError, match=r"--set TagConfig\.source=clusters"):
            tags_from_categories(catalogue, num_levels=2)


DEEP = [
    ["Shop", "Men", "Shoes", "Boots", "Brown"],
    ["Shop", "Men", "Shoes", "Slippers", "Brown"],
    ["Shop", "Women", "Shoes", "Boots"],
    ["Shop", "Women", "Hats"],
    ["Shop", "Men"],
]


def test_depths_choose_the_levels(catalogue_of: CatalogueOf) -> None:
    ids, vocabulary = tags_of(catalogue_of, DEEP, num_levels=2, depths=(1, 3))
    assert vocabulary.names == [["Men", "Women"], ["Boots", "Slippers", "Boots"]]
    assert vocabulary.paths[1][2] == "Women > Shoes > Boots"  # the label between is in the path
    assert vocabulary.parents[1].tolist() == [0, 0, 1]
    assert ids == [[0, 0], [0, 1], [1, 2], [1, -1], [0, -1]]


def test_a_label_left_out_still_tells_tags_apart(catalogue_of: CatalogueOf) -> None:
    ids, vocabulary = tags_of(catalogue_of, DEEP, num_levels=2, depths=(2, 4))
    assert vocabulary.paths[0] == ["Men > Shoes", "Women > Hats", "Women > Shoes"]
    assert vocabulary.names[1] == ["Brown", "Brown"]  # of boots and of slippers
    assert ids == [[0, 0], [0, 1], [2, -1], [1, -1], [-1, -1]]


def test_the_first_depths_that_differ_are_the_default(catalogue_of: CatalogueOf) -> None:
    default = tags_of(catalogue_of, DEEP, num_levels=3)
    explicit = tags_of(catalogue_of, DEEP, num_levels=3, depths=(1, 2, 3))
    assert explicit[0] == default[0]
    assert explicit[1].to_frame().equals(default[1].to_frame())


def test_the_root_can_be_asked_for(catalogue_of: CatalogueOf) -> None:
    _, vocabulary = tags_of(catalogue_of, DEEP, num_levels=2, depths=(0, 1))
    assert vocabulary.paths == [["Shop"], ["Shop > Men", "Shop > Women"]]


def test_depths_below_every_path_are_refused(catalogue_of: CatalogueOf) -> None:
    with pytest.raises(DataError, match=r"TagConfig\.depths: .* 0 to 4 here; found 5"):
        tags_of(catalogue_of, DEEP, num_levels=2, depths=(1, 5))


SPARSE = [
    *[["A", "x", "p"]] * 2,
    ["A", "y", "p"],
    ["A", "z", "p"],
    ["B", "x", "p"],
    ["B", "x", "q"],
]


def test_items_alone_in_their_class_lose_it_and_all_below(
    catalogue_of: CatalogueOf,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(from_categories, "MAX_SINGLETONS", 1)
    with caplog.at_level(logging.WARNING):
        ids, vocabulary = tags_of(catalogue_of, SPARSE, num_levels=3)
    assert ids == [[0, 0, 0], [0, 0, 0], [0, -1, -1], [0, -1, -1], [1, 1, -1], [1, 1, -1]]
    assert vocabulary.paths[1:] == [["A > x", "B > x"], ["A > x > p"]]
    assert vocabulary.parents[1].tolist() == [0, 1]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "level 1" in lines[0] and "found 2 of 4 classes; these items get no tag" in lines[0]
    assert "level 2" in lines[1] and "found 2 of 3 classes" in lines[1]


def test_singletons_within_the_limit_or_merged_stay(
    catalogue_of: CatalogueOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tags_of(catalogue_of, SPARSE, num_levels=3)
    monkeypatch.setattr(from_categories, "MAX_SINGLETONS", 4)
    limited = tags_of(catalogue_of, SPARSE, num_levels=3)
    assert limited[0] == plain[0]
    merged = tags_of(catalogue_of, SPARSE, num_levels=3, min_count=2)
    monkeypatch.setattr(from_categories, "MAX_SINGLETONS", 0)
    assert tags_of(catalogue_of, SPARSE, num_levels=3, min_count=2)[0] == merged[0]


def test_items_without_a_path_are_no_singletons(
    catalogue_of: CatalogueOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_categories, "MAX_SINGLETONS", 0)
    ids, _ = tags_of(catalogue_of, [["A"], ["A"], None], num_levels=1)
    assert ids == [[0], [0], [-1]]


@pytest.mark.shared_data
def test_beauty_has_the_classes_it_always_had() -> None:
    root = os.environ.get("HIDVAE_DATA")
    file = Path(root or "") / "amazon-beauty-2014" / "items.parquet"
    if not root or not file.is_file():
        pytest.skip("set HIDVAE_DATA to a folder that holds amazon-beauty-2014")
    items = check_items(pl.read_parquet(file), "items")
    ids, vocabulary = tags_from_categories(Catalogue(items), num_levels=3)
    assert vocabulary.sizes == [6, 40, 157]
    by_depth, _ = tags_from_categories(Catalogue(items), num_levels=3, depths=(1, 2, 3))
    np.testing.assert_array_equal(by_depth, ids)
    assert [round(float(share), 4) for share in (ids >= 0).mean(axis=0)] == [1, 0.9914, 0.8566]
