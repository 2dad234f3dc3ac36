from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from hidvae.data.catalogue import Catalogue
from hidvae.errors import DataError


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(
        pl.DataFrame(
            {
                "item_id": ["lamp-1", "lamp-2", "desk-1", "vase-1"],
                "title": ["Desk lamp", None, None, None],
                "keywords": ["ignored", "lamp bright", None, None],
                "text": ["ignored", "ignored", "d" * 100, None],
            }
        )
    )


def test_index_of_is_the_inverse_of_item_ids(catalogue: Catalogue) -> None:
    index = catalogue.index_of(["desk-1", "lamp-1", "desk-1"])
    assert index.dtype == np.int64
    assert [catalogue.item_ids[i] for i in index] == ["desk-1", "lamp-1", "desk-1"]
    assert catalogue.index_of([]).shape == (0,)
    assert catalogue.index_of(catalogue.item_ids).tolist() == list(range(catalogue.num_items))


def test_unknown_ids_name_the_nearest(catalogue: Catalogue) -> None:
    with pytest.raises(DataError, match="2 unknown, first 'desk-l'; did you mean 'desk-1'"):
        catalogue.index_of(["lamp-1", "desk-l", "?"])
    with pytest.raises(DataError, match="first 'QQQQ'; ids look like 'lamp-1'"):
        catalogue.index_of(["QQQQ"])


def test_titles_fall_back_to_keywords_text_and_id(catalogue: Catalogue) -> None:
    assert catalogue.titles == ["Desk lamp", "lamp bright", "d" * 80, "vase-1"]
    assert Catalogue(pl.DataFrame({"item_id": ["a"]})).titles == ["a"]
