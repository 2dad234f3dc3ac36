from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to

from hidvae.config import GradientMode
from hidvae.tokenizer import codebook
from hidvae.tokenizer.codebook import Codebook, kmeans, nearest_codes, pass_gradient

MODES: tuple[GradientMode, ...] = get_args(GradientMode)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inertia(points: Tensor, centroids: Tensor) -> float:
    return float(torch.cdist(points, centroids).square().min(dim=1).values.sum())


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 9),
    size=st.integers(2, 20),
    dim=st.integers(1, 8),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 100),
)
def test_nearest_codes_are_the_nearest(
    batch: int, size: int, dim: int, scale: float, seed: int
) -> None:
    residual, vectors = scale * normal(batch, dim, seed=seed), normal(size, dim, seed=seed + 1)
    distance = torch.cdist(residual.double(), vectors.double())
    chosen = distance.gather(1, nearest_codes(residual, vectors).unsqueeze(1)).squeeze(1)
    tolerance = 1e-5 * float(residual.norm(dim=1).max() + vectors.norm(dim=1).max())
    assert (chosen <= distance.min(dim=1).values + tolerance).all()


def test_ties_go_to_the_lowest_code() -> None:
    vectors = torch.tensor([[9.0, 9.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert nearest_codes(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), vectors).tolist() == [1, 3]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("batch", [1, 6])
def test_what_leaves_a_level_is_exactly_the_code(mode: GradientMode, batch: int) -> None:
    residual, vectors = normal(batch, 5).requires_grad_(), normal(8, 5, seed=1)
    codes = nearest_codes(residual, vectors)
    passed = pass_gradient(residual, vectors, codes, mode, 0.2)
    assert torch.equal(passed, vectors[codes])
    assert passed.requires_grad


def gradient_of(mode: GradientMode, residual: Tensor, vectors: Tensor, upstream: Tensor) -> Tensor:
    residual = residual.clone().requires_grad_()
    codes = nearest_codes(residual.detach(), vectors)
    passed = pass_gradient(residual, vectors, codes, mode, 0.2)
    return torch.autograd.grad(passed, residual, upstream)[0]


def test_straight_through_is_the_identity_for_gradients() -> None:
    upstream = normal(6, 5, seed=2)
    assert torch.equal(
        gradient_of("straight_through", normal(6, 5), normal(8, 5, seed=1), upstream), upstream
    )


def test_rotation_is_the_rotation_trick_of_vector_quantize_pytorch() -> None:
    residual, vectors, upstream = normal(6, 5), normal(8, 5, seed=1), normal(6, 5, seed=2)
    source = residual.clone().requires_grad_()
    theirs = rotate_to(source, vectors[nearest_codes(residual, vectors)])
    (expected,) = torch.autograd.grad(theirs, source, upstream)
    found = gradient_of("rotation", residual, vectors, upstream)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_rotation_rescales_by_the_ratio_of_norms() -> None:
    """The published code left the rescaling out (bug B4)."""
    residual, vectors, upstream = normal(6, 5), normal(8, 5, seed=1), normal(6, 5, seed=2)
    chosen = vectors[nearest_codes(residual, vectors)]
    found = gradient_of("rotation", residual, vectors, upstream).norm(dim=1)
    ratio = chosen.norm(dim=1) / residual.norm(dim=1)
    torch.testing.assert_close(found, ratio * upstream.norm(dim=1))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", ["zero residual", "zero code", "opposite", "on its code"])
def test_degenerate_directions_give_finite_gradients(mode: GradientMode, where: str) -> None:
    vectors = torch.tensor([[0.3, -0.4], [5.0, 5.0]])
    residual = torch.zeros(1, 2)
    if where == "zero code":
        vectors[0], residual = 0.0, torch.tensor([[0.1, 0.0]])
    elif where == "opposite":
        vectors, residual = torch.tensor([[-0.3, 0.4]]), torch.tensor([[0.3, -0.4]])
    elif where == "on its code":
        residual = vectors[:1].clone()
    gradient = gradient_of(mode, residual, vectors, torch.ones(1, 2))
    assert gradient.isfinite().all()
    assert gradient.norm() < 1e8, "the square of it must stay finite in Adam"


def test_only_gumbel_gives_the_codes_a_gradient() -> None:
    residual = normal(6, 5)
    for mode in MODES:
        vectors = normal(8, 5, seed=1).requires_grad_()
        source = residual.clone().requires_grad_()
        passed = pass_gradient(source, vectors, nearest_codes(residual, vectors), mode, 0.2)
        gradient = torch.autograd.grad(passed.square().sum(), vectors, allow_unused=True)[0]
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) == (mode == "gumbel")


def test_gumbel_noise_follows_the_seed() -> None:
    def once(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return gradient_of("gumbel", normal(6, 5), normal(8, 5, seed=1), torch.ones(6, 5))

    assert torch.equal(once(0), once(0))
    assert not torch.equal(once(0), once(1))


@pytest.mark.parametrize("sim_vq", [False, True])
def test_set_vectors_then_vectors_gives_them_back(sim_vq: bool) -> None:
    codebook = Codebook(8, 5, sim_vq)
    if codebook.projection is not None:
        with torch.no_grad():
            codebook.projection.weight.copy_(normal(5, 5, seed=3))
    before, wanted = codebook.vectors().detach().clone(), normal(2, 5, seed=4)
    codebook.set_vectors(torch.tensor([6, 1]), wanted)
    after = codebook.vectors().detach()
    torch.testing.assert_close(after[[6, 1]], wanted, rtol=1e-4, atol=1e-4)
    others = [0, 2, 3, 4, 5, 7]
    assert torch.equal(after[others], before[others])


def test_sim_vq_learns_the_map_and_freezes_the_table() -> None:
    codebook = Codebook(8, 5, sim_vq=True)
    trainable = {name for name, p in codebook.named_parameters() if p.requires_grad}
    assert trainable == {"projection.weight"}
    table, before = codebook.table.detach().clone(), codebook.vectors().detach().clone()
    assert torch.equal(before, table), "the map starts as the identity"
    codebook.vectors()[0].sum().backward()
    with torch.no_grad():
        for parameter in codebook.parameters():
            if parameter.grad is not None:
                parameter -= parameter.grad
    moved = (codebook.vectors() - before).norm(dim=1)
    assert torch.equal(codebook.table, table)
    assert (moved > 0).all(), "one code's gradient moves all codes"


def planted(num_clusters: int, per_cluster: int, seed: int) -> tuple[Tensor, Tensor]:
    centers = 10 * normal(num_clusters, 6, seed=seed)
    noise = normal(num_clusters * per_cluster, 6, seed=seed + 1)
    return centers, centers.repeat_interleave(per_cluster, dim=0) + 0.1 * noise


def test_kmeans_finds_planted_clusters() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    centers, points = planted(4, 50, seed=0)
    found = kmeans(points, 16, torch.Generator().manual_seed(0))
    assert torch.cdist(found, centers).min(dim=1).values.max() < 0.5
    assert torch.cdist(centers, found).min(dim=1).values.max() < 0.5
    reference = cluster.KMeans(16, init="random", n_init=5, random_state=0).fit(points.numpy())
    assert inertia(points, found) < 1.5 * reference.inertia_


def test_kmeans_on_a_cloud_is_as_good_as_scikit_learns() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    points = normal(400, 6)
    reference = cluster.KMeans(32, init="random", n_init=1, random_state=0).fit(points.numpy())
    found = kmeans(points, 32, torch.Generator().manual_seed(0), max_iterations=100)
    assert inertia(points, found) == pytest.approx(reference.inertia_, rel=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_kmeans_leaves_no_cluster_empty(seed: int) -> None:
    points = torch.cat([normal(150, 3, seed=seed), 50 + 0.01 * normal(50, 3, seed=seed + 10)])
    points = torch.cat([points, points[:100]])  # equal rows make equal first centroids
    centroids = kmeans(points, 40, torch.Generator().manual_seed(seed))
    assert len(nearest_codes(points, centroids).unique()) == 40


def test_kmeans_follows_its_generator_alone() -> None:
    points = normal(100, 4)

    def once(seed: int) -> Tensor:
        return kmeans(points, 8, torch.Generator().manual_seed(seed))

    first = once(5)
    torch.manual_seed(123)
    assert torch.equal(once(5), first)
    assert not torch.equal(once(6), first)


def test_kmeans_learns_from_a_sample_of_many_points() -> None:
    """And serves those it never saw about as well as k-means on all of them would."""
    points = normal(20 * 256 * 4, 3)
    drawn = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))
    found = kmeans(points, 4, torch.Generator().manual_seed(0))
    elsewhere = points.clone()
    elsewhere[drawn[4 * 256 :]] += 100.0
    assert torch.equal(kmeans(elsewhere, 4, torch.Generator().manual_seed(0)), found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codebook, "_POINTS_PER_CLUSTER", len(points))
        learned_from_all = kmeans(points, 4, torch.Generator().manual_seed(0))
    assert inertia(points, found) < 1.02 * inertia(points, learned_from_all)


@pytest.mark.parametrize("num_points", [1, 3])
def test_kmeans_with_fewer_points_than_clusters(num_points: int) -> None:
    points = normal(num_points, 4)
    centroids = kmeans(points, 7, torch.Generator().manual_seed(0))
    assert centroids.shape == (7, 4)
    assert len(centroids.unique(dim=0)) == 7
    distance = torch.cdist(points, centroids)
    assert distance.min(dim=1).values.max() < 0.05, "every point is served"
    assert distance.min(dim=0).values.max() < 0.05, "no centroid is elsewhere"
