"""TIGER: text alone makes its IDs, and it learns what was planted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from hidvae.config import Config, RunConfig, load_config
from hidvae.data.interactions import count_items
from hidvae.data.prepare import load_dataset
from hidvae.errors import ConfigError
from hidvae.evaluation.baselines import tiger
from hidvae.evaluation.baselines.untrained import Popularity
from hidvae.evaluation.evaluate_ranker import Ranker, evaluate_ranker
from hidvae.features.embeddings import load_embeddings
from hidvae.ranking.ranker import GenerativeRanker
from hidvae.run.run import Run
from hidvae.semantic_ids.table import SemanticIds
from hidvae.store.artifacts import StageFolder, read_json, read_stage
from training.trained import RUN, stopped_after

STAGES = ("embeddings", "tokenizer", "semantic_ids", "retriever")
BELOW = "baselines/tiger"
Folders = dict[str, StageFolder]


@pytest.fixture(scope="module")
def folders(tiny_run: Path) -> Folders:
    return Run(tiny_run).folders(["dataset", "embeddings", "tags"])


def make(run: RunConfig, folders: Folders, output: Path) -> GenerativeRanker:
    """TIGER in ``output``/baselines/tiger."""
    return tiger.tiger(Run(output, "cpu", borrowed=folders), Config(run=run))


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """A TIGER that trains in seconds."""
    with pytest.MonkeyPatch.context() as patch:
        tokenizer = replace(
            tiger.TOKENIZER, codebook_size=16, latent_dim=8, hidden_dims=(32,), epochs=5
        )
        retriever = replace(
            tiger.RETRIEVER,
            dim=16,
            num_layers=1,
            num_heads=2,
            max_history=6,
            epochs=3,
            validate_every=3,
            warmup_steps=10,
            learning_rate=5e-3,
            batch_tokens=400,
        )
        patch.setattr(tiger, "TOKENIZER", tokenizer)
        patch.setattr(tiger, "RETRIEVER", retriever)
        patch.setattr(tiger, "BEAM_WIDTH", 20)
        yield


@pytest.fixture(scope="module")
def made(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    make(RUN, folders, output)
    return output / BELOW


def fingerprints(output: Path) -> dict[str, str]:
    return {n: read_stage(output / n, produced_by="hidvae").fingerprint for n in STAGES}


@pytest.fixture
def cycle(tmp_path: Path, tiny_settings: list[str]) -> Folders:
    """A shop of 30 items where every user goes through six in their order, round and round."""
    data = tmp_path / "data"
    data.mkdir()
    names = [f"item{number}" for number in range(30)]
    pl.DataFrame({"item_id": names, "title": names}).write_parquet(data / "items.parquet")
    events = [(f"user{u}", names[(u + step) % 30], step) for u in range(120) for step in range(6)]
    pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row").write_parquet(
        data / "interactions.parquet"
    )
    settings = ["DatasetConfig.source=folder", f"DatasetConfig.folder={data}"]
    settings += ["TagConfig.source=none", "TokenizerConfig.tag_prediction_weight=0"]
    settings += ["TokenizerConfig.tag_alignment_weight=0"]
    config = load_config([], [*tiny_settings, *settings])
    return Run(tmp_path / "run").make(config, until="tag")


def recall(ranker: Ranker, folders: Folders) -> float:
    dataset = load_dataset(folders["dataset"])
    result = evaluate_ranker(
        ranker,
        dataset.split.test_histories,
        dataset.split.test_targets,
        num_items=dataset.catalogue.num_items,
        cutoffs=(5,),
        popularity=count_items(dataset.split.train, dataset.catalogue.num_items),
        bootstrap_samples=0,
    )
    return float(result.excluding["recall@5"])  # type: ignore[arg-type]


def test_it_is_given_the_content_alone(folders: Folders, made: Path) -> None:
    everything = load_embeddings(folders["embeddings"])
    given = load_embeddings(read_stage(made / "embeddings", produced_by="hidvae"))
    assert everything.content.shape[1] < everything.dim
    assert np.array_equal(given.matrix, everything.content)
    assert given.num_categorical == 0
    assert np.array_equal(given.content, given.matrix)


def test_its_ids_are_plain_with_a_code_for_collisions(made: Path) -> None:
    folder = read_stage(made / "semantic_ids", produced_by="hidvae")
    ids = SemanticIds.load(folder)
    assert ids.num_levels == 4
    assert ids.is_disambiguated
    assert (ids.tag_ids == -1).all()
    assert len(np.unique(ids.codes, axis=0)) == ids.num_items
    quality = read_json(folder.path / "quality.json")
    assert quality["collision_rate_before"] > 0  # nothing pushed them apart
    assert quality["items_moved"] == 0


def test_it_learns_what_was_planted(
    cycle: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = replace(tiger.RETRIEVER, dim=32, epochs=60, validate_every=20, batch_tokens=100)
    monkeypatch.setattr(tiger, "RETRIEVER", longer)
    ranker = make(RunConfig(device="cpu"), cycle, tmp_path / "other")
    assert ranker.name == "tiger"
    dataset = load_dataset(cycle["dataset"])
    popular = Popularity(dataset.split.train, dataset.catalogue.num_items)
    assert recall(ranker, cycle) > 1.7 * recall(popular, cycle) > 0.5


def test_a_second_time_trains_nothing(
    folders: Folders, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    output = made.parents[1]
    monkeypatch.setattr("hidvae.run.run.write_stage", fail)
    make(RUN, folders, output)
    with pytest.raises(AssertionError, match="trained again"):
        make(replace(RUN, seed=1), folders, output)
    monkeypatch.setattr(tiger, "RETRIEVER", replace(tiger.RETRIEVER, epochs=5))
    with pytest.raises(AssertionError, match="trained again"):
        make(RUN, folders, output)


def test_stopped_and_resumed_equals_uninterrupted(
    folders: Folders, made: Path, tmp_path: Path
) -> None:
    with stopped_after(7):  # 5 of them are the tokenizer's
        make(RUN, folders, tmp_path)
    own = tmp_path / BELOW
    assert (own / "semantic_ids").exists() and not (own / "retriever").exists()
    make(RUN, folders, tmp_path)
    assert fingerprints(own) == fingerprints(made)


def test_a_small_catalogue_gets_small_codebooks(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiger, "TOKENIZER", replace(tiger.TOKENIZER, codebook_size=256, epochs=1))
    monkeypatch.setattr(tiger, "RETRIEVER", replace(tiger.RETRIEVER, epochs=1))
    make(RUN, folders, tmp_path)
    tokenizer = read_stage(tmp_path / BELOW / "tokenizer", produced_by="hidvae")
    assert tokenizer.facts["codebook_size"] == 120


def test_items_without_content_are_refused(folders: Folders, tmp_path: Path) -> None:
    embeddings = folders["embeddings"]
    facts = {**embeddings.facts, "parts": {"cooccurrence": [0, embeddings.facts["dim"]]}}
    blind = StageFolder(embeddings.path, {**embeddings.manifest, "facts": facts})
    with pytest.raises(ConfigError, match=r"tiger.*EmbeddingConfig\.text_encoder") as error:
        make(RUN, {**folders, "embeddings": blind}, tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.rglob("manifest.json")) == []


def test_tags_do_not_reach_it(folders: Folders, made: Path, tmp_path: Path) -> None:
    """Where every item has another's tags, tokenizer, IDs and retriever are the same bits."""
    tags = folders["tags"]
    other = Path(shutil.copytree(tags.path, tmp_path / "tags"))
    frame = pl.read_parquet(other / "tags.parquet")
    moved = np.roll(np.arange(frame.height), 7)
    columns = [frame[name][moved] for name in frame.columns if name != "item_id"]
    frame.with_columns(columns).write_parquet(other / "tags.parquet")
    assert not frame.equals(pl.read_parquet(other / "tags.parquet"))
    make(RUN, {**folders, "tags": StageFolder(other, tags.manifest)}, tmp_path / "out")
    for file in (
        "tokenizer/model.safetensors",
        "semantic_ids/semantic_ids.parquet",
        "retriever/model.safetensors",
    ):
        assert (tmp_path / "out" / BELOW / file).read_bytes() == (made / file).read_bytes(), file


def test_probabilities_are_over_whole_codebooks(folders: Folders, made: Path) -> None:
    """As published: some are left for IDs that no item has."""
    retriever = make(RUN, folders, made.parents[1]).retriever
    items = torch.tensor([[1, 2, 3], [50, 60, -1]])
    with torch.no_grad():
        memory = retriever.read(items, torch.tensor([0, 1]))
        every = torch.arange(120).expand(2, 120)
        sums = retriever.code_log_probs(memory, every).sum(dim=2).exp().sum(dim=1)
    assert (sums > 0.01).all() and (sums < 0.95).all(), sums
