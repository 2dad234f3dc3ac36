from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.stages import encode_catalogue, tag, train_tokenizer

from hidvae.config import LLMConfig, RunConfig, TagConfig, TokenizerConfig
from hidvae.errors import ArtifactError, ConfigError, DataError, NotTrainedError
from hidvae.features.embeddings import load_embeddings
from hidvae.semantic_ids.table import SemanticIds
from hidvae.store.artifacts import StageFolder, read_stage
from hidvae.tokenizer import train_tokenizer as train_module
from hidvae.tokenizer.model import build_tokenizer
from hidvae.tokenizer.train_tokenizer import (
    LOG,
    WEIGHTS,
    Survey,
    TokenizerTask,
    TrainingItems,
    load_held_out,
    load_tokenizer,
)
from hidvae.training.parallel import Share
from hidvae.training.runtime import start_fabric
from training.trained import RUN, assert_same, stopped_after

from .conftest import EMBEDDING, kill_codes

Change = Callable[[Callable[[np.ndarray], np.ndarray]], StageFolder]
Fit = Callable[..., StageFolder]


def weights(folder: StageFolder) -> bytes:
    return (folder.path / WEIGHTS).read_bytes()


def rows(folder: StageFolder) -> list[dict[str, str]]:
    with (folder.path / LOG).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def fit(
    config: TokenizerConfig,
    run: RunConfig,
    demo_folder: StageFolder,
    embeddings: StageFolder,
    tags: StageFolder,
    tmp_path: Path,
) -> Fit:
    """Train on the demo with some settings changed, or on other embeddings or tags."""

    def call(
        name: str = "tokenizer",
        *,
        run: RunConfig = run,
        embeddings: StageFolder = embeddings,
        tags: StageFolder = tags,
        **changes: Any,
    ) -> StageFolder:
        changed = replace(config, **changes)
        return train_tokenizer(changed, run, demo_folder, embeddings, tags, tmp_path / name)

    return call


def test_training_improves_and_says_so(tokenizer: StageFolder, config: TokenizerConfig) -> None:
    log = rows(tokenizer)
    assert [row["epoch"] for row in log] == ["1", "2", "3"]
    for name in ("reconstruction", "tag_prediction", "tag_alignment"):
        assert float(log[-1][name]) < float(log[0][name]), name
    for row in log:
        for level in range(config.num_levels):
            assert 0 < float(row[f"usage_{level}"]) <= 1
            assert 1 <= float(row[f"perplexity_{level}"]) <= 16
        assert 0 <= float(row["collision_rate"]) < 1
        assert float(row["uniqueness"]) >= 0
    assert tokenizer.metrics["epoch"] == 3


