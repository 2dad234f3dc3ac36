from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from tests.evaluation.protocols import protocols

from hidvae.data.interactions import Sequences
from hidvae.errors import ConfigError, DataError, ShapeError
from hidvae.evaluation.baselines import untrained
from hidvae.evaluation.baselines.item_to_item import Ease, ItemKnn
from hidvae.evaluation.baselines.untrained import ContentGraph, Popularity
from hidvae.features.item_graph import normalized_cooccurrence

TRAIN = Sequences.from_lists([[3, 1, 2], [3, 1], [3, 0]])  # counts: 1, 2, 1, 3, 0


def chain(num_items: int = 12, num_users: int = 40) -> Sequences:
    """Everybody walks 0, 1, 2, … a few steps from some start."""
    starts = np.random.default_rng(0).integers(0, num_items - 4, size=num_users)
    return Sequences.from_lists([np.arange(start, start + 4) for start in starts])


def random_log(num_users: int = 60, num_items: int = 30, seed: int = 1) -> Sequences:
    generator = np.random.default_rng(seed)
    return Sequences.from_lists(
        [generator.integers(0, num_items, size=generator.integers(1, 9)) for _ in range(num_users)]
    )


@pytest.fixture(params=["popularity", "content_graph", "transitions_only", "item_knn", "ease"])
def ranker(request):
    embeddings = np.random.default_rng(5).normal(size=(30, 8))
    return {
        "popularity": lambda: Popularity(random_log(), 30),
        "content_graph": lambda: ContentGraph(random_log(), 30, embeddings),
        "transitions_only": lambda: ContentGraph(random_log(), 30),
        "item_knn": lambda: ItemKnn(random_log(), 30, num_neighbours=5),
        "ease": lambda: Ease(random_log(), 30, regularisation=2.0),
    }[request.param]()


def test_excluding_lists_hold_no_history_and_are_full(ranker):
    histories = random_log(seed=2)
    ranking = protocols(ranker, histories, 20)
    for user in range(histories.num_users):
        excluding = ranking.excluding[user]
        assert not set(excluding) & set(histories[user].tolist())
        assert len(set(excluding.tolist())) == 20
        assert excluding.min() >= 0


def test_lists_are_the_same_in_blocks_and_in_any_order(ranker, monkeypatch):
    histories = random_log(seed=3)
    whole = protocols(ranker, histories, 10)
    monkeypatch.setattr(untrained, "_SCORES_PER_BLOCK", 7 * 30)
    order = np.random.default_rng(0).permutation(histories.num_users)
    blocks = protocols(ranker, histories.take(order), 10)
    assert (blocks.including == whole.including[order]).all()
    assert (blocks.excluding == whole.excluding[order]).all()


def test_lists_longer_than_the_catalogue_are_padded(ranker):
    ranking = protocols(ranker, Sequences.from_lists([[4, 4, 7]]), 35)
    assert sorted(ranking.including[0].tolist()) == [-1] * 5 + list(range(30))
    assert (ranking.excluding[0] == -1).sum() == 35 - 28


def test_nobody_and_an_empty_history(ranker):
    assert protocols(ranker, Sequences.from_lists([]), 5).including.shape == (0, 5)
    ranking = protocols(ranker, Sequences.from_lists([[]]), 5)
    assert ranking.including.min() >= 0
    assert (ranking.including == ranking.excluding).all()


def test_popularity_by_hand_with_ties_by_item_index():
    ranking = protocols(Popularity(TRAIN, 5), Sequences.from_lists([[3], []]), 5)
    assert ranking.including.tolist() == [[3, 1, 0, 2, 4]] * 2
    assert ranking.excluding.tolist() == [[1, 0, 2, 4, -1], [3, 1, 0, 2, 4]]


def test_transitions_by_hand():
    # users: 0 -> 1 -> 2 and 1 -> 1: links (0,1) 1, (1,2) 1, (0,2) 1/2; the repeat adds nothing
    matrix = normalized_cooccurrence(Sequences.from_lists([[0, 1, 2], [1, 1]]), 4, max_distance=5)
    degree = np.array([3 / 2, 2, 3 / 2])
    links = np.array([[0, 1, 1 / 2], [1, 0, 1], [1 / 2, 1, 0]])
    expected = np.zeros((4, 4))
    expected[:3, :3] = links / np.sqrt(np.outer(degree, degree))
    np.testing.assert_allclose(matrix.toarray(), expected, rtol=1e-6)


def test_transitions_do_not_cross_users_and_respect_the_distance():
    matrix = normalized_cooccurrence(Sequences.from_lists([[0, 1, 2], [3, 4]]), 5, max_distance=1)
    assert sorted(zip(*sparse.triu(matrix).nonzero(), strict=True)) == [(0, 1), (1, 2), (3, 4)]


def test_scores_are_the_documented_formula():
    train = random_log()
    generator = np.random.default_rng(4)
    embeddings = generator.normal(size=(30, 6))
    graph = ContentGraph(
        train, 30, embeddings, two_hop_weight=0.3, content_weight=0.7, num_latest=2, decay=0.5
    )
    query = np.zeros(30)
    query[9], query[4] = 1.0, 0.5
    links = graph.graph.cooccurrence.toarray()
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    expected = query @ (links + 0.3 * links @ links + 0.7 * unit @ unit.T)
    scores = graph.scores(Sequences.from_lists([[17, 4, 9]]))
    np.testing.assert_allclose(scores[0], expected, rtol=1e-4, atol=1e-6)


def test_content_graph_finds_the_planted_next_item():
    graph = ContentGraph(chain(), 12, max_distance=1, two_hop_weight=0.0)
    histories = Sequences.from_lists([[2, 3, 4], [5, 6]])
    assert protocols(graph, histories, 1).excluding[:, 0].tolist() == [5, 7]


def test_content_reaches_an_item_that_nobody_has_seen():
    embeddings = np.eye(12)
    embeddings[11] = embeddings[0]
    train = Sequences.from_lists([[0, 1], [2, 3]])
    without, with_content = (ContentGraph(train, 12, given) for given in (None, embeddings))
    history = Sequences.from_lists([[0]])
    assert 11 not in protocols(without, history, 3).excluding
    assert 11 in protocols(with_content, history, 3).excluding


def test_items_without_text_are_similar_to_nothing():
    graph = ContentGraph(TRAIN, 5, np.zeros((5, 3)))
    plain = ContentGraph(TRAIN, 5)
    history = Sequences.from_lists([[1]])
    assert (graph.scores(history) == plain.scores(history)).all()


def test_wrong_input_is_refused():
    with pytest.raises(DataError, match=r"items in \[0, 3\), found 3"):
        Popularity(TRAIN, 3)
    with pytest.raises(ShapeError, match=r"\(5, D\), found \(4, 2\)"):
        ContentGraph(TRAIN, 5, np.ones((4, 2)))
    with pytest.raises(ConfigError, match="decay"):
        ContentGraph(TRAIN, 5, decay=0.0)
    with pytest.raises(ConfigError, match="num_latest"):
        ContentGraph(TRAIN, 5, num_latest=0)
