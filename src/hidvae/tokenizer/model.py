"""The HiD-VAE tokenizer: encoder, residual quantizer, decoder, and heads for the tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hidvae.config import TokenizerConfig
from hidvae.tokenizer.autoencoder import Autoencoder
from hidvae.tokenizer.losses import tag_alignment_loss, tag_prediction_loss, uniqueness_loss
from hidvae.tokenizer.residual_quantizer import Quantized, ResidualQuantizer
from hidvae.tokenizer.tag_heads import TagHeads
from hidvae.training.parallel import Share


class TokenizerLosses(NamedTuple):
    """Unweighted losses of a batch; the tag losses have one entry per level."""

    reconstruction: Tensor
    codebook: Tensor
    commitment: Tensor
    uniqueness: Tensor
    tag_alignment: Tensor
    """(L,), zeros without tag heads."""
    tag_prediction: Tensor
    """(L,), zeros without tag heads."""


class HiDVAE(nn.Module):
    """Item embedding (B, D_in) to semantic ID (B, L), coarse to fine.

    Without ``tag_heads`` this is a plain RQ-VAE. ``predicts_tags`` is off where the classifiers are
    not trained (weight 0), so that their guesses are not taken for predictions.

    Source: HiD-VAE (arXiv:2508.04618). Equations and departures: docs/paper-to-code.md.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        quantizer: ResidualQuantizer,
        tag_heads: TagHeads | None = None,
        uniqueness_margin: float = 0.9,
        alignment_temperature: float = 0.07,
        focal_gamma: float = 2.0,
        predicts_tags: bool = True,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.quantizer = quantizer
        self.tag_heads = tag_heads
        self.uniqueness_margin = uniqueness_margin
        self.alignment_temperature = alignment_temperature
        self.focal_gamma = focal_gamma
        self.predicts_tags = predicts_tags and tag_heads is not None

    def forward(
        self, embeddings: Tensor, tag_ids: Tensor, item_index: Tensor, share: Share | None = None
    ) -> TokenizerLosses:
        """Losses of a batch.

        Args:
            embeddings: (B, D_in), or of the rows of ``share`` alone.
            tag_ids: (B, L), -1 where unknown.
            item_index: (B,), tells items apart in the uniqueness loss.
            share: This process's part of a batch that several compute. Losses of single rows are
                then of the part, weighed by its size; those that compare rows are of the batch.
        """
        latents = self.autoencoder.encode(embeddings)
        quantized = self.quantizer(latents)
        reconstruction = self.autoencoder.reconstruction_loss(quantized.latent, embeddings)
        codebook, commitment = quantized.codebook_loss, quantized.commitment_loss
        codes, level_vectors = quantized.codes, quantized.level_vectors
        if share is not None:
            weight = share.weight
            reconstruction, codebook = weight * reconstruction, weight * codebook
            commitment = weight * commitment
            latents, codes = share.gather(latents), share.gather(codes)
            level_vectors = share.gather(level_vectors)
        alignment, prediction = self._tag_losses(level_vectors, tag_ids)
        return TokenizerLosses(
            reconstruction=reconstruction,
            codebook=codebook,
            commitment=commitment,
            uniqueness=uniqueness_loss(latents, codes, item_index, self.uniqueness_margin),
            tag_alignment=alignment,
            tag_prediction=prediction,
        )

    def _tag_losses(self, level_vectors: Tensor, tag_ids: Tensor) -> tuple[Tensor, Tensor]:
        heads = self.tag_heads
        if heads is None:
            zeros = level_vectors.new_zeros(level_vectors.shape[1])
            return zeros, zeros
        alignment, prediction = [], []
        for level, head_input in enumerate(heads.inputs(level_vectors)):
            tags = tag_ids[:, level]
            alignment.append(
                tag_alignment_loss(
                    head_input, heads.class_vectors(level), tags, self.alignment_temperature
                )
            )
            logits = heads.logits(level, head_input)
            prediction.append(tag_prediction_loss(logits, tags, self.focal_gamma))
        return torch.stack(alignment), torch.stack(prediction)

    @torch.no_grad()
    def encode(self, embeddings: Tensor) -> tuple[Tensor, Quantized]:
        """Latents (B, D) and their quantization, without gradients."""
        latents = self.autoencoder.encode(embeddings)
        return latents, self.quantizer(latents)

    @torch.no_grad()
    def predict_tags(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Tags and probabilities (B, L) of the codes (B, L).

        -1 and 0.0 where nothing learned to predict them.
        """
        if self.tag_heads is None or not self.predicts_tags:
            return torch.full_like(codes, -1), torch.zeros(codes.shape, device=codes.device)
        return self.tag_heads.predict(self.quantizer.vectors_of(codes))


def build_tokenizer(
    config: TokenizerConfig,
    input_dim: int,
    num_categorical: int,
    tag_embeddings: Sequence[Tensor],
    tag_parents: Sequence[Tensor] | None = None,
) -> HiDVAE:
    """A fresh tokenizer for a catalogue.

    Args:
        config: Settings.
        input_dim: Width D_in of the item embeddings.
        num_categorical: How many of the last inputs are 0/1 features.
        tag_embeddings: Per level (C_l, D_tag); ignored when the tag losses are off.
        tag_parents: Per level (C_l,), see ``TagHeads``.
    """
    heads = None
    if config.is_supervised and any(len(embeddings) for embeddings in tag_embeddings):
        heads = TagHeads(tag_embeddings, config.latent_dim, config.dropout, tag_parents)
    return HiDVAE(
        Autoencoder(
            input_dim,
            config.hidden_dims,
            config.latent_dim,
            num_categorical,
            config.normalize_latents,
        ),
        ResidualQuantizer(
            config.num_levels,
            config.codebook_size,
            config.latent_dim,
            config.gradient_mode,
            config.sim_vq,
        ),
        heads,
        config.uniqueness_margin,
        config.alignment_temperature,
        config.focal_gamma,
        predicts_tags=config.tag_prediction_weight > 0,
    )
