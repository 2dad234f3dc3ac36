"""Baselines by name: each is built, trained once, and an unknown name is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from tests.evaluation.protocols import protocols

from hidvae.config import Config, RetrieverConfig, RunConfig, SasRecConfig
from hidvae.data.prepare import Dataset
from hidvae.errors import ConfigError
from hidvae.evaluation.baselines import by_name as build
from hidvae.evaluation.baselines import sasrec
from hidvae.evaluation.baselines.by_name import BASELINES, build_baseline, chosen_baselines
from hidvae.features.embeddings import ItemEmbeddings
from hidvae.run.run import Run

SETTINGS = SasRecConfig(dim=8, epochs=1)
SMALL = RetrieverConfig(dim=8, num_layers=1, num_heads=2, epochs=1)
CONFIG = Config(run=RunConfig(device="cpu"), sasrec=SETTINGS, retriever=SMALL)


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Run:
    """Stages of the tiny run, with a place of its own for baselines."""
    names = ["dataset", "embeddings", "likeness", "tags", "semantic_ids"]
    return Run(tmp_path, "cpu", borrowed=Run(tiny_run).folders(names))


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "tiger"])
def test_a_name_gives_a_ranker_of_that_name(run: Run, demo_dataset: Dataset, name: str) -> None:
    ranker = build_baseline(name, run, CONFIG)
    assert ranker.name == name
    histories = demo_dataset.split.test_histories
    ranking = protocols(ranker, histories, 5)
    assert ranking.excluding.shape == (histories.num_users, 5)
    assert (np.diff(np.sort(ranking.excluding)) > 0).all()  # distinct items
    trained = [path.name for path in run.path.glob("baselines/*")]
    assert trained == ([name] if name.startswith("sasrec") else [])


def test_tiger_is_given_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "tiger", lambda *arguments: arguments)
    made: Any = build_baseline("tiger", run, CONFIG)
    assert made == (run, CONFIG)
    assert "tiger" in BASELINES


@pytest.mark.parametrize("name", ["sasrec", "sasrec_content"])
def test_a_second_time_trains_nothing(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build_baseline(name, run, CONFIG)

    def fail(*_: Any) -> None:
        raise AssertionError("trained again")

    stage = name.upper()
    monkeypatch.setattr(sasrec, stage, replace(getattr(sasrec, stage), fit=fail))
    build_baseline(name, run, CONFIG)
    with pytest.raises(AssertionError, match="trained again"):
        build_baseline(name, run, replace(CONFIG, run=RunConfig(device="cpu", seed=1)))
    with pytest.raises(AssertionError, match="trained again"):
        build_baseline(name, run, replace(CONFIG, sasrec=replace(SETTINGS, epochs=2)))


@pytest.mark.parametrize(("name", "nearest"), [("sasrek", "sasrec"), ("TIGER", "tiger")])
def test_an_unknown_name_names_the_nearest(run: Run, name: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*did you mean {nearest}") as error:
        build_baseline(name, run, CONFIG)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=f"did you mean {nearest}"):
        chosen_baselines(["popularity", name], run.embeddings)


def test_all_is_every_baseline_that_the_items_have_the_inputs_of(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    assert chosen_baselines(["tiger", "all"], run.embeddings) == (
        "tiger",
        *(name for name in BASELINES if name != "tiger"),
    )
    assert chosen_baselines(["sasrec"], run.embeddings) == ("sasrec",)
    nothing = ItemEmbeddings(
        np.zeros((5, 3), np.float32), 0, {"cooccurrence": (0, 3)}, sparse.csr_array((5, 0))
    )
    without = chosen_baselines(["all"], nothing)
    assert without == tuple(n for n in BASELINES if n not in ("text_similarity", "tiger"))
    for name in ("text_similarity", "tiger"):
        assert f"left out the baseline {name}" in caplog.text
        with pytest.raises(ConfigError, match=f"{name}.*parts cooccurrence.*text_encoder") as error:
            chosen_baselines(["popularity", name], nothing)
        assert "\n" not in str(error.value)


def test_a_catalogue_too_large_for_ease(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_items = run.embeddings.num_items
    monkeypatch.setattr(build, "MOST_ITEMS_OF_EASE", num_items)
    assert "ease" in chosen_baselines(["all"], run.embeddings)
    monkeypatch.setattr(build, "MOST_ITEMS_OF_EASE", num_items - 1)
    assert "ease" not in chosen_baselines(["all"], run.embeddings)
    found = f"at most {num_items - 1} items.*found {num_items}"
    assert re.search(f"left out the baseline ease: .*{found}", caplog.text)
    for refused in (
        lambda: chosen_baselines(["ease"], run.embeddings),
        lambda: build_baseline("ease", run, CONFIG),
    ):
        with pytest.raises(ConfigError, match=f"baseline ease: .*{found}; leave it out") as error:
            refused()
        assert "\n" not in str(error.value)
