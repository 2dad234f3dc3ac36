"""SASRec in the generator's place: what it has of ours, and what it lacks."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from hidvae.config import load_config
from hidvae.evaluation.baselines.by_name import build_baseline
from hidvae.evaluation.baselines.sasrec_reranked import NAME
from hidvae.ranking import train_reranker
from hidvae.ranking.ranker import GenerativeRanker
from hidvae.retriever.item_softmax import ItemSoftmax
from hidvae.run.run import Run


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Run:
    return Run(shutil.copytree(tiny_run, tmp_path / "run"), "cpu")


def test_it_has_our_last_steps_and_neither_content_nor_codes(
    run: Run, tiny_settings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    settings = ["GraphConfig.weights=(3.0,)", "GraphConfig.likeness_weights=(5.0,)"]
    config = load_config([], [*tiny_settings, *settings])
    ranker = build_baseline(NAME, run, config)
    assert isinstance(ranker, GenerativeRanker) and ranker.name == NAME
    retriever = ranker.retriever
    assert isinstance(retriever, ItemSoftmax)
    assert retriever.content is None and retriever.own_vectors is not None
    below = run.path / "baselines" / NAME
    assert {path.name for path in below.iterdir()} == {"retriever", "graph", "reranker"}
    own = Run(below, "cpu", borrowed=run.folders(["dataset", "embeddings", "likeness", "tags"]))
    assert own.folder("retriever").config["code_input"] is False
    assert ranker.graph is not None
    assert (ranker.graph.weight, ranker.graph.likeness_weight) == (3.0, 5.0)
    assert (ranker.reranker is not None) == own.folder("reranker").facts["is_used"]
    with caplog.at_level(logging.INFO):
        again = build_baseline(NAME, run, config)
    assert caplog.text.count("is up to date") == 3
    histories = run.dataset.split.test_histories
    first, second = (each.rank(histories, 5).items for each in (ranker, again))
    assert (first == second).all()


def test_its_reranker_ranks(
    run: Run, tiny_settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_reranker, "LEAST_USERS", 20)
    monkeypatch.setattr(train_reranker, "_does_pay", lambda *_: True)
    ranker = build_baseline(NAME, run, load_config([], tiny_settings))
    assert isinstance(ranker, GenerativeRanker) and ranker.reranker is not None
    histories = run.dataset.split.test_histories
    found = ranker.rank(histories, 10).items
    ranker.reranker = None
    assert (found != ranker.rank(histories, 10).items).any()
