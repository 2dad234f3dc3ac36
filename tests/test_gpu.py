"""On a CUDA device: the CPU's results, the same bits from the same seed, and every precision."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.retriever.tiny import CASES, histories, make_retriever, ranked
from torch import Tensor

from hidvae.config import load_config
from hidvae.ranking.recommender import Recommender
from hidvae.retriever.interface import HistoryBatch
from hidvae.run.run import Run
from hidvae.run.stages import STAGES
from hidvae.store.artifacts import StageFolder, read_json
from hidvae.training.prefetch import on_device
from training.trained import stopped_after

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
DEVICE = "cuda"
TRAINED = ("tokenizer", "retriever")
Folders = dict[str, StageFolder]
Train = Callable[..., Folders]


@pytest.fixture(scope="module")
def train_on_gpu(tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Run the tiny demo up to the retriever on the device, with further settings."""

    def call(*settings: str, output: Path | None = None) -> Folders:
        config = load_config([], [*tiny_settings, f"RunConfig.device={DEVICE}", *settings])
        output = output or tmp_path_factory.mktemp("gpu") / "run"
        return Run(output).make(config, until="train")

    return call


@pytest.fixture(scope="module")
def gpu_run(tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages on the device, with the trained baselines."""
    output = tmp_path_factory.mktemp("gpu") / "whole"
    settings = [f"RunConfig.device={DEVICE}", "EvaluationConfig.baselines=('sasrec', 'tiger')"]
    Run(output).make(load_config([], [*tiny_settings, *settings]))
    return output


def weights(folders: Folders) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value
        for name in TRAINED
        for key, value in load_file(folders[name].path / "model.safetensors").items()
    }


def losses(folders: Folders, name: str) -> list[float]:
    column = {"tokenizer": "reconstruction", "retriever": "loss"}[name]
    with (folders[name].path / "log.csv").open(newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file)]


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_every_retriever_has_the_cpus_loss_and_search(case: str) -> None:
    settings: dict[str, Any] = CASES[case]
    here, there = make_retriever(**settings), make_retriever(**settings).to(DEVICE)
    items, users = histories()
    batch = HistoryBatch(items, torch.where(items >= 0, (items * 7 + 3) % 32, -1), users)
    if settings.get("architecture") == "encoder_decoder":  # one target per row
        last = (items >= 0).cumsum(1).argmax(1, keepdim=True)
        batch.targets.masked_fill_(torch.arange(items.shape[1]) != last, -1)
    loss = there.loss(HistoryBatch(*(part.to(DEVICE) for part in batch)), 0.1)
    torch.testing.assert_close(loss.cpu(), here.loss(batch, 0.1), rtol=1e-4, atol=1e-5)
    wanted = ranked(here, items, users, 8)
    found = ranked(there, items.to(DEVICE), users.to(DEVICE), 8)
    torch.testing.assert_close(found.scores.cpu(), wanted.scores, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.items.cpu(), wanted.items)


def test_batches_copied_ahead_are_the_same_while_the_device_is_busy() -> None:
    generator, device = torch.Generator().manual_seed(0), torch.device(DEVICE)
    batches = [
        HistoryBatch(*(torch.randint(1 << 30, shape, generator=generator) for shape in shapes))
        for shapes in [((700, 300), (700, 300), (700,)), ((5, 2), (5, 2), (5,))] * 10
    ]
    weight, arrived = torch.randn(4096, 4096, device=device), []
    for batch, number in on_device(((batch, n) for n, batch in enumerate(batches)), device):
        for _ in range(5):  # the copy of the next batch is over long before this
            weight = (weight @ weight).tanh()
        arrived.append((number, HistoryBatch(*(part.clone() for part in batch))))
        del batch  # so that its memory could be taken before the step has read it
    assert [number for number, _ in arrived] == list(range(len(batches)))
    for (_, found), wanted in zip(arrived, batches, strict=True):
        assert all(torch.equal(f.cpu(), w) for f, w in zip(found, wanted, strict=True))


def test_a_whole_run_with_trained_baselines(gpu_run: Path) -> None:
    assert all((gpu_run / stage.name / "manifest.json").is_file() for stage in STAGES)
    assert torch.cuda.get_device_name() in read_json(gpu_run / "retriever/manifest.json")["machine"]
    metrics = read_json(gpu_run / "evaluation" / "metrics.json")
    assert set(metrics["baselines"]) == {"sasrec", "tiger"}
    # On the CPU 0.59, with popularity 0.115; a random guess finds 10 of 120 items.
    assert metrics["test"]["recall@10"] > 0.45


def test_a_run_made_here_recommends_the_same_on_the_cpu(gpu_run: Path) -> None:
    there, here = (Recommender.load(gpu_run, device=device) for device in (DEVICE, "cpu"))
    history = [here.catalogue.item_ids[index] for index in (3, 50, 17)]
    found, wanted = (each.recommend(history, 10) for each in (there, here))
    assert [each.item_id for each in found] == [each.item_id for each in wanted]
    assert [each.score for each in found] == pytest.approx(
        [each.score for each in wanted], rel=1e-4
    )


def test_the_same_seed_gives_the_same_bits(train_on_gpu: Train) -> None:
    assert_equal(weights(train_on_gpu()), weights(train_on_gpu()))


def test_a_stopped_training_goes_on_to_the_same_bits(train_on_gpu: Train, tmp_path: Path) -> None:
    every_step = "RunConfig.checkpoint_every_seconds=0"
    with stopped_after(3):
        train_on_gpu(every_step, output=tmp_path / "run")
    resumed = train_on_gpu(every_step, output=tmp_path / "run")
    assert_equal(weights(resumed), weights(train_on_gpu()))


def test_bfloat16_learns_what_float32_learns(train_on_gpu: Train) -> None:
    single, half = train_on_gpu(), train_on_gpu("RunConfig.precision=bf16-mixed")
    for name in TRAINED:
        assert losses(half, name) == pytest.approx(losses(single, name), rel=0.03)
        assert losses(half, name) != losses(single, name), "precision had no effect"
