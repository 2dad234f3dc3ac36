"""The item graph's scores against the formula, item by item."""

from __future__ import annotations

import numpy as np
import pytest

from hidvae.data.interactions import Sequences
from hidvae.errors import ConfigError, DataError, ShapeError
from hidvae.features.item_graph import ItemGraph, normalized_cooccurrence
from hidvae.features.tfidf import TfidfVocabulary

TRAIN = Sequences.from_lists([[0, 1, 2, 3], [2, 1, 4], [3, 4, 0]])
N = 6
TEXTS = ["red nail", "polish", "red shampoo", "", "dry shampoo", "nail"]
TFIDF = TfidfVocabulary.learn(TEXTS).vectors(TEXTS)
SETTINGS = {
    "max_distance": 2,
    "two_hop_weight": 0.7,
    "content_weight": 0.3,
    "word_weight": 0.2,
    "num_latest": 2,
    "decay": 0.5,
}


def graph(**changes: float) -> ItemGraph:
    content = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
    return ItemGraph(TRAIN, N, content, TFIDF, **{**SETTINGS, **changes})  # type: ignore[arg-type]


def test_scores_are_the_formula() -> None:
    content = np.random.default_rng(0).normal(size=(N, 4))
    unit = content / np.linalg.norm(content, axis=1, keepdims=True)
    links = normalized_cooccurrence(TRAIN, N, 2).toarray()
    query = np.zeros(N)
    query[4], query[1] = 1.0, 0.5  # the history's first item is too old to count
    expected = query @ links + 0.7 * query @ links @ links + 0.3 * query @ unit @ unit.T
    expected += 0.2 * query @ TFIDF.toarray() @ TFIDF.toarray().T
    found = graph().scores(Sequences.from_lists([[0, 1, 4], []]))
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    assert not found[1].any()


def test_an_item_without_words_gains_nothing_from_them() -> None:
    with_words, without = graph(), graph(word_weight=0.0)
    history = Sequences.from_lists([[3], [5]])
    gained = with_words.scores(history) - without.scores(history)
    assert not gained[0].any()
    assert gained[1, 5] > gained[1, 0] > 0 == gained[1, 3] == gained[1, 4]


def test_bad_settings_and_inputs_are_refused() -> None:
    with pytest.raises(ConfigError, match="decay"):
        graph(decay=0.0)
    with pytest.raises(ConfigError, match="max_distance"):
        graph(max_distance=0)
    with pytest.raises(DataError, match=r"items in \[0, 3\)"):
        normalized_cooccurrence(TRAIN, 3, 2)
    with pytest.raises(ShapeError, match="one row|item embeddings"):
        ItemGraph(TRAIN, N, np.ones((2, 2)), **SETTINGS)  # type: ignore[arg-type]
