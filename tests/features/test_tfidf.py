"""TF-IDF of words and pairs against the formula, in any script."""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse

from hidvae.features.tfidf import TfidfVocabulary


def tfidf_of(texts: list[str]) -> sparse.csr_array:
    return TfidfVocabulary.learn(texts).vectors(texts)


def test_weights_are_the_formula() -> None:
    texts = ["Red nail; RED", "red-nail", "nail 12", "soap", *["x"] * 6]
    found = tfidf_of(texts)
    # "x" stands in more than a fifth of ten texts, "12", "soap", "nail 12", "nail red" and
    # "red red" in one, "nail" in three: "red" and "red nail" are left.
    assert found.shape == (10, 2)
    red, pair = (1 + math.log(2)) * (1 + math.log(11 / 3)), 1 + math.log(11 / 3)
    norm = math.hypot(red, pair)
    np.testing.assert_allclose(found[[0]].toarray()[0], [red / norm, pair / norm], rtol=1e-6)
    np.testing.assert_allclose(found[[1]].toarray()[0], [math.sqrt(0.5)] * 2, rtol=1e-6)
    assert found[[2, 3, 4]].nnz == 0


def test_scripts_without_spaces_share_neighbouring_characters() -> None:
    vectors = tfidf_of(["口红颜色", "红颜", "色红", "rød", "RØD"]).toarray()
    near = vectors @ vectors.T
    assert near[0, 1] > near[0, 2] >= 0 == near[0, 3]
    np.testing.assert_allclose(near[3, 4], 1.0, rtol=1e-6)


def test_pairs_do_not_cross_texts() -> None:
    assert tfidf_of(["x b", "c y", "z b", "c w"]).shape[1] == 2  # b and c, no "b c"


def test_nothing_to_say_is_no_column() -> None:
    assert tfidf_of([]).shape == (0, 0)
    assert tfidf_of(["", "!", "unlike", "others"]).shape == (4, 0)
