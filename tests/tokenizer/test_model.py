from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hidvae.config import TokenizerConfig
from hidvae.tokenizer.losses import tag_alignment_loss, tag_prediction_loss, uniqueness_loss
from hidvae.tokenizer.model import HiDVAE, TokenizerLosses, build_tokenizer
from hidvae.tokenizer.train_tokenizer import _weighted_sum

CONFIG = TokenizerConfig(
    codebook_size=8, hidden_dims=(16,), latent_dim=6, dropout=0.0, learning_rate=1e-2
)


class Batch:
    """24 random items with tags of 2, 3 and 4 classes, some of them unknown."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.embeddings = torch.randn(24, 10, generator=generator)
        columns = [torch.randint(-1, size, (24,), generator=generator) for size in (2, 3, 4)]
        self.tag_ids = torch.stack(columns, dim=1)
        self.item_index = torch.arange(24)
        self.tag_embeddings = [torch.randn(size, 5, generator=generator) for size in (2, 3, 4)]

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.embeddings, self.tag_ids, self.item_index


def model_of(batch: Batch, **changes: Any) -> HiDVAE:
    torch.manual_seed(0)
    config = replace(CONFIG, **changes)
    model = build_tokenizer(config, 10, 0, batch.tag_embeddings)
    model.autoencoder.fit_scale(batch.embeddings)
    return model.eval()


@pytest.mark.parametrize("mode", ["straight_through", "gumbel", "rotation"])
@pytest.mark.parametrize("sim_vq", [False, True])
def test_losses_have_their_shapes_and_reach_every_weight(mode: str, sim_vq: bool) -> None:
    batch = Batch()
    model = model_of(batch, gradient_mode=mode, sim_vq=sim_vq)
    losses = model(*batch.inputs())
    for name, value in losses._asdict().items():
        assert value.shape == ((3,) if name.startswith("tag") else ()), name
        assert value.isfinite().all(), name
    _weighted_sum(losses, replace(CONFIG, uniqueness_margin=-1)).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_losses_are_the_loss_functions_unweighted() -> None:
    batch = Batch()
    model = model_of(batch, focal_gamma=1.5, uniqueness_margin=0.2)
    heads = model.tag_heads
    assert heads is not None
    losses = model(*batch.inputs())
    latents = model.autoencoder.encode(batch.embeddings)
    quantized = model.quantizer(latents)
    inputs = heads.inputs(quantized.level_vectors)
    for level, head_input in enumerate(inputs):
        tags = batch.tag_ids[:, level]
        torch.testing.assert_close(
            losses.tag_alignment[level],
            tag_alignment_loss(head_input, heads.class_vectors(level), tags, 0.07),
        )
        torch.testing.assert_close(
            losses.tag_prediction[level],
            tag_prediction_loss(heads.logits(level, head_input), tags, 1.5),
        )
    unique = uniqueness_loss(latents, quantized.codes, batch.item_index, 0.2)
    torch.testing.assert_close(losses.uniqueness, unique)


def test_every_weight_is_applied_once() -> None:
    """The published code squared two of them (bug B2)."""
    losses = TokenizerLosses(
        reconstruction=torch.tensor(2.0),
        codebook=torch.tensor(3.0),
        commitment=torch.tensor(5.0),
        uniqueness=torch.tensor(7.0),
        tag_alignment=torch.tensor([1.0, 10.0, 100.0]),
        tag_prediction=torch.tensor([2.0, 20.0, 200.0]),
    )
    config = TokenizerConfig(
        commitment_weight=0.25,
        uniqueness_weight=1.5,
        tag_alignment_weight=0.1,
        tag_prediction_weight=0.01,
    )
    by_hand = 2 + 3 + 0.25 * 5 + 1.5 * 7 + 0.1 * 111 + 0.01 * 222
    total = _weighted_sum(losses, config)
    assert total.item() == pytest.approx(by_hand)


def test_one_batch_can_be_learned_by_heart() -> None:
    batch = Batch()
    model = model_of(batch, codebook_size=24, latent_dim=16, hidden_dims=(32,))
    config = replace(CONFIG, tag_alignment_weight=0.1, tag_prediction_weight=0.1)
    with torch.no_grad():
        latents = model.autoencoder.encode(batch.embeddings)
        model.quantizer.initialize(latents, torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    first = last = model(*batch.inputs())
    for _ in range(80):
        last = model(*batch.inputs())
        _weighted_sum(last, config).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert last.reconstruction < 0.1 * first.reconstruction
    model.eval()
    _, quantized = model.encode(batch.embeddings)
    assert len(quantized.codes.unique(dim=0)) == 24, "every item has an ID of its own"
    predicted, confidence = model.predict_tags(quantized.codes)
    known = batch.tag_ids >= 0
    assert torch.equal(predicted[known], batch.tag_ids[known])
    assert confidence[known].mean() > 0.8


def test_without_supervision_it_is_a_plain_rq_vae() -> None:
    batch = Batch()
    model = model_of(batch, tag_alignment_weight=0, tag_prediction_weight=0)
    assert model.tag_heads is None
    losses = model(*batch.inputs())
    assert losses.tag_alignment.tolist() == losses.tag_prediction.tolist() == [0, 0, 0]
    tags, confidence = model.predict_tags(torch.zeros(4, 3, dtype=torch.long))
    assert (tags == -1).all() and (confidence == 0).all()
    assert tags.shape == confidence.shape == (4, 3)


def test_classifiers_that_are_not_trained_predict_nothing() -> None:
    model = model_of(Batch(), tag_alignment_weight=0.1, tag_prediction_weight=0)
    assert model.tag_heads is not None
    tags, confidence = model.predict_tags(torch.zeros(4, 3, dtype=torch.long))
    assert (tags == -1).all() and (confidence == 0).all()


def test_without_any_tag_there_are_no_heads() -> None:
    model = build_tokenizer(CONFIG, 10, 0, [torch.zeros(0, 0)] * 3)
    assert model.tag_heads is None


def test_a_level_without_tags_costs_nothing() -> None:
    batch = Batch()
    batch.tag_embeddings[1] = torch.zeros(0, 5)
    batch.tag_ids[:, 1] = -1
    losses = model_of(batch)(*batch.inputs())
    assert losses.tag_alignment[1] == losses.tag_prediction[1] == 0
    assert (losses.tag_alignment[[0, 2]] > 0).all() and (losses.tag_prediction[[0, 2]] > 0).all()


def test_unknown_tags_leave_no_trace_in_the_tag_losses() -> None:
    batch = Batch()
    model = model_of(batch)
    batch.tag_ids[10:] = -1
    masked = model(*batch.inputs())
    cut = model(batch.embeddings[:10], batch.tag_ids[:10], batch.item_index[:10])
    torch.testing.assert_close(masked.tag_alignment, cut.tag_alignment)
    torch.testing.assert_close(masked.tag_prediction, cut.tag_prediction)
