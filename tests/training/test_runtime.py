from __future__ import annotations

import pytest
import torch

from hidvae.config import RunConfig
from hidvae.errors import ConfigError
from hidvae.training.runtime import epoch_generator, seed_everything, start_fabric


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"device": "toaster"}, "'toaster'"),
        ({"device": "cpu", "precision": "7-bit"}, "'7-bit'"),
    ],
)
def test_a_device_or_precision_that_is_unknown_is_one_line(
    changes: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigError, match=named) as error:
        start_fabric(RunConfig(**changes))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert "try device = 'cpu'" in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_here_is_one_line() -> None:
    with pytest.raises(ConfigError, match="'cuda'") as error:
        start_fabric(RunConfig(device="cuda"))
    assert "\n" not in str(error.value)


def test_the_device_is_the_one_asked_for() -> None:
    assert start_fabric(RunConfig(device="cpu")).device.type == "cpu"


def test_seeds_reproduce_random_numbers() -> None:
    def numbers(seed: int) -> list[float]:
        seed_everything(seed)
        return torch.rand(3).tolist()

    first = numbers(5)
    assert numbers(5) == first
    assert numbers(6) != first


def test_an_epochs_generator_depends_on_seed_and_epoch_alone() -> None:
    def numbers(seed: int, epoch: int) -> list[int]:
        return torch.randperm(50, generator=epoch_generator(seed, epoch)).tolist()

    first = numbers(1, 2)
    torch.manual_seed(0)
    assert numbers(1, 2) == first
    assert numbers(1, 3) != first
    assert numbers(2, 2) != first
