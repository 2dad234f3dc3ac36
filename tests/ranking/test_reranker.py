"""The learned last step: what it reads, what it moves, and when it is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import sparse
from tests.ranking.test_graph_score import graph_score
from tests.retriever.tiny import MAX_HISTORY, make_retriever
from tests.stages import fit_stage

from hidvae.config import Config, GraphConfig, RerankerConfig, RunConfig
from hidvae.data.interactions import Sequences
from hidvae.errors import ArtifactError
from hidvae.evaluation.metrics import both_protocols
from hidvae.ranking import candidate_features as module
from hidvae.ranking import train_reranker
from hidvae.ranking.candidate_features import CandidateFeatures, followers_of
from hidvae.ranking.graph_score import GraphScore
from hidvae.ranking.recommender import Recommender
from hidvae.ranking.reranker import WEIGHTS, Reranker, RerankerNetwork, load_reranker
from hidvae.ranking.search import Found, search
from hidvae.ranking.sparse_rows import SparseRows
from hidvae.retriever.interface import ExactRetriever, Retriever
from hidvae.run.run import Run
from hidvae.store.artifacts import StageFolder, read_stage

N = 32
CANDIDATES = 8
TRAIN = Sequences.from_lists([[0, 1, 2, 3], [2, 1, 4], [5, 6, 7, 8, 9], [9, 0, 11, 12]])
CONFIG = Config(run=RunConfig(device="cpu"))


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hidvae.ranking.reranker.NUM_CANDIDATES", CANDIDATES)
    monkeypatch.setattr("hidvae.ranking.search.NUM_CANDIDATES", CANDIDATES)


def likeness() -> np.ndarray:
    vectors = np.random.default_rng(3).normal(size=(N, 4)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def content() -> np.ndarray:
    return np.random.default_rng(4).normal(size=(N, 6)).astype(np.float32)


def tfidf() -> sparse.csr_array:
    rng = np.random.default_rng(5)
    return sparse.csr_array((rng.random((N, 9)) * (rng.random((N, 9)) < 0.4)).astype(np.float32))


NO_CONTENT = (np.zeros((N, 0), np.float32), sparse.csr_array((N, 0), dtype=np.float32))


def make_features(has_content: bool = True) -> CandidateFeatures:
    followers = followers_of(TRAIN, N)
    if not has_content:
        return CandidateFeatures(followers, None, *NO_CONTENT)
    return CandidateFeatures(followers, likeness(), content(), tfidf())


def random_network(num_features: int, seed: int = 0) -> RerankerNetwork:
    torch.manual_seed(seed)
    network = RerankerNetwork(num_features).eval().requires_grad_(False)
    for weights in network.parameters():
        weights.normal_(std=0.7)
    return network


def make_reranker() -> Reranker:
    features = make_features()
    return Reranker(random_network(features.num_features), features)


def test_rows_add_up_as_the_matrix_says() -> None:
    rng = np.random.default_rng(0)
    dense = rng.random((6, 9)) * (rng.random((6, 9)) < 0.4)
    rows, weights = torch.from_numpy(rng.integers(0, 6, (4, 3))), torch.rand(4, 3, 2)
    rows[0] = 2  # more than once
    weights[1, 2] = 0
    matrix = SparseRows(sparse.csr_array(dense))
    sums = matrix.sums(rows, weights)
    wanted = np.einsum("bln,blc->bcn", weights.numpy(), dense[rows.numpy()])
    np.testing.assert_allclose(sums.numpy(), wanted, rtol=1e-5)
    dots = matrix.dots(sums, rows)
    wanted = np.einsum("bcn,blc->bln", wanted, dense[rows.numpy()])
    np.testing.assert_allclose(dots.numpy(), wanted, rtol=1e-5)
    empty = SparseRows(sparse.csr_array((6, 9), dtype=np.float32))
    assert empty.sums(rows, weights).shape == (4, 9, 2) and not empty.sums(rows, weights).any()
    assert empty.dots(sums, rows).shape == (4, 3, 2) and not empty.dots(sums, rows).any()


def test_what_follows_what_is_directed_and_damped_by_frequency() -> None:
    follows = followers_of(Sequences.from_lists([[0, 1, 2], [0, 2], [3]]), 4).toarray()
    # 0 is followed by 1 once, by 2 at one step and at two: 1 + 1 / 2; 1 by 2 once.
    counts = np.array([[0, 1, 1.5, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    scale = np.sqrt(np.outer([2.5, 1, np.inf, np.inf], [np.inf, 1, 2.5, np.inf]))
    np.testing.assert_allclose(follows, counts / scale, rtol=1e-6)


def test_of_a_row_the_largest_entries_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = followers_of(TRAIN, N).toarray()
    monkeypatch.setattr(module, "NUM_NEIGHBOURS", 2)
    kept = followers_of(TRAIN, N).toarray()
    for row in range(N):
        largest = np.lexsort([np.arange(N), -whole[row]])[:2]
        np.testing.assert_array_equal(kept[row, largest], whole[row, largest])
        assert np.count_nonzero(kept[row]) == min(2, np.count_nonzero(whole[row]))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("has_content", [True, False])
@pytest.mark.parametrize("words_at_once", [1 << 24, 9])
def test_the_features_are_those_written_down(
    has_content: bool, words_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WORDS_AT_ONCE", words_at_once)
    features = make_features(has_content)
    asked = Sequences.from_lists([[5, 2, 9], [1]])
    history = torch.from_numpy(asked.padded(3))
    items = torch.tensor([[0, 11, 31], [2, 3, 30]])
    log_probs = torch.tensor([[-1.0, -2.0, -3.0], [-4.0, -5.0, -6.0]])
    found = features(history, items, log_probs).numpy()
    assert found.shape == (2, 3, features.num_features) == (2, 3, 14 if has_content else 6)
    follows = followers_of(TRAIN, N).toarray()
    kinds = [unit(likeness()) @ unit(likeness()).T, unit(content()) @ unit(content()).T]
    words = (tfidf() @ tfidf().T).toarray()
    for user, read in enumerate(([9, 2, 5], [1])):
        rows, weights = items[user].numpy(), module.DECAY ** np.arange(len(read))
        wanted = [log_probs[user], np.full(3, np.log(len(read)))]
        for matrix in (follows, follows.T):
            for of_history in (weights @ matrix[read], matrix[read[0]]):
                wanted.append(np.log(of_history + module.SMOOTHING)[rows])
        if has_content:
            for matrix in kinds:
                near = matrix[np.ix_(read, rows)]
                wanted += [weights @ near, near[0], near.max(axis=0)]
            near = words[np.ix_(read, rows)]
            wanted += [weights @ near, near[0]]
        np.testing.assert_allclose(found[user].T, wanted, rtol=1e-4, atol=1e-5)


def histories() -> Sequences:
    rng = np.random.default_rng(5)
    return Sequences.from_lists([rng.integers(0, N, length) for length in (3, 1, 6, 4, 9)])


def find(
    retriever: Retriever, graph: GraphScore | None, reranker: Reranker | None, **options: object
) -> Found:
    k = int(str(options.pop("k", N)))
    return search(
        retriever,
        histories(),
        k,
        max_history=MAX_HISTORY,
        graph=graph,
        reranker=reranker,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("with_graph", [False, True])
def test_the_best_items_change_places_as_the_network_says(with_graph: bool) -> None:
    retriever = make_retriever(architecture="item_softmax")
    graph = graph_score() if with_graph else None
    reranker = make_reranker()
    before, after = find(retriever, graph, None), find(retriever, graph, reranker)
    read = histories()
    np.testing.assert_array_equal(before.scores, after.scores)  # each place keeps its score
    moved = 0
    for user in range(read.num_users):
        old, new = before.items[user], after.items[user]
        is_read = np.isin(old, read[user])
        np.testing.assert_array_equal(old[is_read], new[is_read])
        free = np.flatnonzero(~is_read)
        first, rest = free[:CANDIDATES], free[CANDIDATES:]
        np.testing.assert_array_equal(old[rest], new[rest])
        candidates = torch.from_numpy(old[first])[None]
        history = torch.from_numpy(read[user].astype(np.int64))[None]
        log_probs = torch.from_numpy(before.log_probs[user, first])[None]
        learned = reranker.network(reranker.features(history, candidates, log_probs))[0]
        wanted = old[first][torch.argsort(learned, descending=True).numpy()]
        np.testing.assert_array_equal(new[first], wanted)
        moved += int((old != new).any())
        for name in ("log_probs", "gains"):  # go with their items
            of_item = dict(zip(old.tolist(), getattr(before, name)[user].tolist(), strict=True))
            found = getattr(after, name)[user].tolist()
            assert found == pytest.approx([of_item[item] for item in new.tolist()], abs=1e-5)
    assert moved >= 3


@pytest.mark.parametrize("k", [1, 3, 12])
def test_the_order_does_not_depend_on_the_length_of_the_list_or_on_who_is_shown(k: int) -> None:
    retriever, graph = make_retriever(architecture="item_softmax"), graph_score()
    reranker, read = make_reranker(), histories()
    denied = find(retriever, graph, reranker, denied=read)
    short = find(retriever, graph, reranker, denied=read, k=k)
    np.testing.assert_array_equal(short.items, denied.items[:, :k])
    wide = find(retriever, graph, reranker, besides=read, k=k)
    including, excluding = both_protocols(wide.items, read, k)
    np.testing.assert_array_equal(excluding, short.items)
    np.testing.assert_array_equal(including, find(retriever, graph, reranker, k=k).items)


def test_only_allowed_items_change_places() -> None:
    retriever, graph = make_retriever(architecture="item_softmax"), graph_score()
    reranker, allowed = make_reranker(), np.arange(N) % 3 == 0
    before = find(retriever, graph, None, allowed=allowed)
    after = find(retriever, graph, reranker, allowed=allowed)
    assert (before.items != after.items).any()
    for old, new in zip(before.items, after.items, strict=True):
        assert set(old.tolist()) == set(new.tolist()) <= {-1, *np.flatnonzero(allowed).tolist()}
    assert (after.items[:, allowed.sum() :] == -1).all()


def test_over_more_items_the_known_ones_keep_their_features() -> None:
    features = make_features()
    words = sparse.vstack([tfidf(), tfidf()[:2]], format="csr")
    vectors, contents = (np.concatenate([each, each[:2]]) for each in (likeness(), content()))
    other = features.over(vectors, contents, sparse.csr_array(words))
    history, log_probs = torch.tensor([[0, 5, 9]]), torch.tensor([[-1.0, -2.0]])
    known = torch.tensor([[1, 11]])
    torch.testing.assert_close(
        other(history, known, log_probs), features(history, known, log_probs)
    )
    # A new item is like its twin, and has never followed anything.
    twins = other(torch.tensor([[4, 5, 9]]), torch.tensor([[0, N]]), log_probs[:, :1].expand(1, 2))
    torch.testing.assert_close(twins[0, 0, 6:], twins[0, 1, 6:])
    assert twins[0, 0, 3] > twins[0, 1, 3] == pytest.approx(np.log(module.SMOOTHING))


# The stage


@pytest.fixture(scope="module")
def folders(tiny_run: Path) -> dict[str, StageFolder]:
    names = ("dataset", "embeddings", "likeness", "tags", "semantic_ids", "retriever", "graph")
    return {name: read_stage(tiny_run / name, produced_by="hidvae") for name in names}


@pytest.fixture
def enough_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_reranker, "LEAST_USERS", 20)
    monkeypatch.setattr(train_reranker, "NUM_CANDIDATES", 50)


def worse_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that lists its best items last, which is easy to mend."""

    def turned(retriever: ExactRetriever, histories: Sequences, k: int, **options: object) -> Found:
        found = search(retriever, histories, k, **options)  # type: ignore[arg-type]
        return Found(*(None if part is None else part[:, ::-1].copy() for part in found))

    monkeypatch.setattr(train_reranker, "search", turned)


