"""The exported program ranks the same items in the same order as the package."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hidvae import Recommender
from hidvae.apps.export.program import Program, build_program
from hidvae.config import RetrieverConfig
from hidvae.data.prepare import load_dataset
from hidvae.errors import ConfigError
from hidvae.features.embeddings import load_embeddings
from hidvae.ranking.candidate_features import CandidateFeatures, followers_of
from hidvae.ranking.graph_score import GraphScore
from hidvae.ranking.reranker import Reranker, RerankerNetwork
from hidvae.retriever.build import build_retriever
from hidvae.run.run import Run
from hidvae.semantic_ids.table import SemanticIds
from hidvae.store.artifacts import read_stage

K = 10
LONGEST = 110
Branch = Callable[..., Any]
ARCHITECTURES = ("item_softmax", "item_decoder", "encoder_decoder")


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def plain_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside an export ``torch.cond`` compiles its branches, which takes seconds a call."""

    def branch(is_true: Tensor, yes: Branch, no: Branch, given: tuple[Tensor, ...]) -> Any:
        return (yes if is_true else no)(*given)

    monkeypatch.setattr(torch, "cond", branch)


@pytest.fixture(scope="module")
def trained(tiny_run: Path) -> Recommender:
    """The tiny run with a narrow beam, so that histories exhaust it, graph, likeness, reranker."""
    recommender = Recommender.load(tiny_run, device="cpu")
    recommender.beam_width = 12
    if recommender.graph is None or recommender.graph.likeness is None:
        recommender.graph = some_graph(recommender)  # validation chose without; here both count
    recommender.reranker = some_reranker(Run(tiny_run, "cpu"))
    return recommender


def some_reranker(run: Run) -> Reranker:
    """Of random weights."""
    items, num_items = run.embeddings, run.dataset.catalogue.num_items
    followers = followers_of(run.dataset.split.train, num_items)
    features = CandidateFeatures(followers, run.likeness, items.content, items.tfidf)
    torch.manual_seed(2)
    network = RerankerNetwork(features.num_features).eval().requires_grad_(False)
    return Reranker(network, features)


def some_graph(recommender: Recommender) -> GraphScore:
    from scipy import sparse

    generator = np.random.default_rng(3)
    num_items = recommender.catalogue.num_items
    scores = sparse.random_array((num_items, num_items), density=0.2, rng=generator)
    return GraphScore(
        sparse.csr_array(scores.astype(np.float32)),
        num_latest=5,
        decay=0.7,
        weight=2.0,
        smoothing=0.05,
        num_candidates=30,
        favours_history=False,
        warm_items=generator.random(num_items) > 0.1,
        cold_factor=2.0,
        likeness=generator.normal(size=(num_items, 6)).astype(np.float32),
        likeness_weight=3.0,
    )


@pytest.fixture(scope="module")
def of_architecture(tiny_run: Path, trained: Recommender) -> dict[str, Recommender]:
    """The same run with fresh retrievers; some items are cold."""
    folders = {
        name: read_stage(tiny_run / name, produced_by="hidvae run")
        for name in ("dataset", "embeddings", "tags", "semantic_ids")
    }
    known = load_dataset(folders["dataset"]).warm_items.copy()
    known[::7] = False
    made = {}
    for architecture in ARCHITECTURES:
        torch.manual_seed(1)
        config = RetrieverConfig(
            architecture=architecture, dim=16, num_layers=1, num_heads=2, max_history=10
        )
        made[architecture] = copy.copy(trained)
        made[architecture].retriever = build_retriever(
            config,
            SemanticIds.load(folders["semantic_ids"]),
            load_embeddings(folders["embeddings"]).matrix,
            known,
        ).eval()
    return made


def histories(recommender: Recommender, lengths: list[int]) -> Tensor:
    """(B, T) random histories, -1 on the right; items repeat."""
    generator = np.random.default_rng(0)
    rows = np.full((len(lengths), max(lengths)), -1)
    for row, length in enumerate(lengths):
        rows[row, :length] = generator.integers(0, recommender.catalogue.num_items, length)
    return torch.from_numpy(rows)


def expected(recommender: Recommender, rows: Tensor, exclude: bool) -> list[list[int]]:
    """What ``recommend`` ranks, as item_index."""
    ids, ranked = recommender.catalogue.item_ids, []
    for row in rows.tolist():
        history = [ids[item] for item in row if item >= 0]
        found = recommender.recommend(history, K, exclude_history=exclude)
        ranked.append(recommender.catalogue.index_of([item.item_id for item in found]).tolist())
    return ranked


