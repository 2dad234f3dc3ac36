"""The script that sets another library's model beside ours, with a fake in the library's place."""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from hidvae.data.interactions import Sequences
from hidvae.data.prepare import Dataset
from hidvae.errors import ConfigError
from hidvae.evaluation.baselines.untrained import Popularity
from hidvae.evaluation.metrics import both_protocols
from hidvae.store.artifacts import StageFolder

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "rectools_peer.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rectools_peer", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["rectools_peer"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def popular(script: ModuleType) -> object:
    """A peer that ranks by popularity, litters its working folder, and asks for a score."""

    def fit(train, num_items, settings, seed, score):
        Path("lightning_logs").mkdir()
        ranker = Popularity(train, num_items, name="fake")
        return script.Fitted(ranker, {"score": score(ranker), "events": int(train.items.size)})

    return script.Peer({"epochs": 3, "rate": 0.5, "loss": "softmax"}, fit, ("numpy",))


def call(script: ModuleType, peer: object, run: Path, output: Path, *words: str) -> int:
    return script.main([str(run), "--output", str(output), *words], {"fake": peer})


def test_a_row_holds_what_the_evaluator_says_of_the_lists(
    script, popular, demo_folder: StageFolder, demo_dataset: Dataset, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    run, file = demo_folder.path.parent, tmp_path / "peer.json"
    assert call(script, popular, run, file, "--set", "epochs=5", "--seed", "7") == 0
    row = json.loads(file.read_text())["fake seed 7"]
    assert row["settings"] == {"epochs": 5, "rate": 0.5, "loss": "softmax"}
    assert (row["seed"], row["model"]) == (7, "fake")
    assert row["training"]["events"] == demo_dataset.split.train.items.size
    expected = script.evaluate_ranker(
        Popularity(demo_dataset.split.train, demo_dataset.catalogue.num_items),
        demo_dataset.split.validation_histories,
        demo_dataset.split.validation_targets,
        num_items=demo_dataset.catalogue.num_items,
        cutoffs=script.CUTOFFS,
        popularity=script.count_items(demo_dataset.split.train, demo_dataset.catalogue.num_items),
        seed=7,
    )
    assert row["validation"] == expected.including
    assert row["validation_excluding_history"] == expected.excluding
    assert row["training"]["score"] == pytest.approx(expected.excluding["ndcg@10"])
    assert row["dataset_fingerprint"] == demo_folder.fingerprint
    assert row["versions"]["numpy"] == np.__version__
    assert {"commit", "machine", "wall_seconds", "fit_seconds"} <= row.keys()
    assert "validation_excluding_history" in capsys.readouterr().out
    assert not (tmp_path / "lightning_logs").exists()


def test_test_targets_are_ranked_only_when_asked_for(
    script, popular, demo_folder: StageFolder, demo_dataset: Dataset, tmp_path
) -> None:
    run, file = demo_folder.path.parent, tmp_path / "peer.json"
    assert call(script, popular, run, file, "--label", "first") == 0
    assert call(script, popular, run, file, "--label", "second", "--test") == 0
    rows = json.loads(file.read_text())
    assert list(rows) == ["first", "second"]  # the second run keeps the row of the first
    assert not [key for key in rows["first"] if key.startswith("test")]
    popularity = Popularity(demo_dataset.split.train, demo_dataset.catalogue.num_items)
    histories = demo_dataset.split.test_histories
    _, ranked = both_protocols(popularity.rank(histories, 10).items, histories, 10)
    hits = (ranked == demo_dataset.split.test_targets[:, None]).any(axis=1)
    found = rows["second"]["test_excluding_history"]["recall@10"]
    assert found == pytest.approx(hits.mean())


@pytest.mark.parametrize(
    ("override", "line"),
    [("epoch=3", "did you mean epochs"), ("epochs=many", "expected a value like 3; found 'many'")],
)
def test_a_wrong_setting_is_one_line(
    script, popular, demo_folder: StageFolder, tmp_path, capsys, override: str, line: str
) -> None:
    code = call(script, popular, demo_folder.path.parent, tmp_path / "p", "--set", override)
    assert code == 1
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1


def test_overrides_take_the_type_of_the_default(script) -> None:
    defaults = {"epochs": 3, "rate": 0.5, "loss": "softmax"}
    changed = script.changed(defaults, ["rate=1e-3", "loss=BCE"])
    assert changed == {"epochs": 3, "rate": 1e-3, "loss": "BCE"}
    with pytest.raises(ConfigError, match="nothing"):
        script.changed(defaults, ["nothing=1"])


def test_a_missing_library_is_one_line_that_says_what_to_install(
    script, demo_folder: StageFolder, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "rectools", None)
    run = demo_folder.path.parent
    assert script.main([str(run), "--model", "ease", "--output", str(tmp_path / "p")]) == 1
    error = capsys.readouterr().err
    assert "rectools[torch]" in error and error.count("\n") == 1
    assert not (tmp_path / "p").exists()


def test_the_linear_ranker_sorts_by_the_sum_of_the_weights_of_the_history(script) -> None:
    weight = np.array([[0.0, 0.5, 0.2], [0.1, 0.0, 0.9], [0.3, 0.4, 0.0]])  # item 3 is unknown
    histories = Sequences.from_lists([[0, 1], [2], []])
    ranker = script.LinearRanker("linear", weight, 4)
    including, excluding = both_protocols(ranker.rank(histories, 3).items, histories, 3)
    # sums: [0.1, 0.5, 1.1, 0], [0.3, 0.4, 0, 0], [0, 0, 0, 0]; ties go to the lower index
    assert including.tolist() == [[2, 1, 0], [1, 0, 2], [0, 1, 2]]
    assert excluding.tolist() == [[2, 3, -1], [1, 0, 3], [0, 1, 2]]
    among = np.array([True, False, True, True])
    ranked = ranker.rank(histories, 3, allowed=among).items
    including, excluding = both_protocols(ranked, histories, 3)
    assert excluding.tolist()[0] == [2, 3, -1]
    assert including.tolist()[1] == [0, 2, 3]


@pytest.fixture
def rectools() -> None:
    """The real library, where somebody has set it beside ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("rectools.models", reason="needs RecTools: see docs/benchmarks.md")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("rectools")
@pytest.mark.parametrize("name", ["sasrec", "ease", "item_knn"])
def test_the_real_models_beat_popularity_on_planted_successors(
    script, demo_dataset: Dataset, name: str, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    split, num_items = demo_dataset.split, demo_dataset.catalogue.num_items
    small = ["n_factors=32", "epochs=6", "validate_every=3", "lr=0.01"]
    peer = script.PEERS[name]
    settings = script.changed(peer.defaults, small if name == "sasrec" else [])

    def score(ranker) -> float:
        found = script._evaluate(ranker, demo_dataset, "validation", 0, bootstrap_samples=0)
        return found.excluding["ndcg@10"]

    fitted = peer.fit(split.train, num_items, settings, 0, score)
    assert score(fitted.ranker) > 1.2 * score(Popularity(split.train, num_items))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("rectools")
def test_sasrec_keeps_the_weights_of_the_best_epoch(
    script, demo_dataset: Dataset, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train, num_items = demo_dataset.split.train, demo_dataset.catalogue.num_items
    lists = []

    def score(ranker) -> float:
        lists.append(ranker.rank(train, 10).items)
        return 1.0 / len(lists)  # the first is the best

    overrides = ["n_factors=8", "epochs=6", "validate_every=1", "patience=2", "lr=0.01"]
    settings = script.changed(script.PEERS["sasrec"].defaults, overrides)
    fitted = script.fit_sasrec(train, num_items, settings, 0, score)
    assert fitted.facts["best_epoch"] == 1
    assert [point["epoch"] for point in fitted.facts["curve"]] == [1, 2, 3]
    assert (lists[0] != lists[-1]).any()
    assert (fitted.ranker.rank(train, 10).items == lists[0]).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("rectools")
@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax", "gBCE"])
def test_the_packed_loss_is_the_loss_of_the_library(script, loss: str) -> None:
    from rectools.models import SASRecModel
    from rectools.models.nn.transformers.lightning import TransformerLightningModule

    train = Sequences.from_lists([[0, 1, 2], [3, 1], [2, 4, 0, 1, 3]])
    model = SASRecModel(
        n_factors=8, n_heads=2, session_max_len=6, dropout_rate=0.0, loss=loss, n_negatives=3,
        epochs=1, lightning_module_type=script.packed_loss_module(),
    )  # fmt: skip
    model.fit(script.rectools_dataset(train, 5))
    module, batch = model.lightning_model, next(iter(model.data_preparator.get_dataloader_train()))
    module.log = lambda *args, **kwargs: None
    packed = module.training_step(batch, 0)
    whole = TransformerLightningModule.training_step(module, batch, 0)
    assert (batch["y"] == 0).any()  # there is padding to leave out
    torch.testing.assert_close(packed, whole)
    parameters = list(module.torch_model.parameters())
    gradients = [torch.autograd.grad(of, parameters, allow_unused=True) for of in (packed, whole)]
    torch.testing.assert_close(*gradients)
