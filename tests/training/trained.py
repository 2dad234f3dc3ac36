"""Every model that is trained, in seconds, and how to stop its training."""

from __future__ import annotations

import csv
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.stages import train_retriever, train_sasrec, train_tokenizer

from hidvae.config import RetrieverConfig, RunConfig, SasRecConfig, TokenizerConfig
from hidvae.store.artifacts import StageFolder, read_stage
from hidvae.training import trainer as trainer_module

Weights = dict[str, torch.Tensor]

RUN = RunConfig(device="cpu", checkpoint_every_seconds=0)
"""A checkpoint after every step."""
TOKENIZER = TokenizerConfig(
    codebook_size=16,
    hidden_dims=(16,),
    latent_dim=8,
    epochs=3,
    batch_size=32,
    held_out_fraction=0.1,
)
"""Three levels of 16 codes, 3 epochs of 3 steps."""
RETRIEVER = RetrieverConfig(
    architecture="item_decoder",
    weight_average=0.0,
    dim=8,
    num_layers=1,
    num_heads=2,
    dropout=0.2,
    max_history=6,
    epochs=3,
    validate_every=1,
    patience=0,
    batch_tokens=400,
    warmup_steps=2,
    learning_rate=5e-3,
    order_noise=1.5,
)
SASREC = SasRecConfig(dim=16, epochs=3, learning_rate=1e-2)
SETTINGS: dict[str, Any] = {
    "tokenizer": TOKENIZER,
    "retriever": RETRIEVER,
    "sasrec": SASREC,
    "sasrec_content": SASREC,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "tokenizer": ("tokenizer", {}),
    "tokenizer, gumbel": (
        "tokenizer",
        {"gradient_mode": "gumbel", "dropout": 0.4},
    ),
    "tokenizer, sim_vq": (
        "tokenizer",
        {"gradient_mode": "straight_through", "sim_vq": True},
    ),
    "item_decoder": ("retriever", {}),
    "item_decoder, averaged": ("retriever", {"weight_average": 0.9}),
    "item_softmax": ("retriever", {"architecture": "item_softmax"}),
    "item_softmax, negatives": ("retriever", {"architecture": "item_softmax", "num_negatives": 8}),
    "encoder_decoder": (
        "retriever",
        {"architecture": "encoder_decoder", "batch_tokens": 800, "epochs": 2},
    ),
    "sasrec": ("sasrec", {}),
    "sasrec_content": ("sasrec_content", {}),
}
"""By name: the stage folder, and settings that differ from those above."""
RETRIEVERS = [case for case, (stage, _) in CASES.items() if stage == "retriever"]
Fit = Callable[..., StageFolder]


def fit(run: Path, output: Path, case: str, config: RunConfig = RUN, **changes: Any) -> StageFolder:
    """Train one of ``CASES`` on the folders of a run; writes ``output/STAGE``."""
    stage, own = CASES[case]
    folders = {
        name: read_stage(run / name, produced_by="hidvae")
        for name in ("dataset", "embeddings", "tags", "semantic_ids")
    }
    dataset, embeddings, tags, ids = folders.values()
    settings = replace(SETTINGS[stage], **{**own, **changes})
    if stage == "tokenizer":
        return train_tokenizer(settings, config, dataset, embeddings, tags, output / stage)
    if stage.startswith("sasrec"):
        content = embeddings if stage == "sasrec_content" else None
        with short_loop():
            return train_sasrec(settings, config, dataset, output / stage, content)
    return train_retriever(settings, config, dataset, embeddings, tags, ids, output / stage)


@contextmanager
def short_loop(**changes: Any) -> Iterator[None]:
    """Inside, SASRec is of one layer and in small batches, and validated every epoch."""
    loop = {"num_layers": 1, "patience": 0, "validate_every": 1, "batch_tokens": 400}
    loop |= {"max_history": 8, "dropout": 0.1}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**loop, "warmup_steps": 5, "weight_average": 0.9, **changes}.items():
            patch.setattr(SasRecConfig, name, value)
        yield


class Stopped(Exception):
    """The power went off."""


@contextmanager
def stopped_after(saves: int) -> Iterator[None]:
    """Inside, the power goes off when that many checkpoints are written."""
    save, done = trainer_module.save_checkpoint, []

    def saving(*arguments: Any, **options: Any) -> None:
        save(*arguments, **options)
        done.append(1)
        if len(done) == saves:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module, "save_checkpoint", saving)
        with pytest.raises(Stopped):
            yield


def weights_of(folder: StageFolder) -> Weights:
    return load_file(folder.path / "model.safetensors")


def log_of(folder: StageFolder) -> list[dict[str, str]]:
    """Rows of the log, without the wall time."""
    with (folder.path / "log.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_same(found: StageFolder, wanted: StageFolder) -> None:
    """The same weights, log and fingerprint, bit for bit; nothing else is left beside them."""
    ours, theirs = weights_of(found), weights_of(wanted)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
    assert log_of(found) == log_of(wanted)
    assert found.fingerprint == wanted.fingerprint
    assert not list(found.path.parent.glob(".*checkpoint")), "it is gone with its purpose"


def differ(first: StageFolder, second: StageFolder) -> bool:
    ours, theirs = weights_of(first), weights_of(second)
    return any(not torch.equal(ours[name], theirs[name]) for name in ours)


def main(run: str, output: str, case: str, saves: str) -> None:
    """Train, and die by SIGKILL when that many checkpoints are written."""
    save, done = trainer_module.save_checkpoint, []

    def save_then_die(*arguments: Any, **options: Any) -> None:
        save(*arguments, **options)
        done.append(1)
        if len(done) == int(saves):
            os.kill(os.getpid(), signal.SIGKILL)

    trainer_module.save_checkpoint = save_then_die
    torch.set_num_threads(1)
    fit(Path(run), Path(output), case)


if __name__ == "__main__":
    main(*sys.argv[1:])
