from __future__ import annotations

import os
from typing import Literal

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from hidvae.config import RunConfig
from hidvae.errors import ConfigError
from hidvae.training.processes import alone
from hidvae.training.runtime import (
    device_of,
    epoch_generator,
    flags_restored,
    make_reproducible,
    start_fabric,
)


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


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_process_shards_nothing_and_says_so(
    strategy: Literal["ddp", "fsdp"], caplog: pytest.LogCaptureFixture
) -> None:
    run, model = RunConfig(device="cpu", strategy=strategy), nn.Sequential(nn.Linear(2, 2))
    start_fabric(run)
    with alone():  # as in a stage that the first of several processes makes
        start_fabric(run, layer=nn.Linear)
    assert not caplog.messages, "nothing is asked to be sharded"
    start_fabric(run, layer=nn.Linear).setup_module(model)
    assert not any(isinstance(weight, DTensor) for weight in model.parameters())
    if strategy == "fsdp":
        (line,) = caplog.messages
        assert "there is one process" in line and "torchrun" in line
    else:
        assert not caplog.messages


def test_seeds_reproduce_random_numbers() -> None:
    def numbers(seed: int) -> list[float]:
        make_reproducible(seed)
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


def test_several_threads_add_up_indexed_gradients_in_a_fixed_order() -> None:
    make_reproducible(0)
    rows = torch.randint(64, (4096,))  # many repeats, enough numbers for two threads
    weights = torch.randn(4096, 64)
    table = torch.randn(64, 64, requires_grad=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gradients = []
        for _ in range(20):
            (table[rows] * weights).sum().backward()
            assert table.grad is not None
            gradients.append(table.grad.clone())
            table.grad = None
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


@pytest.mark.parametrize("name", ["cpu", "auto"])
def test_a_trained_model_goes_where_fabric_would_put_it(name: str) -> None:
    assert device_of(name).type == start_fabric(RunConfig(device=name)).device.type


def test_an_unknown_device_of_a_trained_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="RunConfig.device"):
        device_of("abacus")


def test_a_training_leaves_the_flags_of_torch_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    for was_on in (False, True):
        torch.use_deterministic_algorithms(was_on)
        with flags_restored():
            make_reproducible(0)
            assert torch.are_deterministic_algorithms_enabled()
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.are_deterministic_algorithms_enabled() == was_on
    torch.use_deterministic_algorithms(False)
