"""Residual quantization: each level quantizes what the earlier levels left over."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from hidvae.config import GradientMode
from hidvae.tokenizer.codebook import (
    Codebook,
    kmeans,
    nearest_codes,
    nearest_codes_of_all,
    pass_gradient,
)

GUMBEL_TEMPERATURE = 0.2
"""Of ``gradient_mode = "gumbel"``, as published: sharp, so that training sees nearly one code."""


class Quantized(NamedTuple):
    """Outcome of quantizing a batch of latents."""

    codes: Tensor
    """(B, L), integers in [0, K)."""
    level_vectors: Tensor
    """(B, L, D), the chosen vector of each level, with the gradient of the mode."""
    residuals: Tensor
    """(B, L, D), what each level was given to quantize."""
    codebook_loss: Tensor
    """Scalar: moves the codes to the residuals, |sg(r) - e|^2 summed over levels."""
    commitment_loss: Tensor
    """Scalar: moves the residuals to the codes, |r - sg(e)|^2 summed over levels."""

    @property
    def latent(self) -> Tensor:
        """(B, D), the quantized latent: the sum of the levels' vectors."""
        return self.level_vectors.sum(dim=1)


class ResidualQuantizer(nn.Module):
    """L codebooks of K codes each.

    Source: RQ-VAE as in TIGER (arXiv:2305.05065) and HiD-VAE: r_0 = z, e_l = q_l(r_l),
    r_{l+1} = r_l - e_l, quantized latent = sum of e_l.
    """

    def __init__(
        self,
        num_levels: int,
        codebook_size: int,
        dim: int,
        gradient_mode: GradientMode = "rotation",
        sim_vq: bool = False,
    ) -> None:
        super().__init__()
        self.codebooks = nn.ModuleList(
            Codebook(codebook_size, dim, sim_vq) for _ in range(num_levels)
        )
        self.gradient_mode = gradient_mode

    @property
    def levels(self) -> list[Codebook]:
        """The codebooks, coarse to fine."""
        return cast(list[Codebook], list(self.codebooks))

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize latents (B, D)."""
        residual = latents
        codes, level_vectors, residuals = [], [], []
        codebook_loss = commitment_loss = latents.new_zeros(())
        for codebook in self.levels:
            vectors = codebook.vectors()
            code = nearest_codes(residual.detach(), vectors.detach())  # (B,)
            chosen = vectors[code]  # (B, D)
            codebook_loss = codebook_loss + _squared_distance(residual.detach(), chosen)
            commitment_loss = commitment_loss + _squared_distance(residual, chosen.detach())
            passed = pass_gradient(residual, vectors, code, self.gradient_mode, GUMBEL_TEMPERATURE)
            codes.append(code)
            level_vectors.append(passed)
            residuals.append(residual)
            residual = residual - passed
        return Quantized(
            torch.stack(codes, dim=1),
            torch.stack(level_vectors, dim=1),
            torch.stack(residuals, dim=1),
            codebook_loss,
            commitment_loss,
        )

    def vectors_of(self, codes: Tensor) -> Tensor:
        """Codebook vectors (B, L, D) of codes (B, L): the way back from an ID."""
        return torch.stack(
            [codebook.vectors()[codes[:, level]] for level, codebook in enumerate(self.levels)],
            dim=1,
        )

    @torch.no_grad()
    def initialize(self, latents: Tensor, generator: torch.Generator) -> None:
        """K-means on the residuals that each level will see; latents are (N, D)."""
        residual = latents
        for codebook in self.levels:
            size = codebook.table.shape[0]
            centroids = kmeans(residual, size, generator)
            codebook.set_vectors(torch.arange(size, device=latents.device), centroids)
            vectors = codebook.vectors()
            residual = residual - vectors[nearest_codes_of_all(residual, vectors)]

    @torch.no_grad()
    def reset_codes(self, level: int, codes: Tensor, residuals: Tensor) -> None:
        """Move dead codes (n,) of one level onto residuals (n, D) that live items have there."""
        self.levels[level].set_vectors(codes, residuals)


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum(dim=1).mean()
