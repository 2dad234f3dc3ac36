"""The weight of the item graph is the best on validation, and 0 turns the graph off."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.stages import choose_graph_weight, fit_stage

from hidvae.config import Config, GraphConfig, RunConfig
from hidvae.data.prepare import load_dataset
from hidvae.errors import ArtifactError
from hidvae.ranking import graph_weight
from hidvae.ranking.graph_weight import load_graph_score
from hidvae.store.artifacts import StageFolder, read_json, read_stage

RUN = RunConfig(device="cpu")
NOTHING = GraphConfig(weights=(0.0,), likeness_weights=(0.0,))
Folders = dict[str, StageFolder]


@pytest.fixture(scope="module")
def folders(tiny_run: Path) -> Folders:
    names = ("dataset", "embeddings", "likeness", "tags", "semantic_ids", "retriever")
    return {name: read_stage(tiny_run / name, produced_by="hidvae") for name in names}


def test_the_best_weight_on_validation_is_kept_and_used(folders: Folders, tmp_path: Path) -> None:
    config = GraphConfig(weights=(3.0, 0.0, 500.0), likeness_weights=(0.0,))
    chosen = choose_graph_weight(config, RUN, folders, tmp_path / "graph")
    scores = {
        weight: chosen.manifest["metrics"][f"validation_ndcg@10_weights_{weight:g}_0"]
        for weight in (0.0, 3.0, 500.0)
    }
    assert len(set(scores.values())) == 3  # the demo's graph matters, so a choice is a choice
    best = max(scores, key=lambda weight: scores[weight])
    assert read_json(chosen.path / graph_weight.CHOSEN)["weight"] == best > 0
    dataset = load_dataset(folders["dataset"])
    graph = load_graph_score(chosen, dataset, None)
    assert graph is not None
    assert (graph.weight, graph.smoothing) == (best, graph_weight.SMOOTHING)


def test_weight_0_is_no_graph_and_ranks_nobody(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_weight, "GenerativeRanker", None)
    chosen = choose_graph_weight(NOTHING, RUN, folders, tmp_path / "graph")
    dataset = load_dataset(folders["dataset"])
    assert load_graph_score(chosen, dataset, None) is None


def test_another_graph_is_another_fingerprint(folders: Folders, tmp_path: Path) -> None:
    made = [
        choose_graph_weight(GraphConfig(weights=(weight,)), RUN, folders, tmp_path / str(number))
        for number, weight in enumerate((0.5, 0.6, 0.6))
    ]
    first, second, again = (folder.fingerprint for folder in made)
    assert first != second == again


def test_damaged_neighbours_are_one_line(folders: Folders, tmp_path: Path) -> None:
    chosen = choose_graph_weight(
        GraphConfig(weights=(3.0,), likeness_weights=(0.0,)), RUN, folders, tmp_path / "graph"
    )
    file = chosen.path / graph_weight.NEIGHBOURS
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ArtifactError, match=r"neighbours.safetensors: cannot be read .* train"):
        load_graph_score(chosen, load_dataset(folders["dataset"]), None)


def test_the_best_weight_of_the_likeness_is_kept_beside_the_best_graph(
    folders: Folders, tmp_path: Path
) -> None:
    config = GraphConfig(weights=(3.0, 0.0), likeness_weights=(0.0, 4.0, 400.0))
    made = choose_graph_weight(config, RUN, folders, tmp_path / "graph")
    chosen = read_json(made.path / graph_weight.CHOSEN)
    score = {
        (graph, likeness): made.manifest["metrics"].get(
            f"validation_ndcg@10_weights_{graph:g}_{likeness:g}"
        )
        for graph in (0.0, 3.0)
        for likeness in (0.0, 4.0, 400.0)
    }
    weight = max((0.0, 3.0), key=lambda each: score[each, 0.0])
    tried = {each: score[weight, each] for each in (0.0, 4.0, 400.0)}
    assert len(set(tried.values())) == 3
    best = max(tried, key=lambda each: tried[each])
    assert (chosen["weight"], chosen["likeness_weight"]) == (weight, best)


def test_a_weight_without_a_likeness_is_said(folders: Folders, tmp_path: Path) -> None:
    without = fit_stage("likeness", tmp_path / "likeness", Config(graph=NOTHING, run=RUN), folders)
    config = GraphConfig(weights=(3.0,), likeness_weights=(6.0,))
    made = choose_graph_weight(config, RUN, {**folders, "likeness": without}, tmp_path / "graph")
    assert read_json(made.path / graph_weight.CHOSEN)["likeness_weight"] == 0
    assert any("without a learned likeness" in each.text for each in made.decisions)
