"""SASRec: the loss is the naive one, nothing looks ahead, and it learns what was planted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tests.evaluation.protocols import protocols
from tests.stages import train_sasrec

from hidvae.config import Config, SasRecConfig
from hidvae.data.interactions import Sequences, count_items
from hidvae.data.prepare import Dataset
from hidvae.data.split import leave_one_out
from hidvae.errors import ArtifactError, DataError
from hidvae.evaluation.baselines.sasrec import (
    Content,
    SasRec,
    SasRecRanker,
    build_sasrec,
    full_cross_entropy,
    load_sasrec,
    sasrec_content,
)
from hidvae.evaluation.baselines.untrained import Popularity
from hidvae.evaluation.evaluate_ranker import Ranker, evaluate_ranker
from hidvae.retriever.batches import TrainingBatches
from hidvae.retriever.interface import HistoryBatch
from hidvae.run.run import Run
from hidvae.store.artifacts import StageFolder
from training.trained import RUN, SASREC, short_loop


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    with short_loop(batch_tokens=100):
        yield


@pytest.fixture(scope="module")
def trained(demo_folder: StageFolder, tmp_path_factory: pytest.TempPathFactory) -> StageFolder:
    output = tmp_path_factory.mktemp("baselines") / "sasrec"
    return train_sasrec(SASREC, RUN, demo_folder, output)


@pytest.fixture
def model() -> SasRec:
    torch.manual_seed(0)
    return build_sasrec(SASREC, num_items=30).eval()


def sequences(*histories: list[int]) -> Sequences:
    offsets = np.cumsum([0, *map(len, histories)])
    return Sequences(np.concatenate([*histories, []]).astype(np.int64), offsets)


# --- the loss -----------------------------------------------------------------------------------


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("logits_at_once", [1, 30, 10_000])
@pytest.mark.parametrize("has_bias", [False, True])
def test_full_softmax_in_blocks_equals_the_naive_one(
    label_smoothing: float, logits_at_once: int, has_bias: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(7, 4, generator=generator, requires_grad=True)
    vectors = torch.randn(13, 4, generator=generator, requires_grad=True)
    targets = torch.randint(13, (7,), generator=generator)
    targets[1] = targets[0]
    bias = torch.randn(13, generator=generator) if has_bias else None
    loss = full_cross_entropy(states, vectors, targets, label_smoothing, logits_at_once, bias)
    logits = states @ vectors.T
    naive = F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    if bias is not None:
        log_probs, spread = (logits + bias).log_softmax(dim=1), bias.softmax(dim=0)
        naive = (1 - label_smoothing) * F.nll_loss(log_probs, targets)
        naive -= label_smoothing * (log_probs @ spread).mean()
    torch.testing.assert_close(loss, naive)
    found = torch.autograd.grad(3 * loss, (states, vectors))
    expected = torch.autograd.grad(3 * naive, (states, vectors))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_bfloat16_products_are_those_of_float32_up_to_rounding(label_smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(20, 8, generator=generator, requires_grad=True)
    vectors = torch.randn(50, 8, generator=generator, requires_grad=True)
    targets = torch.randint(50, (20,), generator=generator)
    plain = full_cross_entropy(states, vectors, targets, label_smoothing)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = full_cross_entropy(states, vectors, targets, label_smoothing)
    assert cast.dtype == torch.float32 and cast != plain
    torch.testing.assert_close(cast, plain, rtol=0.01, atol=0.01)
    for ours, wanted in zip(
        torch.autograd.grad(cast, (states, vectors)),
        torch.autograd.grad(plain, (states, vectors)),
        strict=True,
    ):
        torch.testing.assert_close(ours, wanted, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_bfloat16_keeps_the_gradient_of_targets_that_are_likely(label_smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = (torch.randn(2000, 64, generator=generator) * 0.5).requires_grad_()
    targets = torch.randint(2000, (50,), generator=generator)
    states = (vectors[targets] * 1.3).detach().requires_grad_()  # all but sure of the target
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = full_cross_entropy(states, vectors, targets, label_smoothing)
    (found,) = torch.autograd.grad(cast, states)
    logits = states.double() @ vectors.double().T
    exact = F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    (expected,) = torch.autograd.grad(exact, states)
    assert float((found - expected).norm() / expected.norm()) < 0.05


def test_loss_is_of_the_positions_with_a_target_alone(model: SasRec) -> None:
    items = torch.tensor([[3, 4, 5, 6], [7, 8, -1, -1]])
    targets = torch.tensor([[4, -1, 6, 9], [8, 2, -1, -1]])
    loss = model(HistoryBatch(items, targets, torch.tensor([0, 1])), 0.1)
    logits = model.states(items) @ model.item_vectors.weight.T  # (2, 4, N)
    naive = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1,
                            label_smoothing=0.1)  # fmt: skip
    torch.testing.assert_close(loss, naive)


# --- the model ----------------------------------------------------------------------------------


def test_a_later_item_changes_no_earlier_state(model: SasRec) -> None:
    first = torch.tensor([[1, 2, 3, 4, 5]])
    other = torch.tensor([[1, 2, 3, 9, 8]])
    before, after = model.states(first), model.states(other)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])
    earlier = model.states(torch.tensor([[9, 2, 3, 4, 5]]))
    assert not torch.allclose(before[:, 4], earlier[:, 4])


def test_the_order_of_the_history_matters(model: SasRec) -> None:
    forwards, backwards = model.scores(torch.tensor([[1, 2, 3]])), model.scores(
        torch.tensor([[2, 1, 3]])
    )  # fmt: skip
    assert not torch.allclose(forwards, backwards)


# --- the ranker ---------------------------------------------------------------------------------


def test_lists_are_the_scores_sorted_under_both_history_rules(model: SasRec) -> None:
    histories = sequences([1, 2, 3], [5], [4, 9, 4, 7, 8, 2, 1, 0, 3, 6, 11])
    ranking = protocols(SasRecRanker(model), histories, 10)
    for user in range(3):
        seen = histories.items[histories.offsets[user] : histories.offsets[user + 1]].tolist()
        read = torch.tensor([seen[-SASREC.max_history :]])
        order = model.scores(read)[0].argsort(descending=True).tolist()
        assert ranking.including[user].tolist() == order[:10]
        assert ranking.excluding[user].tolist() == [i for i in order if i not in seen][:10]


def test_allowed_alone_are_ranked_in_their_order(model: SasRec) -> None:
    histories, allowed = sequences([1, 2, 3], [5]), np.arange(30) % 3 == 0
    everything = protocols(SasRecRanker(model), histories, 30).including
    among = protocols(SasRecRanker(model), histories, 10, allowed).including
    for all_items, some in zip(everything, among, strict=True):
        assert some.tolist() == all_items[allowed[all_items]].tolist()


def test_users_do_not_depend_on_their_company(model: SasRec, monkeypatch) -> None:
    histories = sequences([1, 2, 3], [5], [4, 9, 4, 7])
    together = protocols(SasRecRanker(model), histories, 5)
    monkeypatch.setattr("hidvae.evaluation.baselines.sasrec.LOGITS_AT_ONCE", 1)
    alone = protocols(SasRecRanker(model), histories, 5)
    assert (together.including == alone.including).all()


def test_ranking_leaves_the_model_in_training(model: SasRec) -> None:
    SasRecRanker(model.train()).rank(sequences([1, 2]), 5)
    assert model.training


def test_an_empty_history_is_refused(model: SasRec) -> None:
    with pytest.raises(DataError, match="history 1 is empty") as error:
        SasRecRanker(model).rank(sequences([1, 2], []), 5)
    assert "\n" not in str(error.value)


# --- the training -------------------------------------------------------------------------------


def ndcg(ranker: Ranker, dataset: Dataset) -> float:
    split, num_items = dataset.split, dataset.catalogue.num_items
    result = evaluate_ranker(
        ranker,
        split.test_histories,
        split.test_targets,
        num_items=num_items,
        cutoffs=(10,),
        popularity=count_items(split.train, num_items),
        bootstrap_samples=0,
    )
    return float(result.excluding["ndcg@10"])  # type: ignore[arg-type]


def test_it_learns_what_was_planted(
    demo_folder: StageFolder,
    demo_dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SasRecConfig, "validate_every", 4)
    config = replace(SASREC, epochs=12)
    folder = train_sasrec(config, RUN, demo_folder, tmp_path / "sasrec")
    num_items = demo_dataset.catalogue.num_items
    popular = ndcg(Popularity(demo_dataset.split.train, num_items), demo_dataset)
    assert ndcg(load_sasrec(folder, num_items), demo_dataset) > 2 * popular


def test_training_does_not_see_the_tests(
    trained: StageFolder, demo_folder: StageFolder, demo_dataset: Dataset, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: list[Sequences] = []
    epoch = TrainingBatches.epoch
    monkeypatch.setattr(
        TrainingBatches, "epoch", lambda self, g: seen.append(self.histories) or epoch(self, g)
    )
    train_sasrec(replace(SASREC, epochs=1), RUN, demo_folder, tmp_path / "sasrec")
    assert all(np.array_equal(s.items, demo_dataset.split.train.items) for s in seen)
    assert seen


def test_saved_and_loaded_is_the_same(trained: StageFolder, demo_dataset: Dataset) -> None:
    ranker = load_sasrec(trained, demo_dataset.catalogue.num_items)
    weights = load_file(trained.path / "model.safetensors")
    for name, value in ranker.model.state_dict().items():
        assert torch.equal(value, weights[name])
    assert not ranker.model.training


def test_weights_of_another_catalogue_are_refused(trained: StageFolder) -> None:
    with pytest.raises(ArtifactError, match="hidvae evaluate") as error:
        load_sasrec(trained, num_items=7)
    assert "\n" not in str(error.value)


def test_damaged_weights_are_refused(trained: StageFolder, tmp_path: Path) -> None:
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(ArtifactError, match="delete"):
        load_sasrec(StageFolder(tmp_path, trained.manifest), num_items=120)


def test_a_log_without_transitions_teaches_nothing(
    demo_folder: StageFolder, demo_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = demo_dataset.interactions.sequences.last(1)
    short = replace(demo_dataset, split=leave_one_out(single))
    monkeypatch.setattr("hidvae.run.run.load_dataset", lambda folder: short)
    folder = train_sasrec(SASREC, RUN, demo_folder, tmp_path / "sasrec")
    assert folder.facts["num_epochs"] == 0


# --- with content -------------------------------------------------------------------------------


COLD = (4, 9)


@pytest.fixture
def content() -> Content:
    is_warm = torch.ones(30, dtype=torch.bool)
    is_warm[list(COLD)] = False
    return Content(torch.randn(30, 5, generator=torch.Generator().manual_seed(2)), is_warm)


@pytest.fixture
def with_content(content: Content) -> SasRec:
    torch.manual_seed(0)
    return build_sasrec(SASREC, num_items=30, content=content).eval()


def test_a_cold_item_is_its_content_alone(with_content: SasRec, content: Content) -> None:
    assert with_content.content_projection is not None
    projected = with_content.content_projection(content.vectors)
    own = with_content.item_vectors.weight
    vectors = with_content.vectors()
    for item in range(30):
        expected = projected[item] if item in COLD else projected[item] + own[item]
        torch.testing.assert_close(vectors[item], expected)
    scores = with_content.scores(torch.tensor([[1, 2, 3]]))[0]
    assert scores[COLD[0]] != scores[COLD[1]]
    same = content.vectors.clone()
    same[COLD[1]] = same[COLD[0]]
    with_content.content = same
    scores = with_content.scores(torch.tensor([[1, 2, 3]]))[0]
    torch.testing.assert_close(scores[COLD[0]], scores[COLD[1]])


def test_cold_items_are_no_alternatives_in_the_loss(with_content: SasRec, content: Content) -> None:
    items, targets = torch.tensor([[3, 5, 6], [7, 8, -1]]), torch.tensor([[5, 6, 10], [8, 2, -1]])
    loss = with_content(HistoryBatch(items, targets, torch.tensor([0, 1])), 0.1)
    logits = with_content.states(items) @ with_content.vectors()[content.is_warm].T
    warm = content.is_warm.nonzero().flatten().tolist()
    places = torch.tensor([[warm.index(i) if i >= 0 else -1 for i in row] for row in targets])
    naive = F.cross_entropy(
        logits.flatten(0, 1), places.flatten(), ignore_index=-1, label_smoothing=0.1
    )
    torch.testing.assert_close(loss, naive)
    loss.backward()
    assert (with_content.item_vectors.weight.grad[list(COLD)] == 0).all()
    assert with_content.content_projection.weight.grad.abs().sum() > 0


def test_with_content_it_knows_items_that_it_never_saw(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained without some items, it ranks these by what they are like."""
    run = Run(tmp_path, "cpu", borrowed=Run(tiny_run).folders(["dataset", "embeddings"]))
    is_warm = np.ones(run.dataset.catalogue.num_items, dtype=np.bool_)
    first, second = run.dataset.split.train.items[:2].tolist()
    is_warm[[first, second]] = False
    train = run.dataset.split.train
    split = replace(run.dataset.split)
    vars(split)["train"] = train.where(is_warm[train.items])
    dataset = replace(run.dataset, split=split)
    monkeypatch.setattr(Run, "dataset", property(lambda _: dataset))
    config = Config(run=RUN, sasrec=replace(SASREC, epochs=1))
    ranker = sasrec_content(run, config)
    assert ranker.name == "sasrec_content"
    assert not ranker.model.is_warm[[first, second]].any()
    vectors = ranker.model.vectors()
    projected = ranker.model.content_projection(ranker.model.content)
    torch.testing.assert_close(vectors[[first, second]], projected[[first, second]])
    assert not torch.allclose(vectors[first], vectors[second])


# --- log-probabilities --------------------------------------------------------------------------


def test_log_probs_are_those_of_all_items_in_the_ranking_order(model: SasRec) -> None:
    histories = sequences([1, 2, 3], [5], [4, 9, 4, 7])
    ranker = SasRecRanker(model)
    found = ranker.log_probs(histories)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0, rtol=1e-5)
    for user in range(3):
        expected = model.scores(torch.tensor([histories[user].tolist()]))[0].log_softmax(dim=0)
        np.testing.assert_allclose(found[user], expected.detach(), rtol=1e-4, atol=1e-5)
    ranked = ranker.rank(histories, 26).items
    assert (np.diff(np.take_along_axis(found, ranked, axis=1), axis=1) <= 1e-6).all()
    with pytest.raises(DataError, match="history 1 is empty"):
        ranker.log_probs(sequences([1], []))
