"""One level of the quantizer: nearest code, and how gradients get past it.

In every gradient mode the value that leaves the level is the nearest code's vector, so training and
evaluation give the same IDs; the modes differ only in the gradient that the input receives.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hidvae.config import GradientMode

ITEMS_PER_BLOCK = 4096
"""Of a whole catalogue at once: their distances to all codes then stay in a processor's cache."""
_POINTS_PER_CLUSTER = 256
"""K-means learns from so many, drawn: more take their time and hardly move the centroids."""


class Codebook(nn.Module):
    """K vectors of width D, learned directly or through one linear map (SimVQ).

    Source: SimVQ (arXiv:2411.02038) for ``sim_vq``: the table is frozen and a shared linear map
    moves all codes at once, which keeps unused codes alive.
    """

    def __init__(self, size: int, dim: int, sim_vq: bool = False) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(size, dim) / dim**0.5, requires_grad=not sim_vq)
        self.projection = nn.Linear(dim, dim, bias=False) if sim_vq else None
        if self.projection is not None:
            nn.init.eye_(self.projection.weight)

    def vectors(self) -> Tensor:
        """The codebook vectors, (K, D)."""
        return self.table if self.projection is None else self.projection(self.table)

    @torch.no_grad()
    def set_vectors(self, codes: Tensor, vectors: Tensor) -> None:
        """Overwrite the vectors (n, D) of some codes (n,); used by k-means and dead-code reset."""
        if self.projection is not None:  # the table that the map sends to ``vectors``
            inverse = torch.linalg.pinv(self.projection.weight)
            vectors = vectors @ inverse.T
        self.table[codes] = vectors


def nearest_codes(residual: Tensor, vectors: Tensor) -> Tensor:
    """Index of the closest codebook vector by squared distance.

    Args:
        residual: (B, D).
        vectors: (K, D).

    Returns: (B,) codes in [0, K); ties go to the lowest code.
    """
    # |r - v|^2 without the term in r alone, which does not change the order. (B, K)
    scores = torch.addmm(vectors.square().sum(dim=1), residual, vectors.T, alpha=-2)
    return scores.argmin(dim=1)


def nearest_codes_of_all(residual: Tensor, vectors: Tensor) -> Tensor:
    """``nearest_codes`` of a whole catalogue, whose distances are never held at once."""
    blocks = residual.split(ITEMS_PER_BLOCK)
    return torch.cat([nearest_codes(block, vectors) for block in blocks])


def pass_gradient(
    residual: Tensor, vectors: Tensor, codes: Tensor, mode: GradientMode, temperature: float
) -> Tensor:
    """The chosen vectors (B, D), with a gradient path to ``residual`` (gumbel: ``vectors`` too).

    Args:
        residual: (B, D), what the level quantizes.
        vectors: (K, D), the codebook.
        codes: (B,), the nearest codes.
        mode: straight_through, gumbel or rotation.
        temperature: Of the gumbel softmax, above 0.
    """
    chosen = vectors[codes].detach()
    if mode == "straight_through":
        carrier = residual
    elif mode == "rotation":
        carrier = _rotate(residual, chosen)
    else:
        carrier = _gumbel_mixture(residual, vectors, temperature)
    return chosen + (carrier - carrier.detach())


def _rotate(residual: Tensor, chosen: Tensor) -> Tensor:
    """Map residual onto chosen by a rotation and a rescaling, both held constant.

    Source: rotation trick (arXiv:2410.06424), Householder form. The published HiD-VAE code left
    the rescaling by |chosen| / |residual| out.
    """
    limits = torch.finfo(residual.dtype)
    target_norm = chosen.norm(dim=1, keepdim=True).clamp_min(limits.tiny)
    # An item on its own code (a cluster of one, a revived code) leaves a residual of 0 or of
    # rounding to the next level; the rescaling would multiply its gradient up to infinity.
    source_norm = residual.detach().norm(dim=1, keepdim=True)
    source_norm = torch.maximum(source_norm, limits.eps * target_norm)
    source, target = residual.detach() / source_norm, chosen / target_norm
    middle = F.normalize(source + target, dim=1)
    reflected = residual - 2 * (residual * middle).sum(dim=1, keepdim=True) * middle
    rotated = reflected + 2 * (residual * source).sum(dim=1, keepdim=True) * target
    return rotated * (target_norm / source_norm)


def _gumbel_mixture(residual: Tensor, vectors: Tensor, temperature: float) -> Tensor:
    """Softmax over negative distances with Gumbel noise, applied to the vectors (B, D).

    Source: Gumbel-softmax (arXiv:1611.01144), used as the backward pass of a hard choice.
    """
    logits = -torch.cdist(residual, vectors).square()
    noise = -torch.empty_like(logits).exponential_().clamp_min(1e-20).log()
    return F.softmax((logits + noise) / temperature, dim=1) @ vectors


@torch.no_grad()
def kmeans(
    points: Tensor, num_clusters: int, generator: torch.Generator, max_iterations: int = 25
) -> Tensor:
    """Lloyd's k-means, on at most 256 points per cluster (drawn); returns centroids (K, D).

    With fewer points than clusters, the surplus centroids are points with a little noise, so that
    all centroids differ. An emptied cluster takes the point that is worst served.

    Args:
        points: (N, D), N at least 1.
        num_clusters: K.
        generator: Source of the initial choice.
        max_iterations: Upper bound on Lloyd steps.
    """
    num_points = points.shape[0]
    order = torch.randperm(num_points, generator=generator).to(points.device)
    if num_points < num_clusters:
        extra = torch.randint(num_points, (num_clusters - num_points,), generator=generator)
        chosen = points[torch.cat([order, extra.to(points.device)])]
        noise = torch.randn(chosen.shape, generator=generator).to(points.device)
        return chosen + 1e-3 * points.std().nan_to_num(1.0).clamp_min(1e-3) * noise
    centroids = points[order[:num_clusters]].clone()
    if num_points > _POINTS_PER_CLUSTER * num_clusters:
        points = points[order[: _POINTS_PER_CLUSTER * num_clusters]]
    previous = None
    for _ in range(max_iterations):
        codes = nearest_codes_of_all(points, centroids)
        if previous is not None and torch.equal(codes, previous):
            break
        previous = codes
        counts = torch.bincount(codes, minlength=num_clusters)
        sums = torch.zeros_like(centroids).index_add_(0, codes, points)
        centroids = sums / counts.clamp_min(1).unsqueeze(1)
        empty = (counts == 0).nonzero().squeeze(1)
        if empty.numel():
            error = (points - centroids[codes]).square().sum(dim=1)
            centroids[empty] = points[error.topk(empty.numel()).indices]
    return centroids