def got(program: torch.nn.Module, rows: Tensor, exclude: bool) -> list[list[int]]:
    items, scores = program(rows, torch.tensor(exclude))
    assert items.shape == scores.shape == (len(rows), K)
    assert ((items < 0) == (scores == -torch.inf)).all()
    assert (scores[:, 1:] <= scores[:, :-1]).all()
    return [[item for item in row if item >= 0] for row in items.tolist()]


@pytest.mark.usefixtures("plain_branches")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("exclude", [True, False])
def test_same_items_in_the_same_order(
    of_architecture: dict[str, Recommender], architecture: str, exclude: bool
) -> None:
    recommender = of_architecture[architecture]
    program = Program(recommender, K, LONGEST).eval()
    # Histories beyond what the model reads, and so long that 12 and 24 beams hold too few others.
    rows = histories(recommender, [1, 2, 3, 7, 10, 11, 30, 60, 100, 110])
    assert got(program, rows, exclude) == expected(recommender, rows, exclude)


@pytest.mark.usefixtures("plain_branches")
def test_some_histories_need_wider_beams(of_architecture: dict[str, Recommender]) -> None:
    trained = copy.copy(of_architecture["item_decoder"])
    trained.beam_width, trained.graph, trained.reranker = 1, None, None
    everything = torch.arange(120)
    rows = torch.stack([everything[everything != item] for item in everything])
    # One beam and no more, or as many as it takes to find the one item that is left.
    narrow, wide = (
        Program(trained, 1, longest).eval()(rows, torch.tensor(True))[0].flatten()
        for longest in (0, 119)
    )
    assert (narrow < 0).any()
    assert torch.equal(wide, everything)


@pytest.mark.usefixtures("plain_branches")
def test_scores_are_those_of_the_package(trained: Recommender) -> None:
    rows = histories(trained, [4])
    _, scores = Program(trained, K, LONGEST).eval()(rows, torch.tensor(True))
    ids = trained.catalogue.item_ids
    found = trained.recommend([ids[item] for item in rows[0].tolist()], K)
    assert scores[0].tolist() == pytest.approx([item.score for item in found], abs=1e-5)


@pytest.mark.usefixtures("plain_branches")
def test_removed_items_are_not_ranked(trained: Recommender) -> None:
    removed = trained.catalogue.item_ids[::3]
    recommender = trained.remove_items(removed)
    recommender.graph, recommender.reranker = trained.graph, trained.reranker
    rows = histories(recommender, [1, 5, 20, 60])
    found = got(Program(recommender, K, LONGEST).eval(), rows, True)
    assert found == expected(recommender, rows, True)
    assert not set(recommender.catalogue.index_of(removed).tolist()) & {i for r in found for i in r}


def test_a_saved_program_takes_any_batch(trained: Recommender, tmp_path: Path) -> None:
    file = tmp_path / "program.pt2"
    recommender = trained.remove_items(trained.catalogue.item_ids[::9])
    recommender.graph, recommender.reranker = trained.graph, trained.reranker
    torch.export.save(build_program(recommender, K, longest_history=14), file)
    program = torch.export.load(file).module()
    for lengths in ([1], [14], [3, 1, 12], [1, 1], list(range(1, 15))):
        rows = histories(recommender, lengths)
        assert got(program, rows, True) == expected(recommender, rows, True), lengths
    with pytest.raises(RuntimeError, match="<= 14"):
        program(histories(trained, [15]), torch.tensor(True))


@pytest.mark.parametrize("architecture", ["item_decoder", "encoder_decoder"])
def test_the_other_architectures_can_be_saved(
    of_architecture: dict[str, Recommender], architecture: str, tmp_path: Path
) -> None:
    recommender = of_architecture[architecture]
    torch.export.save(build_program(recommender, 3, longest_history=9), tmp_path / "program.pt2")
    program = torch.export.load(tmp_path / "program.pt2").module()
    rows = histories(recommender, [1, 9, 5, 5])
    items, _ = program(rows, torch.tensor(False))
    assert items.tolist() == [row[:3] for row in expected(recommender, rows, False)]


@pytest.mark.usefixtures("plain_branches")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_may_stand_anywhere_and_an_empty_history_gets_nothing(
    of_architecture: dict[str, Recommender], architecture: str
) -> None:
    program = Program(of_architecture[architecture], K, LONGEST).eval()
    rows = torch.tensor([[5, 9, -1, -1], [-1, -1, 5, 9], [5, -1, 9, -1], [-1, -1, -1, -1]])
    found = got(program, rows, True)
    assert found[0] == found[1] == found[2]
    assert found[3] == []


def test_numbers_out_of_range_are_refused(trained: Recommender) -> None:
    with pytest.raises(ConfigError, match="k: expected at least 1"):
        build_program(trained, 0)
    with pytest.raises(ConfigError, match="longest_history"):
        build_program(trained, 1, 2)
