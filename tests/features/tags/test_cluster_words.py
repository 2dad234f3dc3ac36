from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from hidvae.data.catalogue import Catalogue
from hidvae.features.tags.cluster_words import name_by_words, words_to_name_by

CatalogueOf = Callable[..., Catalogue]
TWO = [np.array([-1, -1])]


def names_of(
    texts: list[str | None], tags: list[int], parents: list[np.ndarray] = TWO
) -> list[str]:
    ids = np.array(tags)[:, None]
    names, _ = name_by_words(ids, parents, pl.Series(texts, dtype=pl.String), seed=0)
    return names[0]


def test_the_words_that_tell_a_cluster_from_its_sibling_name_it() -> None:
    texts = [
        *["Shampoo with Argan for hair"] * 3,
        "Conditioner with Argan for hair",
        *["Lipstick with colour for lips 12oz"] * 2,
        *["Nail-polish with colour for nails, 5 oz"] * 2,
    ]
    first, second = names_of(texts, [0, 0, 0, 0, 1, 1, 1, 1])
    assert first == "argan, hair, shampoo"
    assert second.startswith("colour, ")
    assert not {"with", "for", "oz", "12oz", "nail"} & set(second.split(", "))


def test_a_word_counts_once_per_item() -> None:
    unique = [" ".join(f"w{row}x{word}" for word in range(10)) for row in range(6)]
    said = ["soap " * 20 + "comb", "soap comb", "comb", "fork", "fork", "fork"]
    texts = [f"{own} {others}" for own, others in zip(said, unique, strict=True)]
    assert names_of(texts, [0, 0, 0, 1, 1, 1]) == ["comb, soap", "fork"]


def test_a_word_of_one_item_names_nothing() -> None:
    texts = ["comb unique", "comb", "fork", "fork rare"]
    assert names_of(texts, [0, 0, 1, 1]) == ["comb", "fork"]


def test_unspaced_scripts_give_pairs_of_characters() -> None:
    texts = ["美味火锅", "火锅 show", "滑雪，教程", "滑雪show"]
    assert names_of(texts, [0, 0, 1, 1]) == ["火锅", "滑雪"]
    kana = ["ラーメン", "ラーメン", "猫", "猫"]
    first, second = names_of(kana, [0, 0, 1, 1])
    assert set(first.split(", ")) == {"ラー", "ーメ", "メン"}
    assert second == "Cluster 1"


def test_siblings_with_the_same_best_words_get_more_of_them() -> None:
    words = ["aaa bbb ccc ddd", "aaa bbb ccc eee", *["fff"], *["ggg"], *["hhh"], *["iii"]]
    texts = [word for word in words for _ in range(2)]
    names = names_of(texts, np.repeat(np.arange(6), 2).tolist(), [np.full(6, -1)])
    assert len(set(names)) == 6


def test_names_of_siblings_differ_even_if_their_items_say_the_same() -> None:
    texts = ["aaa bbb ccc"] * 4 + ["xxx"] * 20
    tags = [0, 0, 1, 1] + np.repeat(np.arange(2, 12), 2).tolist()
    names = names_of(texts, tags, [np.full(12, -1)])
    assert len(set(names)) == 12
    assert "aaa, bbb, ccc" in names and "Cluster 1" in names


def test_paths_join_the_names_and_numbers_count_from_the_parent() -> None:
    ids = np.array([[0, 0], [0, 1], [1, 2], [1, 3]])
    parents = [np.array([-1, -1]), np.array([0, 0, 1, 1])]
    names, paths = name_by_words(ids, parents, None, seed=0)
    assert names == [
        ["Cluster 0", "Cluster 1"],
        ["Cluster 0.0", "Cluster 0.1", "Cluster 1.0", "Cluster 1.1"],
    ]
    assert paths[0] == names[0]
    assert paths[1][2] == "Cluster 1 > Cluster 1.0"


def test_children_are_compared_with_their_siblings_only() -> None:
    texts = ["hair comb"] * 2 + ["hair brush"] * 2 + ["face comb"] * 2 + ["face mask"] * 2
    ids = np.stack([np.repeat([0, 1], 4), np.repeat([0, 1, 2, 3], 2)], axis=1)
    names, paths = name_by_words(
        ids, [np.array([-1, -1]), np.array([0, 0, 1, 1])], pl.Series(texts), seed=0
    )
    assert [name.split(", ")[0] for name in names[0]] == ["hair", "face"]
    assert names[1] == ["comb", "brush", "comb", "mask"]  # neither "hair" nor "face"
    assert paths[1] == [f"{names[0][tag // 2]} > {name}" for tag, name in enumerate(names[1])]


def test_items_without_words_are_no_obstacle() -> None:
    assert names_of(["comb", None, "comb", "", "12", "fork", "fork"], [0, 0, 0, 1, 1, 1, 1]) == [
        "comb",
        "fork",
    ]
    assert names_of([None, "", "1", "?"], [0, 0, 1, 1]) == ["Cluster 0", "Cluster 1"]


def test_words_come_from_the_text_columns_and_else_from_text(catalogue_of: CatalogueOf) -> None:
    catalogue = catalogue_of(
        title=["Comb", None, None],
        keywords=[["a", "b"], None, ["c"]],
        price=[1.5, 2, 3],
        text=["x"] * 3,
    )
    words = words_to_name_by(catalogue, ("title", "keywords", "price", "missing"))
    assert words is not None and words.to_list() == ["Comb . a, b", "", "c"]
    words = words_to_name_by(catalogue, ("missing",))
    assert words is not None and words.to_list() == ["x"] * 3
    assert words_to_name_by(catalogue_of(price=[1, 2]), ("price",)) is None


@pytest.mark.parametrize("cap", [3, 1000])
def test_large_clusters_are_sampled_without_changing_clear_names(
    cap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hidvae.features.tags.cluster_words._ITEMS_PER_CLUSTER", cap)
    texts = ["comb"] * 50 + ["fork"] * 7
    assert names_of(texts, [0] * 50 + [1] * 7) == ["comb", "fork"]
    assert all(a != b for a, b in pairwise(names_of(texts, [0] * 50 + [1] * 7)))
