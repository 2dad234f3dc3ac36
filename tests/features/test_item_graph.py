"""The item graph's scores against the formula, item by item."""

from __future__ import annotations

import numpy as np
import pytest

from hidvae.data.interactions import Sequences
from hidvae.errors import ConfigError, DataError, ShapeError
from hidvae.features.item_graph import ItemGraph, normalized_transitions

TRAIN = Sequences.from_lists([[0, 1, 2, 3], [2, 1, 4], [3, 4, 0]])
N = 6
SETTINGS = {
    "max_distance": 2,
    "two_hop_weight": 0.7,
    "content_weight": 0.3,
    "label_weight": 0.2,
    "num_latest": 2,
    "decay": 0.5,
}


def graph(**changes: float) -> ItemGraph:
    content = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
    labels = [np.array([0, 0, 1, -1, -1, 1]), np.array([2, 1, 2, 1, 0, 0])]
    return ItemGraph(TRAIN, N, content, labels, **{**SETTINGS, **changes})  # type: ignore[arg-type]


def test_scores_are_the_formula() -> None:
    content = np.random.default_rng(0).normal(size=(N, 4))
    unit = content / np.linalg.norm(content, axis=1, keepdims=True)
    links = normalized_transitions(TRAIN, N, 2).toarray()
    labels = [np.array([0, 0, 1, -1, -1, 1]), np.array([2, 1, 2, 1, 0, 0])]
    query = np.zeros(N)
    query[4], query[1] = 1.0, 0.5  # the history's first item is too old to count
    expected = query @ links + 0.7 * query @ links @ links + 0.3 * query @ unit @ unit.T
    for label in labels:
        same = (label[:, None] == label) & (label >= 0)
        expected += 0.2 * query @ same
    found = graph().scores(Sequences.from_lists([[0, 1, 4], []]))
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    assert not found[1].any()


def test_unknown_labels_are_not_equal() -> None:
    with_labels, without = graph(), graph(label_weight=0.0)
    history = Sequences.from_lists([[3]])
    gained = (with_labels.scores(history) - without.scores(history))[0]
    np.testing.assert_allclose(gained, [0, 0.2, 0, 0.2, 0, 0], atol=1e-6)  # by the second label


def test_bad_settings_and_inputs_are_refused() -> None:
    with pytest.raises(ConfigError, match="decay"):
        graph(decay=0.0)
    with pytest.raises(ConfigError, match="max_distance"):
        graph(max_distance=0)
    with pytest.raises(DataError, match=r"items in \[0, 3\)"):
        normalized_transitions(TRAIN, 3, 2)
    with pytest.raises(ShapeError, match="one row|item embeddings"):
        ItemGraph(TRAIN, N, np.ones((2, 2)), **SETTINGS)  # type: ignore[arg-type]