def made(folders: dict[str, StageFolder], output: Path, config: Config = CONFIG) -> StageFolder:
    return fit_stage("reranker", output, config, folders)


def loaded(folder: StageFolder, folders: dict[str, StageFolder]) -> Reranker | None:
    run = Run(folder.path.parent, "cpu", borrowed=folders)
    items = run.embeddings
    return load_reranker(folder, run.likeness, items.content, items.tfidf)


@pytest.mark.usefixtures("enough_users")
def test_what_pays_on_held_out_users_is_used_and_reproducible(
    folders: dict[str, StageFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse_first(monkeypatch)
    first = made(folders, tmp_path / "reranker")
    assert first.facts["is_used"]
    metrics = first.metrics
    gain = metrics["judged_ndcg@10_with"] - metrics["judged_ndcg@10_without"]
    assert gain > metrics["judged_gain_standard_error"] > 0
    reranker = loaded(first, folders)
    assert reranker is not None and not reranker.network.training
    again = made(folders, tmp_path / "again" / "reranker")
    assert first.fingerprint == again.fingerprint
    seeded = Config(run=RunConfig(device="cpu", seed=1))
    assert made(folders, tmp_path / "seed" / "reranker", seeded).fingerprint != again.fingerprint


@pytest.mark.usefixtures("enough_users")
def test_what_does_not_pay_is_not_used_and_said(
    folders: dict[str, StageFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Random(RerankerNetwork):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return torch.rand(features.shape[:-1]) + 0 * super().forward(features)

    monkeypatch.setattr(train_reranker, "RerankerNetwork", Random)
    folder = made(folders, tmp_path / "reranker")
    assert not folder.facts["is_used"] and not (folder.path / WEIGHTS).exists()
    assert folder.metrics["judged_ndcg@10_with"] < folder.metrics["judged_ndcg@10_without"]
    assert any("did no better on held-out" in each.text for each in folder.decisions)
    assert loaded(folder, folders) is None


def test_nothing_is_learned_where_it_is_not_wanted_or_too_few_validate(
    folders: dict[str, StageFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_reranker, "search", None)
    unwanted = Config(run=RunConfig(device="cpu"), reranker=RerankerConfig(enabled=False))
    assert not made(folders, tmp_path / "unwanted" / "reranker", unwanted).decisions
    monkeypatch.setattr(train_reranker, "LEAST_USERS", 10_000)
    few = made(folders, tmp_path / "few" / "reranker")
    assert any("at least 10000 are needed" in each.text for each in few.decisions)
    assert loaded(few, folders) is None


def test_nothing_is_learned_where_the_search_hardly_finds_a_target(
    folders: dict[str, StageFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_reranker, "NUM_CANDIDATES", 1)
    monkeypatch.setattr(train_reranker, "_fitted", None)
    folder = made(folders, tmp_path / "reranker")
    assert not folder.facts["is_used"]
    (said,) = (decision.text for decision in folder.decisions)
    assert "validation users the next item is among the best 1: at least 100" in said


@pytest.mark.usefixtures("enough_users")
def test_nobody_is_judged_by_a_network_that_learned_from_them(
    folders: dict[str, StageFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse_first(monkeypatch)
    learned: list[torch.Tensor] = []
    judged: list[torch.Tensor] = []
    fitted, places = train_reranker._fitted, train_reranker._places

    def watched_fit(examples: train_reranker.Examples, *rest: object) -> object:
        learned.append(examples.features)
        return fitted(examples, *rest)  # type: ignore[arg-type]

    def watched_places(
        network: RerankerNetwork, examples: train_reranker.Examples
    ) -> npt.NDArray[np.int64]:
        judged.append(examples.features)
        return places(network, examples)

    monkeypatch.setattr(train_reranker, "_fitted", watched_fit)
    monkeypatch.setattr(train_reranker, "_places", watched_places)
    made(folders, tmp_path / "reranker")
    first, second, everybody, *of_judged = (
        {row.numpy().tobytes() for row in part} for part in (*learned, *judged)
    )
    assert of_judged == [second, first] and not first & second
    assert everybody == first | second


def test_the_places_are_those_of_the_targets() -> None:
    network = random_network(3)
    features, is_item = torch.randn(50, 8, 3), torch.rand(50, 8) < 0.8
    target = np.where(is_item[:, 2].numpy(), 2, -1)
    found = train_reranker._places(network, train_reranker.Examples(features, is_item, target))
    for user in range(50):
        scores = network(features[user]).masked_fill(~is_item[user], -torch.inf)
        order = scores.argsort(descending=True).tolist()
        assert found[user] == (order.index(2) if target[user] == 2 else -1)


@pytest.mark.usefixtures("enough_users")
def test_damaged_weights_are_one_line(
    folders: dict[str, StageFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse_first(monkeypatch)
    folder = made(folders, tmp_path / "reranker")
    file = folder.path / WEIGHTS
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ArtifactError, match=r"reranker.safetensors: cannot be read .* train"):
        loaded(folder, folders)


# Recommending with one


@pytest.fixture
def recommender(tiny_run: Path) -> Recommender:
    """Of a run, with a reranker of random weights."""
    run = Run(tiny_run, "cpu")
    recommender = run.as_trained
    items, num_items = run.embeddings, recommender.catalogue.num_items
    followers = followers_of(run.dataset.split.train, num_items)
    features = CandidateFeatures(followers, run.likeness, items.content, items.tfidf)
    recommender.reranker = Reranker(random_network(features.num_features), features)
    return recommender


def test_the_parts_of_a_score_name_what_the_reranker_changed(recommender: Recommender) -> None:
    history = [recommender.catalogue.item_ids[index] for index in (3, 50, 17)]
    listed = recommender.recommend(history, 20)
    changes = [item.score_parts.reranker for item in listed]
    assert any(change > 0.01 for change in changes) and any(change < -0.01 for change in changes)
    for item in listed:
        assert sum(item.score_parts) == pytest.approx(item.score, abs=1e-4)
        assert item.score_parts.item_graph >= 0 and item.score_parts.likeness >= 0
    scores = [item.score for item in listed]
    assert scores == sorted(scores, reverse=True)


def test_what_placed_an_item_is_what_the_network_reads(recommender: Recommender) -> None:
    ids = recommender.catalogue.item_ids
    reranker = recommender.reranker
    assert reranker is not None
    read = np.array([3, 50, 17])
    listed = recommender.recommend([ids[index] for index in read], 5)
    for item in listed:
        row = torch.from_numpy(recommender.catalogue.index_of([item.item_id]))[None]
        features = reranker.features(
            torch.from_numpy(read)[None], row, torch.tensor([[item.log_prob]])
        )
        parts = item.order_parts
        assert parts is not None
        for name, columns in {"generator": [0], "followers": [2, 3, 4, 5]}.items():
            average = features.clone()
            average[0, 0, columns] = reranker.network.mean[columns]
            wanted = float(reranker.network(features) - reranker.network(average))
            assert getattr(parts, name) == pytest.approx(wanted, abs=1e-4)
        assert max(map(abs, parts)) > 0
    assert sum(item.reason.count("placed here mostly by") for item in listed) == sum(
        max(item.order_parts or (0,)) > 0 for item in listed
    )
    recommender.reranker = None
    (plain,) = recommender.recommend([ids[3]], 1)
    assert plain.order_parts is None and "placed here" not in plain.reason


def test_the_groups_of_features_are_all_of_them() -> None:
    features = make_features()
    columns = [column for group in features.groups.values() for column in range(99)[group]]
    assert columns == [0, *range(2, 14)] and features.num_features == 14
    assert list(make_features(has_content=False).groups) == ["generator", "followers"]


def test_one_item_is_explained_as_it_is_listed(recommender: Recommender) -> None:
    history = [recommender.catalogue.item_ids[index] for index in (3, 50, 17)]
    for item in recommender.recommend(history, 12):
        alone = recommender.explain(history, item.item_id)
        assert alone.score == pytest.approx(item.score, abs=1e-4)
        assert alone.score_parts == pytest.approx(item.score_parts, abs=1e-4)


def test_a_graph_of_weight_0_still_leaves_an_order_to_learn(
    folders: dict[str, StageFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_reranker, "LEAST_USERS", 20)
    worse_first(monkeypatch)
    nothing = Config(
        run=RunConfig(device="cpu"), graph=GraphConfig(weights=(0.0,), likeness_weights=(0.0,))
    )
    graph = fit_stage("graph", tmp_path / "graph", nothing, folders)
    others = {**folders, "graph": graph}
    folder = made(others, tmp_path / "reranker", nothing)
    reranker = loaded(folder, others)
    assert reranker is not None
