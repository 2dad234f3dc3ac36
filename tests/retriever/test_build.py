"""Building and loading a retriever."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hidvae.config import RetrieverConfig
from hidvae.errors import ArtifactError, HidvaeError
from hidvae.features.embeddings import load_embeddings
from hidvae.retriever.build import build_retriever, load_retriever, scaled_content
from hidvae.retriever.interface import HistoryBatch
from hidvae.semantic_ids.table import SemanticIds
from hidvae.store.artifacts import read_stage

from .tiny import all_log_probs, random_ids


def test_scale_and_offset_of_the_content_do_not_matter() -> None:
    ids = random_ids()
    content = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    config = RetrieverConfig(architecture="item_decoder", dim=8, num_heads=2)
    outputs = []
    for matrix in (content, 100 * content + 7):
        torch.manual_seed(0)
        model = build_retriever(config, ids, matrix).eval()
        with torch.no_grad():
            outputs.append(model.read(torch.tensor([[1, 2]]), torch.tensor([-1])))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("architecture", ["item_softmax", "item_decoder"])
def test_an_item_that_training_never_sees_has_no_vector_of_its_own(architecture: str) -> None:
    ids, known = random_ids(), np.arange(32) % 5 != 0
    config = RetrieverConfig(architecture=architecture, dim=8, num_heads=2)  # type: ignore[arg-type]
    model: Any = build_retriever(config, ids, np.ones((32, 4), np.float32), warm_items=known)
    own = model.own_vectors.weight.detach().numpy()
    assert (own.any(axis=1) == known).all()


def test_constant_content_is_finite() -> None:
    ids = random_ids()
    config = RetrieverConfig(dim=8, num_heads=2)
    model = build_retriever(config, ids, np.ones((32, 4), np.float32)).eval()
    with torch.no_grad():
        assert all_log_probs(model, torch.tensor([[1, 2]]), torch.tensor([-1])).isfinite().all()


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def load(run: Path) -> torch.nn.Module:
    folders = {
        name: read_stage(run / name, produced_by="hidvae train")
        for name in ("embeddings", "semantic_ids", "retriever")
    }
    return load_retriever(
        folders["retriever"],
        SemanticIds.load(folders["semantic_ids"]),
        load_embeddings(folders["embeddings"]).matrix,
    )


def test_a_loaded_retriever_is_ready_to_rank(run: Path) -> None:
    model = load(run)
    assert not model.training
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("damage", ["garbage", "truncated", "other weights"])
def test_damaged_weights_are_an_error_of_one_line(run: Path, damage: str) -> None:
    from safetensors.torch import load_file, save_file

    file = run / "retriever" / "model.safetensors"
    content = file.read_bytes()
    if damage == "garbage":  # the size is right, so only reading finds it
        file.write_bytes(b"\xff" * len(content))
    elif damage == "truncated":
        file.write_bytes(content[:100])
    else:
        weights = load_file(file)
        weights.pop(sorted(weights)[0])
        save_file(weights, file)
        _resize(run / "retriever" / "manifest.json", file)
    with pytest.raises(HidvaeError) as error:
        load(run)
    assert isinstance(error.value, ArtifactError)
    assert "model.safetensors" in str(error.value)
    assert "\n" not in str(error.value)
    assert "hidvae train" in str(error.value)


def _resize(manifest: Path, file: Path) -> None:
    """Make the manifest accept the file's new size."""
    import json

    content = json.loads(manifest.read_text())
    content["files"][file.name]["bytes"] = file.stat().st_size
    manifest.write_text(json.dumps(content))


@pytest.mark.parametrize("architecture", ["item_softmax", "item_decoder", "encoder_decoder"])
def test_unwarm_items_are_no_alternatives_in_the_loss(architecture: str) -> None:
    """The loss is that of a catalogue without them, whatever their IDs are."""
    ids, items = random_ids(), torch.tensor([[3, 5, 7, 2]])
    known = np.zeros(32, bool)
    known[:20] = True
    config = RetrieverConfig(
        architecture=architecture, dim=16, num_layers=1, num_heads=2, dropout=0.0, max_history=6
    )
    content = np.random.default_rng(0).normal(size=(32, 7)).astype(np.float32)

    def loss(kept: np.ndarray, warm_items: np.ndarray | None, smoothing: float) -> float:
        part = dataclasses.replace(
            ids,
            item_ids=[ids.item_ids[item] for item in kept],
            codes=ids.codes[kept],
            tag_ids=ids.tag_ids[kept],
            tag_confidence=ids.tag_confidence[kept],
        )
        torch.manual_seed(0)
        model = build_retriever(
            dataclasses.replace(config, content_input=False, item_input=False),
            part,
            content[kept],
            warm_items,
        ).eval()
        batch = HistoryBatch(items, torch.tensor([[-1, 7, -1, 9]]), torch.tensor([-1]))
        return float(model.loss(batch, smoothing).detach())

    everything, twenty = np.arange(32), np.arange(20)
    for smoothing in (0.0, 0.3):
        expected = loss(twenty, None, smoothing)
        assert loss(everything, known, smoothing) == pytest.approx(expected, abs=1e-6)
        assert abs(loss(everything, None, smoothing) - expected) > 1e-3


@pytest.mark.parametrize("architecture", ["item_softmax", "item_decoder"])
def test_a_training_step_takes_some_items_for_new_ones(architecture: Any) -> None:
    config = RetrieverConfig(
        architecture=architecture, dim=16, num_heads=2, dropout=0.0, new_item_dropout=0.5
    )
    ids = random_ids()
    content = np.random.default_rng(0).normal(size=(32, 7)).astype(np.float32)
    torch.manual_seed(0)
    model: Any = build_retriever(config, ids, content, None, (4, 7))
    as_known = model.eval().item_vectors().detach()
    new: Any = build_retriever(config, ids, content)
    new.load_state_dict({**model.state_dict(), "own_vectors.weight": torch.zeros(32, 16)})
    without_transitions = np.hstack([content[:, :4], np.zeros_like(content[:, 4:])])
    new.content = scaled_content(config, without_transitions, content)
    as_new = new.eval().item_vectors().detach()
    drawn = model.train().item_vectors()
    is_new = (drawn - as_new).abs().amax(dim=1) < 1e-5
    is_known = (drawn - as_known).abs().amax(dim=1) < 1e-5
    assert torch.equal(is_new, ~is_known)
    assert 4 < int(is_new.sum()) < 28
    drawn.sum().backward()
    assert (model.own_vectors.weight.grad[is_new] == 0).all()
    assert (model.own_vectors.weight.grad[is_known] == 1).all()
    assert torch.equal(model.eval().item_vectors(), as_known)
