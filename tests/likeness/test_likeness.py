"""The learned likeness: what it learns, what its loss is, and that new items have it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy import sparse
from tests.stages import fit_stage

from hidvae.config import Config, GraphConfig, RunConfig, load_config
from hidvae.data.interactions import Sequences
from hidvae.data.sources.frames import tables_from
from hidvae.errors import ArtifactError
from hidvae.likeness import train_likeness
from hidvae.likeness.likeness_model import FILE, ItemLikeness, LikenessModel, Words, load_vectors
from hidvae.likeness.train_likeness import TEMPERATURE, PairLoss, training_pairs
from hidvae.run.run import Run
from hidvae.run.stages import STAGE_OF
from hidvae.store.artifacts import StageFolder, read_stage
from hidvae.training import trainer

PLANTED = Config(run=RunConfig(device="cpu"))


def test_pairs_are_different_items_of_one_history_and_near() -> None:
    train = Sequences.from_lists([[0, 1, 1, 2, 3], [4], [5, 0]])
    near = [(0, 1), (1, 2), (2, 3), (5, 0), (0, 1), (1, 2), (1, 3), (0, 2), (1, 3)]
    assert sorted(map(tuple, training_pairs(train, 0).tolist())) == sorted(near)
    assert len(training_pairs(Sequences.from_lists([[3], [4]]), 0)) == 0
    assert len(training_pairs(Sequences.from_lists([[7, 7]]), 0)) == 0


def test_of_a_long_log_as_many_pairs_are_drawn_as_can_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train_likeness, "MAX_STEPS", 2)
    monkeypatch.setattr(train_likeness, "BATCH_SIZE", 3)
    train = Sequences.from_lists([list(range(20))])
    drawn = training_pairs(train, 0)
    assert len(drawn) == 6 and (np.abs(drawn[:, 0] - drawn[:, 1]) <= 3).all()
    np.testing.assert_array_equal(drawn, training_pairs(train, 0))
    assert (drawn != training_pairs(train, 1)).any()


def some_items() -> tuple[np.ndarray, sparse.csr_array]:
    random = np.random.default_rng(0)
    content = random.normal(size=(6, 4)).astype(np.float32)
    tfidf = sparse.csr_array(random.random((6, 5)) * (random.random((6, 5)) < 0.5))
    return content, tfidf.astype(np.float32)


def test_the_loss_is_the_one_written_down() -> None:
    content, tfidf = some_items()
    occurrences = np.array([3, 1, 2, 5, 0, 4])
    learner = PairLoss(LikenessModel(4, 5, 8), content, tfidf, occurrences).eval()
    pairs = torch.tensor([[0, 3], [1, 3], [2, 0], [5, 1], [3, 5]])
    vectors = learner.model(learner.content, learner.words, torch.arange(6)).detach().numpy()
    share = np.maximum(occurrences, 1) / occurrences.sum()
    losses = []
    for asked, answer in pairs.tolist():
        logit = {
            item: vectors[asked] @ vectors[item] / TEMPERATURE - np.log(share[item])
            for item in range(6)
        }
        others = [a for _, a in pairs.tolist() if a not in (asked, answer)]
        total = np.exp(logit[answer]) + sum(np.exp(logit[item]) for item in others)
        losses.append(np.log(total) - logit[answer])
    assert float(learner(pairs).detach()) == pytest.approx(np.mean(losses), rel=1e-4)


def test_an_item_without_content_has_no_vector() -> None:
    content, tfidf = some_items()
    content[2] = 0.0
    dense = tfidf.toarray()
    dense[2] = 0.0
    model = LikenessModel(4, 5, 8).eval()
    vectors = model(torch.from_numpy(content), Words(sparse.csr_array(dense)), torch.arange(6))
    np.testing.assert_allclose(vectors.detach().norm(dim=1), [1, 1, 0, 1, 1, 1], rtol=1e-5)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Forty brushes and forty paints in twenty kinds; each brush is followed by paints of its kind.

    The two have no word in common, so that only histories say that they belong together.
    """
    random = np.random.default_rng(0)
    kinds = [f"kind{number}" for number in range(20)]
    rows = [
        {"item_id": f"{what}{number}-{copy}", "title": f"{what} {what}{kind}"}
        for what in ("brush", "paint")
        for number, kind in enumerate(kinds)
        for copy in range(2)
    ]
    events = []
    for user in range(600):
        kind = int(random.integers(20))
        items = [f"brush{kind}-{random.integers(2)}", f"paint{kind}-{random.integers(2)}"]
        items += [rows[int(random.integers(len(rows)))]["item_id"], items[0], items[1]]
        events += [
            {"user_id": user, "item_id": item, "timestamp": t} for t, item in enumerate(items)
        ]
    settings = ["EmbeddingConfig.text_encoder=hashing", "RunConfig.device=cpu"]
    run = Run(tmp_path_factory.mktemp("planted") / "run", "cpu")
    run.tables = tables_from(pl.DataFrame(rows), pl.DataFrame(events))
    run.make(load_config([], settings), until="embed")
    return run


def test_what_follows_each_other_is_alike_though_no_word_is_common(planted: Run) -> None:
    vectors, ids = planted.likeness, planted.dataset.catalogue.item_ids
    assert vectors is not None
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    place = {item_id: row for row, item_id in enumerate(ids)}
    words = (planted.embeddings.tfidf @ planted.embeddings.tfidf.T).toarray()
    brushes = [place[f"brush{kind}-0"] for kind in range(20)]
    paints = [place[f"paint{kind}-1"] for kind in range(20)]
    alike = vectors[brushes] @ vectors[paints].T  # (20, 20)
    assert (alike.argmax(axis=1) == np.arange(20)).mean() >= 0.9
    raw = words[np.ix_(brushes, paints)]
    assert raw.max() == 0


