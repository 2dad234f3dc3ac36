"""Encoder and decoder: item embedding to latent and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Autoencoder(nn.Module):
    """MLP encoder and mirrored decoder around a latent of width D.

    Inputs are centred and scaled by statistics of the training items (``fit_scale``), so that the
    reconstruction loss reads as the share of variance that is not explained. The last
    ``num_categorical`` inputs are 0/1 features; they are left as they are, and reconstructed with
    binary cross-entropy.
    """

    input_mean: Tensor
    input_scale: Tensor

    def __init__(
        self,
        input_dim: int,
        hidden_dims: Sequence[int],
        latent_dim: int,
        num_categorical: int = 0,
        normalize_latents: bool = True,
    ) -> None:
        super().__init__()
        widths = [input_dim, *hidden_dims, latent_dim]
        self.encoder = _mlp(widths)
        self.decoder = _mlp(widths[::-1])
        self.num_continuous = input_dim - num_categorical
        self.normalize_latents = normalize_latents
        self.register_buffer("input_mean", torch.zeros(input_dim))
        self.register_buffer("input_scale", torch.ones(()))

    @torch.no_grad()
    def fit_scale(self, embeddings: Tensor) -> None:
        """Set centre and scale from the training items' embeddings (N, D_in)."""
        continuous = embeddings[:, : self.num_continuous]
        if continuous.shape[1] == 0:
            return
        mean = continuous.mean(dim=0)
        self.input_mean[: self.num_continuous] = mean
        self.input_scale.copy_((continuous - mean).square().mean().sqrt().clamp_min(1e-8))

    def standardize(self, embeddings: Tensor) -> Tensor:
        """Inputs as the encoder sees them, (B, D_in)."""
        continuous = (embeddings - self.input_mean)[:, : self.num_continuous] / self.input_scale
        return torch.cat([continuous, embeddings[:, self.num_continuous :]], dim=1)

    def encode(self, embeddings: Tensor) -> Tensor:
        """Latents (B, D) of item embeddings (B, D_in); unit length if ``normalize_latents``."""
        latents: Tensor = self.encoder(self.standardize(embeddings))
        return F.normalize(latents, dim=1) if self.normalize_latents else latents

    def reconstruction_loss(self, latents: Tensor, embeddings: Tensor) -> Tensor:
        """Mean squared error of the continuous inputs plus cross-entropy of the categorical ones.

        Args:
            latents: (B, D), quantized.
            embeddings: (B, D_in), what to reconstruct.
        """
        target = self.standardize(embeddings)
        output = self.decoder(latents)
        n = self.num_continuous
        loss = latents.new_zeros(())
        if n:
            loss = loss + F.mse_loss(output[:, :n], target[:, :n])
        if n < target.shape[1]:
            loss = loss + F.binary_cross_entropy_with_logits(output[:, n:], target[:, n:])
        return loss


def _mlp(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index, (width_in, width_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        layer = nn.Linear(width_in, width_out, bias=False)
        # Keeps the spread of the inputs through the layers: with PyTorch's default the latents of
        # an untrained encoder nearly coincide, and the codebooks start from noise.
        nn.init.orthogonal_(layer.weight, gain=2**0.5)
        layers.append(layer)
        if index < len(widths) - 2:
            layers.append(nn.SiLU())
    return nn.Sequential(*layers)
