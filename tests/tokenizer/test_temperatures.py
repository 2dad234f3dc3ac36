"""Temperatures: found where they were planted, without effect on the tags themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hidvae.features.embeddings import load_embeddings
from hidvae.features.tags.vocabulary import load_tags
from hidvae.semantic_ids.table import SemanticIds
from hidvae.store.artifacts import read_json, read_stage
from hidvae.tokenizer.encode import QUALITY, encode_items, predict_tags
from hidvae.tokenizer.model import HiDVAE
from hidvae.tokenizer.tag_heads import TagHeads
from hidvae.tokenizer.temperatures import calibrate, calibration_errors, fit_temperatures, judge
from hidvae.tokenizer.train_tokenizer import load_held_out, load_tokenizer

NUM_CLASSES = (4, 6)


@pytest.fixture
def heads() -> TagHeads:
    torch.manual_seed(0)
    return TagHeads([torch.randn(size, 5) for size in NUM_CLASSES], latent_dim=3).eval()


def drawn_tags(heads: TagHeads, vectors: torch.Tensor, planted: float) -> torch.Tensor:
    """Tags drawn from the heads' own probabilities at a temperature."""
    generator = torch.Generator().manual_seed(1)
    columns = []
    for level, head_input in enumerate(heads.inputs(vectors)):
        probs = (heads.logits(level, head_input) / planted).softmax(dim=1)
        columns.append(torch.multinomial(probs, 1, generator=generator).squeeze(1))
    return torch.stack(columns, dim=1)


@torch.no_grad()
@pytest.mark.parametrize("planted", [0.5, 1.0, 3.0])
def test_a_planted_temperature_is_found(heads: TagHeads, planted: float) -> None:
    for classifier in heads.classifiers:
        classifier[-1].weight.mul_(10)  # sure enough that a temperature shows
    vectors = torch.randn(4000, 2, 3)
    tags = drawn_tags(heads, vectors, planted)
    found = fit_temperatures(heads, vectors, tags)
    assert found.tolist() == pytest.approx([planted] * 2, rel=0.15)
    tags[:, 1] = -1
    assert fit_temperatures(heads, vectors, tags)[1] == 1, "nothing known, nothing changed"
    assert fit_temperatures(heads, vectors[:20], tags[:20]).tolist() == [1, 1], "too few"


@torch.no_grad()
def test_temperatures_change_confidences_and_no_tag(heads: TagHeads) -> None:
    vectors = torch.randn(50, 2, 3)
    tags, confidence = heads.predict(vectors)
    cooled_tags, cooled = heads.predict(vectors, torch.tensor([2.0, 4.0]))
    assert torch.equal(tags, cooled_tags)
    assert (cooled < confidence).all()
    heads.temperatures.copy_(torch.tensor([2.0, 4.0]))
    assert torch.equal(heads.predict(vectors)[1], cooled)


# --- in a run -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(tiny_run: Path) -> HiDVAE:
    folder = read_stage(tiny_run / "tokenizer", produced_by="hidvae")
    return load_tokenizer(folder, read_stage(tiny_run / "tags", produced_by="hidvae"))


def test_a_runs_confidences_are_those_of_its_tokenizer(tiny_run: Path, tokenizer: HiDVAE) -> None:
    ids = SemanticIds.load(read_stage(tiny_run / "semantic_ids", produced_by="hidvae"))
    _, confidence = predict_tags(tokenizer, ids.codes.copy())
    assert (confidence == ids.tag_confidence).all()
    quality = read_json(tiny_run / "semantic_ids" / QUALITY)
    assert len(quality["tag_calibration_error"]) == ids.num_tag_levels


def test_calibrating_makes_a_tokenizer_that_is_too_sure_believable(tiny_run: Path) -> None:
    folders = {
        name: read_stage(tiny_run / name, produced_by="hidvae")
        for name in ("tokenizer", "embeddings", "tags")
    }
    model = load_tokenizer(folders["tokenizer"], folders["tags"])
    matrix = load_embeddings(folders["embeddings"]).matrix
    truth = load_tags(folders["tags"]).ids
    assert model.tag_heads is not None
    with torch.no_grad():
        for classifier in model.tag_heads.classifiers:
            classifier[-1].weight.mul_(20)
            classifier[-1].bias.mul_(20)
    everything = np.ones(len(matrix), bool)  # all, as the demo holds out too few to judge
    _, codes = encode_items(model, matrix)
    errors = calibration_errors(judge(model, codes, truth, everything))
    for before, after, by_chance in zip(*errors.values(), strict=True):
        assert before is not None and after is not None and by_chance is not None
        assert 0 < by_chance < before / 2
        assert after < before / 2
    calibrate(model, torch.from_numpy(matrix), torch.from_numpy(truth.copy()))
    assert (model.tag_heads.temperatures > 3).all()


def test_what_predicts_no_tags_has_no_error(tokenizer: HiDVAE, tiny_run: Path) -> None:
    held_out = load_held_out(read_stage(tiny_run / "tokenizer", produced_by="hidvae"))
    codes = np.zeros((len(held_out), 3), np.int64)
    nobody = np.zeros_like(held_out)
    truth = np.zeros_like(codes)
    for errors in (
        calibration_errors(judge(tokenizer, codes, truth, nobody)),
        calibration_errors(judge(tokenizer, codes, truth - 1, ~nobody)),
    ):
        assert list(errors.values()) == [[None] * 3] * 3