def test_the_stored_vectors_are_those_of_the_stored_model(planted: Run) -> None:
    folder, items = planted.folder("likeness"), planted.embeddings
    learned = ItemLikeness.load(folder)
    assert learned is not None
    again = learned.vectors(items.content[:7], items.tfidf[:7])
    np.testing.assert_allclose(again, planted.likeness[:7], rtol=1e-5, atol=1e-6)


def test_one_seed_gives_one_result_and_another_another(planted: Run, tmp_path: Path) -> None:
    folders = {name: planted.folder(name) for name in ("dataset", "embeddings")}

    def fingerprint(name: str, seed: int) -> str:
        config = Config(run=RunConfig(device="cpu", seed=seed))
        return fit_stage("likeness", tmp_path / name, config, folders).fingerprint

    first = fingerprint("first", 0)
    assert first == fingerprint("again", 0) == planted.folder("likeness").fingerprint
    assert first != fingerprint("other", 1)


def test_nothing_is_learned_where_it_is_not_wanted(planted: Run, tmp_path: Path) -> None:
    folders = {name: planted.folder(name) for name in ("dataset", "embeddings")}
    config = Config(run=RunConfig(device="cpu"), graph=GraphConfig(likeness_weights=(0.0,)))
    made = fit_stage("likeness", tmp_path / "likeness", config, folders)
    assert load_vectors(made) is None and ItemLikeness.load(made) is None
    assert not list(made.path.glob("*.safetensors"))
    assert not made.decisions  # it was asked for


def test_where_nothing_can_be_learned_it_is_said(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", "cpu")
    events = [{"user_id": user, "item_id": f"i{user % 7}", "timestamp": user} for user in range(40)]
    run.tables = tables_from(pl.DataFrame({"item_id": [f"i{n}" for n in range(7)]}), events)
    run.make(load_config([], ["RunConfig.device=cpu"]), until="embed")
    assert run.likeness is None
    assert any("no likeness is learned" in each.text for each in run.folder("likeness").decisions)


def test_a_training_that_was_stopped_ends_with_the_same_bits(
    planted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {name: planted.folder(name) for name in ("dataset", "embeddings")}
    run = Run(tmp_path / "run", "cpu", borrowed=folders)
    config = load_config([], ["RunConfig.device=cpu", "RunConfig.checkpoint_every_seconds=0.001"])
    save = trainer.save_checkpoint

    def save_then_stop(*arguments: Any, **named: Any) -> None:
        save(*arguments, **named)
        if (named["state"]["place"]["epoch"], named["state"]["place"]["step"]) == (2, 1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", save_then_stop)
        with pytest.raises(KeyboardInterrupt):
            run.make_stage(STAGE_OF["likeness"], config)
    assert (run.path / ".likeness.checkpoint" / "checkpoint.safetensors").is_file()
    made = run.make_stage(STAGE_OF["likeness"], config)
    assert made.fingerprint == planted.folder("likeness").fingerprint


def test_a_damaged_file_is_one_line(planted: Run, tmp_path: Path) -> None:
    folders = {name: planted.folder(name) for name in ("dataset", "embeddings")}
    made: StageFolder = fit_stage("likeness", tmp_path / "likeness", PLANTED, folders)
    file = made.path / FILE
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ArtifactError, match=r"likeness.safetensors: cannot be read .* embed"):
        load_vectors(made)


def test_an_added_item_is_as_alike_as_its_twin(tiny_run: Path, tmp_path: Path) -> None:
    trained = Run(tiny_run, "cpu")
    folders = trained.folders([name for name in STAGE_OF if name != "evaluation"])
    settings = GraphConfig(weights=(2.0,), likeness_weights=(6.0,))
    folders["graph"] = fit_stage(
        "graph", tmp_path / "graph", Config(run=RunConfig(device="cpu"), graph=settings), folders
    )
    run = Run(tmp_path / "run", "cpu", borrowed=folders)
    row = run.dataset.catalogue.frame.row(3, named=True)
    changed = run.as_trained.add_items([{**row, "item_id": "twin"}])
    assert run.graph is not None and run.graph.likeness is not None
    assert changed.graph is not None and changed.graph.likeness is not None
    assert len(changed.graph.likeness) == len(run.graph.likeness) + 1
    torch.testing.assert_close(
        changed.graph.likeness[-1], run.graph.likeness[3], rtol=1e-4, atol=1e-5
    )
    # The same where the likeness ranks without the graph.
    settings = GraphConfig(weights=(0.0,), likeness_weights=(6.0,))
    folders["graph"] = fit_stage(
        "graph", tmp_path / "alone", Config(run=RunConfig(device="cpu"), graph=settings), folders
    )
    alone = Run(tmp_path / "other", "cpu", borrowed=folders).as_trained
    added = alone.add_items([{**row, "item_id": "twin"}])
    assert added.graph is not None and added.graph.neighbours.nnz == 0
    gains = added.graph(torch.tensor([[3]]))
    assert int(gains.items[0, gains.values[0].argmax()]) == added.catalogue.num_items - 1
    updated = run.as_trained.update_items(
        [{**run.dataset.catalogue.frame.row(5, named=True), "item_id": row["item_id"]}]
    )
    assert updated.graph is not None and updated.graph.likeness is not None
    torch.testing.assert_close(
        updated.graph.likeness[3], run.graph.likeness[5], rtol=1e-4, atol=1e-5
    )


def test_the_whole_run_needs_the_stage(tiny_run: Path) -> None:
    folder = read_stage(tiny_run / "likeness", produced_by="hidvae embed")
    assert read_stage(tiny_run / "graph", produced_by="hidvae").manifest["inputs"]["likeness"] == (
        folder.fingerprint
    )
