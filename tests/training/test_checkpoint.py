from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hidvae.config import RunConfig
from hidvae.errors import ArtifactError
from hidvae.training.checkpoint import (
    load_checkpoint,
    restore,
    save_checkpoint,
    training_identity,
)


class Layer:
    """A layer whose every step uses momentum and random numbers."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1, fused=True)

    def step(self) -> None:
        self.model(torch.randn(8, 4)).square().sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def save(self, path: Path, identity: str = "me") -> None:
        save_checkpoint(
            path,
            identity=identity,
            state={"step": 7, "loss": 0.1 + 0.2, "rows": [{"a": None}]},
            model=self.model,
            optimizer=self.optimizer,
            extra={"order": torch.tensor([3, 1, 2])},
        )


def test_restored_it_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    first = Layer(0)
    for _ in range(3):
        first.step()
    first.save(tmp_path / "c")
    for _ in range(3):
        first.step()

    second = Layer(1)
    second.step()  # what it was before does not matter
    checkpoint = load_checkpoint(tmp_path / "c", identity="me")
    assert checkpoint is not None
    restore(checkpoint, second.model, second.optimizer)
    for _ in range(3):
        second.step()
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    slots = first.optimizer.state_dict()["state"]
    for index, expected in slots.items():
        found = second.optimizer.state_dict()["state"][index]
        assert expected.keys() == found.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_state_and_extra_tensors_come_back_exactly(tmp_path: Path) -> None:
    Layer(0).save(tmp_path / "c")
    checkpoint = load_checkpoint(tmp_path / "c", identity="me")
    assert checkpoint is not None
    assert checkpoint.state == {"step": 7, "loss": 0.1 + 0.2, "rows": [{"a": None}]}
    assert checkpoint.group("extra").keys() == {"order"}
    assert checkpoint.group("extra")["order"].tolist() == [3, 1, 2]
    assert checkpoint.group("optimizer") == {}, "no step was taken yet"


def test_learning_rate_comes_from_the_config_not_from_the_checkpoint(tmp_path: Path) -> None:
    first, second = Layer(0), Layer(1)
    first.step()
    first.save(tmp_path / "c")
    second.optimizer.param_groups[0]["lr"] = 0.5
    checkpoint = load_checkpoint(tmp_path / "c", identity="me")
    assert checkpoint is not None
    restore(checkpoint, second.model, second.optimizer)
    assert second.optimizer.param_groups[0]["lr"] == 0.5


def test_there_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "c", identity="me") is None


def test_that_of_another_training_is_none(tmp_path: Path) -> None:
    Layer(0).save(tmp_path / "c")
    assert load_checkpoint(tmp_path / "c", identity="you") is None


def test_a_newer_one_takes_the_place_of_the_older(tmp_path: Path) -> None:
    layer = Layer(0)
    layer.save(tmp_path / "deep" / "c")
    layer.step()
    layer.save(tmp_path / "deep" / "c")
    checkpoint = load_checkpoint(tmp_path / "deep" / "c", identity="me")
    assert checkpoint is not None
    assert torch.equal(checkpoint.group("model")["0.weight"], layer.model[0].weight)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["c"]


def test_a_full_disk_is_one_line_and_keeps_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Layer(0)
    layer.save(tmp_path / "c")
    before = (tmp_path / "c").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    layer.step()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="No space left on device; free some space") as error:
        layer.save(tmp_path / "c")
    assert "\n" not in str(error.value)
    assert (tmp_path / "c").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="could not write the checkpoint"):
        Layer(0).save(tmp_path / "file" / "c")


def no_metadata(path: Path) -> None:
    save_file({"a": torch.zeros(1)}, path)


def no_state(path: Path) -> None:
    save_file({"a": torch.zeros(1)}, path, {"identity": "2me"})


def state_cut_off(path: Path) -> None:
    save_file({"a": torch.zeros(1)}, path, {"identity": "2me", "state": '{"step": '})


def truncated(path: Path) -> None:
    Layer(0).save(path)
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [no_metadata, no_state, state_cut_off, truncated])
def test_a_damaged_one_is_one_line(damage: object, tmp_path: Path) -> None:
    assert callable(damage)
    damage(tmp_path / "c")
    with pytest.raises(ArtifactError, match="c: the checkpoint is damaged") as error:
        load_checkpoint(tmp_path / "c", identity="me")
    assert "\n" not in str(error.value)


def test_random_numbers_go_on(tmp_path: Path) -> None:
    layer = Layer(0)
    layer.save(tmp_path / "c")
    expected: Tensor = torch.rand(3)
    torch.manual_seed(99)
    checkpoint = load_checkpoint(tmp_path / "c", identity="me")
    assert checkpoint is not None
    restore(checkpoint, layer.model, layer.optimizer)
    assert torch.equal(torch.rand(3), expected)


def test_identity_is_of_all_that_makes_the_result() -> None:
    settings, inputs, run = {"lr": 0.1, "dim": 3}, {"embeddings": "a"}, RunConfig()
    elsewhere = RunConfig(strategy="fsdp", checkpoint_every_seconds=1, loggers=("tensorboard",))
    same = training_identity({"dim": 3, "lr": 0.1}, inputs, elsewhere)
    assert training_identity(settings, inputs, run) == same
    others = [
        training_identity({**settings, "lr": 0.2}, inputs, run),
        training_identity(settings, {"embeddings": "b"}, run),
        training_identity(settings, inputs, RunConfig(seed=1)),
        training_identity(settings, inputs, RunConfig(precision="bf16-mixed")),
    ]
    assert len({same, *others}) == 5
