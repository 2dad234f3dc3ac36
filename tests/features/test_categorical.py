from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hidvae.data.catalogue import Catalogue
from hidvae.errors import ConfigError, DataError
from hidvae.features.categorical import multi_hot

CatalogueOf = Callable[..., Catalogue]


def test_values_of_scalar_and_list_columns_become_features(catalogue_of: CatalogueOf) -> None:
    catalogue = catalogue_of(
        color=["red", "blue", "red", None], tag_ids=[[1, 2], [2, 2], [], [1, 7]]
    )
    block, names = multi_hot(catalogue, ("color", "tag_ids"))
    assert names == ["color=red", "tag_ids=1", "tag_ids=2"]
    np.testing.assert_array_equal(block, [[1, 1, 1], [0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert block.dtype == np.float32


def test_values_on_one_item_or_on_all_make_no_feature(catalogue_of: CatalogueOf) -> None:
    catalogue = catalogue_of(kind=[["all", "some"], ["all", "some"], ["all", "once"]])
    assert multi_hot(catalogue, ("kind",))[1] == ["kind=some"]


def test_no_column_gives_no_feature(catalogue_of: CatalogueOf) -> None:
    block, names = multi_hot(catalogue_of(title=["A", "B"]), ())
    assert block.shape == (2, 0)
    assert names == []


def test_a_column_that_does_not_exist_names_those_that_do(catalogue_of: CatalogueOf) -> None:
    with pytest.raises(ConfigError, match="item_id, categories, title; found 'colour'"):
        multi_hot(catalogue_of(title=["A"]), ("colour",))


def test_a_column_without_a_feature_is_named(catalogue_of: CatalogueOf) -> None:
    with pytest.raises(DataError, match="column title: expected.*found 2 values"):
        multi_hot(catalogue_of(title=["A", "B"]), ("title",))
