from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hidvae.tokenizer.autoencoder import Autoencoder


def items(num_items: int = 50, continuous: int = 6, categorical: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    numbers = 3 + 2 * torch.randn(num_items, continuous, generator=generator)
    flags = (torch.rand(num_items, categorical, generator=generator) < 0.4).float()
    return torch.cat([numbers, flags], dim=1)


def fitted(embeddings: Tensor, num_categorical: int, normalize: bool = True) -> Autoencoder:
    torch.manual_seed(0)
    autoencoder = Autoencoder(embeddings.shape[1], [8], 4, num_categorical, normalize)
    autoencoder.fit_scale(embeddings)
    return autoencoder


def silence_decoder(autoencoder: Autoencoder) -> None:
    """Make the decoder answer 0, which is the mean of every standardised input."""
    with torch.no_grad():
        autoencoder.decoder[-1].weight.zero_()  # type: ignore[operator]


def test_predicting_the_mean_costs_one() -> None:
    embeddings = items(categorical=0)
    autoencoder = fitted(embeddings, 0)
    silence_decoder(autoencoder)
    loss = autoencoder.reconstruction_loss(torch.ones(50, 4), embeddings)
    assert loss.item() == pytest.approx(1.0, rel=1e-5)


def test_scale_is_that_of_the_fitted_items_and_one_for_all_columns() -> None:
    embeddings = items(categorical=0)
    standard = fitted(embeddings, 0).standardize(embeddings)
    torch.testing.assert_close(standard.mean(dim=0), torch.zeros(6), atol=1e-5, rtol=0)
    assert standard.square().mean().item() == pytest.approx(1.0, rel=1e-5)
    spread = embeddings.std(dim=0)
    ratio = standard.std(dim=0) / spread
    torch.testing.assert_close(ratio, ratio[:1].expand(6))


def test_categorical_features_pay_cross_entropy() -> None:
    embeddings = items()
    autoencoder = fitted(embeddings, 3)
    latents = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    target, output = autoencoder.standardize(embeddings), autoencoder.decoder(latents)
    expected = F.mse_loss(output[:, :6], target[:, :6]) + F.binary_cross_entropy_with_logits(
        output[:, 6:], embeddings[:, 6:]
    )
    torch.testing.assert_close(autoencoder.reconstruction_loss(latents, embeddings), expected)
    silence_decoder(autoencoder)
    loss = autoencoder.reconstruction_loss(latents, embeddings)
    assert loss.item() == pytest.approx(1.0 + math.log(2), rel=1e-5)


def test_categorical_features_are_left_as_they_are() -> None:
    embeddings = items()
    assert torch.equal(fitted(embeddings, 3).standardize(embeddings)[:, 6:], embeddings[:, 6:])


def test_items_of_categories_alone() -> None:
    embeddings = items(continuous=0)
    autoencoder = fitted(embeddings, 3)
    assert torch.equal(autoencoder.standardize(embeddings), embeddings)
    silence_decoder(autoencoder)
    loss = autoencoder.reconstruction_loss(torch.ones(50, 4), embeddings)
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)


def test_equal_items_stay_finite() -> None:
    embeddings = torch.full((5, 6), 0.3)
    autoencoder = fitted(embeddings, 0)
    latents = autoencoder.encode(embeddings)
    assert latents.isfinite().all()
    assert autoencoder.reconstruction_loss(latents, embeddings).isfinite()


@pytest.mark.parametrize("normalize", [True, False])
def test_latents_have_unit_length_if_asked(normalize: bool) -> None:
    embeddings = items(categorical=0)
    norms = fitted(embeddings, 0, normalize).encode(embeddings).norm(dim=1)
    is_unit = bool(torch.allclose(norms, torch.ones(50), atol=1e-5))
    assert is_unit == normalize


def test_decoder_mirrors_the_encoder() -> None:
    autoencoder = Autoencoder(10, [8, 6], 4)

    def widths(name: str) -> list[tuple[int, ...]]:
        return [tuple(p.shape) for key, p in autoencoder.named_parameters() if key.startswith(name)]

    assert widths("encoder") == [(8, 10), (6, 8), (4, 6)]
    assert widths("decoder") == [(6, 4), (8, 6), (10, 8)]


def test_scale_is_kept_with_the_weights() -> None:
    embeddings = items(categorical=0)
    autoencoder, other = fitted(embeddings, 0), Autoencoder(6, [8], 4)
    other.load_state_dict(autoencoder.state_dict())
    assert torch.equal(other.encode(embeddings), autoencoder.encode(embeddings))