def test_every_layer_moves(
    fit: Fit, tags: StageFolder, tokenizer: StageFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient of infinity in the first step once stopped the encoder, silently."""
    monkeypatch.setattr(train_module, "WEIGHT_DECAY", 0.0)  # or every weight would change
    longer = fit(epochs=6)
    before = dict(load_tokenizer(tokenizer, tags).named_parameters())
    for name, after in load_tokenizer(longer, tags).named_parameters():
        assert (after != before[name]).float().mean() > 0.5, name


def test_the_stage_knows_what_it_was_made_from(
    tokenizer: StageFolder, demo_folder: StageFolder, embeddings: StageFolder, tags: StageFolder
) -> None:
    made_from = {"dataset": demo_folder, "embeddings": embeddings, "tags": tags}
    expected = {name: folder.fingerprint for name, folder in made_from.items()}
    assert tokenizer.manifest["inputs"] == expected
    assert tokenizer.facts["num_items"] == 120
    assert tokenizer.facts["num_held_out"] == 12
    assert tokenizer.facts["input_dim"] == load_embeddings(embeddings).dim
    assert not list(tokenizer.path.parent.glob(".*")), "nothing but the stage is left"


def test_save_then_load_gives_the_same_model(
    tokenizer: StageFolder, embeddings: StageFolder, tags: StageFolder
) -> None:
    items = torch.from_numpy(load_embeddings(embeddings).matrix)
    first, second = load_tokenizer(tokenizer, tags), load_tokenizer(tokenizer, tags)
    assert not first.training
    assert torch.equal(first.encode(items)[0], second.encode(items)[0])
    stored = load_file(tokenizer.path / WEIGHTS)
    assert {name: value.shape for name, value in first.state_dict().items()} == {
        name: value.shape for name, value in stored.items()
    }


def test_damaged_weights_are_one_line(
    tokenizer: StageFolder, tags: StageFolder, tmp_path: Path
) -> None:
    damaged = tmp_path / "tokenizer"
    damaged.mkdir()
    for file in tokenizer.path.iterdir():
        content = file.read_bytes()
        is_tensors = file.suffix == ".safetensors"
        (damaged / file.name).write_bytes(b"\0" * len(content) if is_tensors else content)
    folder = StageFolder(damaged, tokenizer.manifest)
    for load in (lambda: load_tokenizer(folder, tags), lambda: load_held_out(folder)):
        with pytest.raises(ArtifactError, match="hidvae tokenize") as error:
            load()
        assert "\n" not in str(error.value)


def test_held_out_items_do_not_touch_the_weights(
    fit: Fit, tokenizer: StageFolder, changed_embeddings: Change
) -> None:
    held_out = load_held_out(tokenizer)
    assert held_out.sum() == 12

    def scramble(row: int) -> Callable[[np.ndarray], np.ndarray]:
        def change(matrix: np.ndarray) -> np.ndarray:
            matrix[row] = matrix[row][::-1] + 0.5
            return matrix

        return change

    unseen = changed_embeddings(scramble(int(np.flatnonzero(held_out)[0])))
    assert weights(fit(embeddings=unseen)) == weights(tokenizer)
    seen = changed_embeddings(scramble(int(np.flatnonzero(~held_out)[0])))
    assert weights(fit(embeddings=seen)) != weights(tokenizer)


def test_dead_codes_are_revived(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_codes(monkeypatch, num_alive=8)
    usage = {}
    for patience in (99, 1):
        monkeypatch.setattr(train_module, "DEAD_CODE_EPOCHS", patience)
        log = rows(fit(str(patience), epochs=4))
        usage[patience] = [float(row["usage_0"]) for row in log]
    assert usage[99][0] == usage[1][0] <= 0.5
    assert max(usage[99]) <= 0.5, "without resets the dead stay dead"
    assert usage[1][-1] > 0.8


def test_patience_is_counted_in_epochs(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_codes(monkeypatch, num_alive=8)
    usage = [float(row["usage_0"]) for row in rows(fit(epochs=4))]
    assert max(usage[:2]) <= 0.5 < usage[2]


def test_patience_goes_on_in_a_resumed_training(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_codes(monkeypatch, num_alive=8)
    whole = fit("whole")
    with stopped_after(5):  # in the second epoch
        fit(run=RUN)
    assert_same(fit(), whole)


@pytest.mark.parametrize("codebook_size", [16, 5])
def test_a_collapsed_codebook_is_warned_about(
    codebook_size: int,
    fit: Fit,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kill_codes(monkeypatch, num_alive=1)
    fit(codebook_size=codebook_size, epochs=1)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "level 0" in warnings[0] and "collapsed" in warnings[0]


def test_a_healthy_codebook_is_not_warned_about(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    fit(epochs=1)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebook_size": 2}, r"120 items does not fit 2\^3 = 8 .*codebook_size"),
        (
            {"held_out_fraction": 0.5, "codebook_size": 3},
            r"3\^3 = 27 .*up to the 60 training items",
        ),
    ],
)
def test_a_catalogue_that_does_not_fit_is_refused_before_any_training(
    changes: dict[str, Any],
    message: str,
    fit: Fit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train_module, "Trainer", lambda *_, **__: pytest.fail("it started"))
    with pytest.raises(DataError, match=message) as error:
        fit(**changes)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_disambiguation_has_room_for_any_catalogue(
    fit: Fit, embeddings: StageFolder, tags: StageFolder
) -> None:
    folder = fit(codebook_size=2, collisions="disambiguate", epochs=1)
    items = load_embeddings(embeddings).matrix[~load_held_out(folder)]
    _, quantized = load_tokenizer(folder, tags).encode(torch.tensor(items))
    distinct = len(quantized.codes.unique(dim=0))
    assert distinct <= 8 < len(items) == 108
    assert folder.metrics["collision_rate"] == pytest.approx(1 - distinct / len(items))


def test_a_codebook_has_no_more_codes_than_training_items(
    fit: Fit,
    demo_folder: StageFolder,
    embeddings: StageFolder,
    tags: StageFolder,
    tmp_path: Path,
) -> None:
    folder = fit(codebook_size=256, epochs=1)
    said = [decision.text for decision in folder.decisions]
    assert said == ["codebooks have 108 codes a level, as many as training items, not 256"]
    assert (folder.config["codebook_size"], folder.facts["codebook_size"]) == (256, 108)
    levels = load_tokenizer(folder, tags).quantizer.levels
    assert [len(level.vectors()) for level in levels] == [108] * 3
    ids = encode_catalogue(folder, demo_folder, embeddings, tags, tmp_path / "ids")
    assert SemanticIds.load(ids).level_sizes == (108, 108, 108)


def test_tags_of_other_levels_are_refused(
    fit: Fit, demo_folder: StageFolder, embeddings: StageFolder, tmp_path: Path
) -> None:
    two = tag(
        TagConfig(),
        LLMConfig(),
        EMBEDDING,
        demo_folder,
        embeddings,
        tmp_path / "tags",
        num_levels=2,
    )
    with pytest.raises(ConfigError, match=r"num_levels = 3 levels; found 2") as error:
        fit(tags=two)
    assert "\n" not in str(error.value)
    fit(tags=two, tag_alignment_weight=0, tag_prediction_weight=0, epochs=1)


def test_without_tags_it_trains_a_plain_rq_vae(
    fit: Fit, demo_folder: StageFolder, embeddings: StageFolder, tmp_path: Path
) -> None:
    no_tags = TagConfig(source="none")
    none = tag(no_tags, LLMConfig(), EMBEDDING, demo_folder, embeddings, tmp_path / "tags")
    folder = fit(tags=none, epochs=1)
    assert load_tokenizer(folder, none).tag_heads is None
    assert not [name for name in load_file(folder.path / WEIGHTS) if name.startswith("tag_heads")]


@pytest.mark.parametrize("uniqueness_weight", [0.0, 1.0])
def test_an_epoch_shows_every_item_at_most_once(
    uniqueness_weight: float, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    forward = train_module.HiDVAE.forward

    def watch(
        self: train_module.HiDVAE,
        items: torch.Tensor,
        tag_ids: torch.Tensor,
        index: torch.Tensor,
        share: Share,
    ) -> train_module.TokenizerLosses:
        seen.append(index.clone())
        return forward(self, items, tag_ids, index, share)

    monkeypatch.setattr(train_module.HiDVAE, "forward", watch)
    folder = fit(uniqueness_weight=uniqueness_weight, epochs=2)
    held_out = set(np.flatnonzero(load_held_out(folder)).tolist())
    epochs = [torch.cat(seen[:3]).tolist(), torch.cat(seen[3:]).tolist()]
    assert len(seen) == 6
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == 96
        assert not held_out & set(epoch)
    assert epochs[0] != epochs[1]


def task_of(**settings: Any) -> TokenizerTask:
    """The task over 100 items, before its first epoch."""
    config = TokenizerConfig(num_levels=1, **settings)
    items = TrainingItems(torch.zeros(100, 4), torch.full((100, 1), -1), torch.arange(100))
    model = build_tokenizer(config, 4, 0, [])
    return TokenizerTask(start_fabric(RunConfig(device="cpu")), model, items, config, seed=0)


def test_items_that_share_an_id_share_a_batch() -> None:
    """Else the uniqueness loss would hardly ever see a colliding pair."""
    task = task_of(codebook_size=2, batch_size=2)
    order = task.shuffle(torch.arange(100).remainder(50).unsqueeze(1), epoch=0).tolist()
    assert sorted(order) == list(range(100))
    gaps = [abs(order.index(item) - order.index(item + 50)) for item in range(50)]
    assert set(gaps) <= {1, 99}


def test_only_epochs_in_a_row_make_a_code_dead() -> None:
    task = task_of(codebook_size=3, latent_dim=4)
    table = task.model.quantizer.levels[0].table
    before = table.detach().clone()
    residuals = torch.full((100, 1, 4), 7.0)
    for epoch, used in enumerate(([0, 2], [1, 2], [0, 2], [1, 2], [1, 2])):
        assert torch.equal(table, before)
        codes = torch.tensor(used).repeat(50).unsqueeze(1)
        task.revive_dead_codes(Survey(codes, residuals), epoch)
    assert (table[0] == 7).all(), "unused in the last two epochs"
    assert torch.equal(table[1:], before[1:])


def test_a_missing_stage_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NotTrainedError, match="hidvae tokenize"):
        read_stage(tmp_path / "tokenizer", produced_by="hidvae tokenize")
