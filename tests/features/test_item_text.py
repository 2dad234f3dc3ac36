from __future__ import annotations

from collections.abc import Callable

import pytest

from hidvae.config import EmbeddingConfig
from hidvae.data.catalogue import Catalogue
from hidvae.errors import ConfigError, DataError
from hidvae.features.item_text import item_texts

CatalogueOf = Callable[..., Catalogue]
COLUMNS = EmbeddingConfig().text_columns
PATHS = [["Beauty", "Nails"], ["Beauty", "Hair"]]


def test_columns_are_spoken_in_order_where_filled(catalogue_of: CatalogueOf) -> None:
    catalogue = catalogue_of(
        price=[3.5, None], title=["Lip\n stick ", "Comb"], brand=["Acme", " "], categories=PATHS
    )
    assert item_texts(catalogue, COLUMNS) == [
        "Title: Lip stick; Brand: Acme; Price: 3.5",
        "Title: Comb",
    ]


def test_nan_is_not_spoken_and_lists_and_numbers_are(catalogue_of: CatalogueOf) -> None:
    catalogue = catalogue_of(price=[float("nan"), 2.0], sales_tags=[[1, 2], None])
    assert item_texts(catalogue, ("price", "sales_tags")) == ["Sales tags: 1, 2", "Price: 2.0"]


def test_without_any_text_column_the_text_speaks_without_its_categories(
    catalogue_of: CatalogueOf,
) -> None:
    catalogue = catalogue_of(
        text=["Title: A; Categories: ['Beauty', 'Nails']; Price: 1", "Category: Hair; a comb"],
        categories=PATHS,
    )
    assert item_texts(catalogue, COLUMNS) == ["Title: A; Price: 1", "a comb"]


def test_columns_that_nobody_fills_fall_back_to_text(catalogue_of: CatalogueOf) -> None:
    catalogue = catalogue_of(title=[None, None], text=["one", "two"])
    assert item_texts(catalogue, COLUMNS) == ["one", "two"]


def test_an_item_that_fills_no_column_takes_its_own_text(catalogue_of: CatalogueOf) -> None:
    catalogue = catalogue_of(
        title=["A", None], text=["long", "Title: ?; Categories: [x]; Price: ?"]
    )
    assert item_texts(catalogue, COLUMNS) == ["Title: A", "Title: ?; Price: ?"]


def test_the_text_column_can_be_asked_for(catalogue_of: CatalogueOf) -> None:
    catalogue = catalogue_of(title=["A", "B"], text=["one; Categories: [x]; more", "two"])
    assert item_texts(catalogue, ("title", "text")) == ["Title: A; one; more", "Title: B; two"]


def test_no_label_of_the_path_reaches_the_text(catalogue_of: CatalogueOf) -> None:
    catalogue = catalogue_of(
        title=["Polish", None], text=["x", "Categories: ['Beauty', 'Hair']; y"], categories=PATHS
    )
    spoken = " ".join(item_texts(catalogue, COLUMNS))
    assert not any(label in spoken for path in PATHS for label in path)


def test_categories_as_a_text_column_are_refused(catalogue_of: CatalogueOf) -> None:
    with pytest.raises(ConfigError, match="categories.*measured on its own input"):
        item_texts(catalogue_of(title=["A"]), ("title", "categories"))


def test_items_without_a_text_are_empty_if_any_has_one(catalogue_of: CatalogueOf) -> None:
    catalogue = catalogue_of(title=["A", None, None], text=["x", None, "Categories: [y]"])
    assert item_texts(catalogue, COLUMNS) == ["Title: A", "", ""]
    silent = catalogue_of(title=[None, " "], text=[None, "Categories: [y]"])
    with pytest.raises(DataError, match="in one of title, text; found none in 2 items"):
        item_texts(silent, COLUMNS)
    assert item_texts(silent, COLUMNS, allow_none=True) == ["", ""]


def test_equal_texts_are_refused(catalogue_of: CatalogueOf) -> None:
    with pytest.raises(DataError, match="found 'Title: A' for all 2 items"):
        item_texts(catalogue_of(title=["A", "A"]), COLUMNS)


def test_no_usable_column_names_those_found(catalogue_of: CatalogueOf) -> None:
    with pytest.raises(DataError, match="title.*found item_id, categories, color; set Embedding"):
        item_texts(catalogue_of(color=["red"]), COLUMNS)
