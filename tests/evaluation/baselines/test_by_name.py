"""Baselines by name: each is built, trained once, and an unknown name is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from hidvae.config import RunConfig, SasRecConfig
from hidvae.data.prepare import Dataset
from hidvae.errors import ConfigError
from hidvae.evaluation.baselines import by_name as build
from hidvae.evaluation.baselines.by_name import BASELINES, build_baseline, chosen_baselines
from hidvae.features.embeddings import ItemEmbeddings
from hidvae.store.artifacts import StageFolder, read_stage

RUN = RunConfig(device="cpu")
SASREC = SasRecConfig(dim=8, epochs=1)
Folders = dict[str, StageFolder]


@pytest.fixture(scope="module")
def folders(tiny_run: Path) -> Folders:
    names = ("dataset", "embeddings", "tags")
    return {name: read_stage(tiny_run / name, produced_by="hidvae") for name in names}


@pytest.mark.parametrize("name", ["popularity", "content_graph", "sasrec"])
def test_a_name_gives_a_ranker_of_that_name(
    folders: Folders, demo_dataset: Dataset, tmp_path: Path, name: str
) -> None:
    ranker = build_baseline(name, RUN, SASREC, folders, tmp_path / "baselines")
    assert ranker.name == name
    histories = demo_dataset.split.test_histories
    ranking = ranker.rank(histories, 5, None)
    assert ranking.excluding.shape == (histories.num_users, 5)
    assert (np.diff(np.sort(ranking.excluding)) > 0).all()  # distinct items
    assert (tmp_path / "baselines").exists() == (name == "sasrec")


def test_tiger_is_given_its_own_folder(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "tiger", lambda *arguments: arguments)
    made: Any = build_baseline("tiger", RUN, SASREC, folders, tmp_path)
    assert made == (RUN, folders, tmp_path / "tiger")
    assert "tiger" in BASELINES


def test_a_second_time_trains_nothing(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_it(run: RunConfig = RUN, sasrec: SasRecConfig = SASREC) -> None:
        build_baseline("sasrec", run, sasrec, folders, tmp_path)

    build_it()

    def fail(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(build, "train_sasrec", fail)
    build_it()
    with pytest.raises(AssertionError, match="trained again"):
        build_it(run=RunConfig(device="cpu", seed=1))
    with pytest.raises(AssertionError, match="trained again"):
        build_it(sasrec=SasRecConfig(dim=8, epochs=2))


@pytest.mark.parametrize(("name", "nearest"), [("sasrek", "sasrec"), ("TIGER", "tiger")])
def test_an_unknown_name_names_the_nearest(
    folders: Folders, tmp_path: Path, name: str, nearest: str
) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*did you mean {nearest}") as error:
        build_baseline(name, RUN, SASREC, folders, tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=f"did you mean {nearest}"):
        chosen_baselines(["popularity", name], folders["embeddings"])


def test_all_is_every_baseline_that_the_items_have_the_inputs_of(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert chosen_baselines(["tiger", "all"], folders["embeddings"]) == (
        "tiger",
        *(name for name in BASELINES if name != "tiger"),
    )
    assert chosen_baselines(["sasrec"], folders["embeddings"]) == ("sasrec",)
    nothing = ItemEmbeddings(
        np.zeros((5, 3), np.float32), 0, {"cooccurrence": (0, 3)}, sparse.csr_array((5, 0))
    )
    monkeypatch.setattr(build, "load_embeddings", lambda folder: nothing)
    without = chosen_baselines(["all"], folders["embeddings"])
    assert without == ("popularity", "content_graph", "sasrec")
    assert "text_similarity and tiger" in caplog.text
    assert chosen_baselines(["tiger"], folders["embeddings"]) == ("tiger",)  # refused when built
