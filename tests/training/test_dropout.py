from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hidvae.training.dropout import Dropout

SIZE = 200_000


def dropped(rate: float, *shape: int, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return Dropout(rate).train()(torch.ones(*shape))


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_rate_is_kept_to_a_256th_and_the_mean_too(rate: float) -> None:
    out = dropped(rate, SIZE)
    deviation = math.sqrt(rate * (1 - rate) / SIZE)
    share = (out == 0).float().mean().item()
    assert abs(share - rate) < 0.5 / 256 + 4 * deviation
    rounded = round(rate * 256) / 256
    assert abs(share - rounded) < 4 * deviation
    assert abs(out.mean().item() - 1) < 4 * deviation / (1 - rounded)
    assert out.unique().tolist() == pytest.approx([0, 1 / (1 - rounded)])


def test_every_place_of_a_random_word_drops_alike() -> None:
    """Eight elements share 64 random bits; none of them may be a lesser one."""
    share = (dropped(0.5, SIZE // 8, 8) == 0).float().mean(dim=0)
    assert (share - 0.5).abs().max() < 4 * math.sqrt(0.25 / (SIZE // 8))


def test_neighbours_drop_independently() -> None:
    mask = (dropped(0.5, SIZE // 8, 8) == 0).float()
    correlation = torch.corrcoef(mask.T) - torch.eye(8)
    assert correlation.abs().max() < 5 / math.sqrt(SIZE // 8)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4), (0, 4)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    out = dropped(0.5, *shape) if shape else dropped(0.5, 1).reshape(())
    assert out.shape == shape
    assert Dropout(0.5).train()(torch.ones(shape)).shape == shape


def test_of_a_view_that_is_not_contiguous() -> None:
    x = torch.arange(1.0, 201.0).reshape(10, 20).T
    torch.manual_seed(0)
    out = Dropout(0.25).train()(x)
    kept = out != 0
    torch.testing.assert_close(out[kept], x[kept] / 0.75)
    assert 0 < kept.sum() < 200


def test_evaluation_and_rate_zero_are_the_identity() -> None:
    x = torch.randn(50)
    assert Dropout(0.9).eval()(x) is x
    assert Dropout(0.0).train()(x) is x
    assert torch.equal(Dropout(0.001).train()(x), x), "below half a 256th it rounds to 0"


def test_rate_one_drops_everything_without_nan() -> None:
    assert torch.equal(dropped(1.0, 20), torch.zeros(20))


def test_seeds_reproduce_the_mask() -> None:
    assert torch.equal(dropped(0.5, 100, seed=1), dropped(0.5, 100, seed=1))
    assert not torch.equal(dropped(0.5, 100, seed=1), dropped(0.5, 100, seed=2))
    torch.manual_seed(1)
    layer = Dropout(0.5).train()
    assert not torch.equal(layer(torch.ones(100)), layer(torch.ones(100)))


def test_gradient_passes_where_the_value_did() -> None:
    x = torch.randn(100, requires_grad=True)
    torch.manual_seed(0)
    out = Dropout(0.4).train()(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(out, x * gradient)
    assert (gradient == 0).any() and (gradient > 1).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    assert Dropout(0.5).train()(torch.ones(9, dtype=dtype)).dtype == dtype
